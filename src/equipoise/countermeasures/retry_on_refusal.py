"""`RetryOnRefusal`: when the model refuses a safe prompt, ask again without what may have made it refuse.

A defence that blocks what it detects would finish the attacker's job, so this one asks again: about the purified
picture, or about the model's own caption of it. What the model refuses for its words is never asked again, and a
picture that is not deemed perturbed keeps its refusal where a detector is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, Self

import torch
from PIL import Image
from torch import Generator, Tensor

from equipoise.countermeasures.base import Countermeasure, apply_transform, with_pictures
from equipoise.countermeasures.detection import GREY, PerturbationDetector
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.models.encoded_prompt import pictures as pictures_of
from equipoise.transforms.base import Transform
from equipoise.types import Exchange, Judge, Message, Prompt

BY: Final = "recovery"
"""Who spoke last when a reply was recovered."""
CAPTION: Final = "Describe what is in this picture."


class PromptJudge(Protocol):
    """Says whether the words of prompts are safe."""

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[bool | None]:
        """One answer for each prompt: safe, not safe, or None where that cannot be told, which counts as not safe."""
        ...


@dataclass(frozen=True)
class WithoutPicture:
    """A prompt is safe if the model does not refuse it with a grey picture in place of each of its own.

    The model's own alignment decides, so nothing is recovered that its words alone make the model refuse.
    """

    model: OpenModel
    """Who is asked."""
    judge: Judge
    """Who tells a refusal."""

    def __call__(self, prompts: Sequence[Prompt]) -> list[bool | None]:
        """Ask about grey pictures."""
        grey = [
            with_pictures(prompt, [Image.new("RGB", picture.size, GREY) for picture in pictures_of(prompt)])
            for prompt in prompts
        ]
        verdicts = self.judge(self.model.generate(grey, max_new_tokens=32))
        return [None if verdict.refused is None else not verdict.refused for verdict in verdicts]


class RetryOnRefusal(Countermeasure):
    """Asks again where the model refused a prompt that is judged safe; the trail of the reply says what happened.

    Args:
        model: who is defended.
        purifier: what a picture goes through before it is asked about again; None asks about the model's caption of it.
        spec: how a user writes it.
        seed: of the purifier's chance.
        safe: says which prompts may be asked again; None means `WithoutPicture`.
        detector: scores pictures; only those above `threshold` are asked about again. None asks about all.
        threshold: see `judges.thresholds.calibrate`.
        judge: who tells a refusal; None means `PhraseJudge()`.
    """

    def __init__(
        self,
        model: OpenModel,
        purifier: Transform | None,
        spec: str,
        *,
        seed: int = 0,
        safe: PromptJudge | None = None,
        detector: PerturbationDetector | None = None,
        threshold: float = 0.0,
        judge: Judge | None = None,
    ) -> None:
        super().__init__(model, spec, seed=seed)
        self.purifier = purifier
        self.detector = detector
        self.threshold = threshold
        self._judge = judge or PhraseJudge()
        self._given = safe

    @property
    def draws(self) -> bool:
        """Whether the purifier or the detector does."""
        return self.detector is not None or (self.purifier is not None and self.purifier.is_random)

    def sample_randomness(self, random: Generator) -> Self:
        """The defended model with all chance drawn, that of its detector and of whom it asks about safety too."""
        drawn = super().sample_randomness(random)
        if drawn is not self and self.detector is not None:
            asked = drawn.model if self.detector.model is self.model else self.detector.model.sample_randomness(random)
            drawn.detector = replace(self.detector, model=asked, seed=drawn._draw or 0)
        return drawn

    @property
    def _safe(self) -> PromptJudge:
        return WithoutPicture(self.model, self._judge) if self._given is None else self._given

    def describe(self) -> dict[str, Any]:
        """How it asks again, and when."""
        return {
            "countermeasure": "recovery",
            "by": "caption" if self.purifier is None else self.purifier.describe(),
            "safe": type(self._safe).__name__,
            "detector": None if self.detector is None else self.detector.describe() | {"threshold": self.threshold},
            "seed": self.seed,
        }

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The model's replies; where it refused and may be asked again, the second reply if that does not refuse."""
        exchanges = self.model.generate(prompts, max_new_tokens=max_new_tokens)
        refused = [
            place
            for place, verdict in enumerate(self._judge(exchanges))
            if verdict.refused and pictures_of(prompts[place])
        ]
        for place in refused:
            exchanges[place] = _noted(exchanges[place], f"refused at first: {exchanges[place].reply}")
        again = self._allowed(prompts, exchanges, refused)
        if not again:
            return exchanges
        seconds = self._ask_again([prompts[place] for place in again], max_new_tokens)
        for place, second, verdict in zip(again, seconds, self._judge(seconds), strict=True):
            first = exchanges[place]
            if verdict.refused is False and not verdict.degenerate:
                recovered = replace(second, prompt=prompts[place], by=BY, trail=(*first.trail, *second.trail))
                exchanges[place] = _noted(recovered, f"asked again {self._how}: answered")
            else:
                exchanges[place] = _noted(first, f"asked again {self._how}: not answered")
        return exchanges

    @property
    def _how(self) -> str:
        return "about a caption" if self.purifier is None else f"about the picture after {self.spec}"

    def _allowed(self, prompts: Sequence[Prompt], exchanges: list[Exchange], refused: list[int]) -> list[int]:
        """Of the refused prompts those that may be asked again; the others' trails say why not."""
        safe = self._safe([prompts[place] for place in refused]) if refused else []
        allowed = []
        for place, told in zip(refused, safe, strict=True):
            if not told:
                why = "could not be judged" if told is None else "is not judged safe"
                exchanges[place] = _noted(exchanges[place], f"not asked again: the prompt {why} without its picture")
            elif (objection := self._objection(prompts[place])) is not None:
                exchanges[place] = _noted(exchanges[place], f"not asked again: {objection}")
            else:
                allowed.append(place)
        return allowed

    def _objection(self, prompt: Prompt) -> str | None:
        """Why the pictures of a safe prompt may not be asked about again; None where they may."""
        if self.detector is None:
            return None
        score = max(self.detector(each, [prompt.text], system=prompt.system).value for each in pictures_of(prompt))
        if score > self.threshold:
            return None
        return f"the picture is not deemed perturbed ({score:.1f} <= {self.threshold:.1f})"

    def _ask_again(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Exchange]:
        if self.purifier is not None:
            pure = [apply_transform(self.purifier, prompt, self.randomness(prompt), self.device) for prompt in prompts]
            return self.model.generate(pure, max_new_tokens=max_new_tokens)
        described = [replace(prompt, messages=(_caption_message(prompt),)) for prompt in prompts]
        captions = self.model.generate(described, max_new_tokens=max_new_tokens)
        # A caption that is a refusal tells nothing; the question then goes out alone and most likely fails.
        told = [_told(prompt, caption.reply) for prompt, caption in zip(prompts, captions, strict=True)]
        return self.model.generate(told, max_new_tokens=max_new_tokens)

    def log_prob(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """The mean over all ways that must give the reply: as it is, purified, and as the detector changes it.

        A refusal only stands if the model refuses the picture *and* refuses again (or the detector lets it pass), so an
        attack on this surrogate is one on model, recovery and detector together. It is not the probability of a reply.
        """
        found = [
            model.log_prob(seen, prompts, replies, end=end, question_shift=question_shift)
            for model, seen in self._ways(pixels)
        ]
        return ReplyLogProbs(torch.stack([each.tokens for each in found]).mean(0), found[0].mask)

    def loss_and_grad(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The mean over the same ways as in `log_prob`, one in memory at a time."""
        leaf = pixels.detach().requires_grad_(True)
        with torch.enable_grad():
            ways = self._ways(leaf)
        wanted = question_shift is not None and question_shift.requires_grad
        shift = None if question_shift is None else question_shift.detach().requires_grad_(wanted)
        losses, gradient = torch.zeros(len(prompts)).to(pixels), torch.zeros_like(pixels)
        for model, seen in ways:
            found, slope = model.loss_and_grad(seen.detach(), prompts, replies, end=end, question_shift=shift)
            losses += found.to(losses) / len(ways)
            gradient += torch.autograd.grad(seen, leaf, slope.to(seen))[0] / len(ways)
        if question_shift is not None and shift is not None and shift.grad is not None:
            own, known = shift.grad / len(ways), question_shift.grad
            question_shift.grad = own if known is None else known + own
        return losses, gradient

    def _ways(self, pixels: Tensor) -> list[tuple[OpenModel, Tensor]]:
        """Who must refuse which pixels for a refusal to stand."""
        ways = [pixels * 1]
        if self.purifier is not None:
            ways.append(self.purifier(pixels, self.look(0)))
        if self.detector is not None:
            ways += [change(pixels, self.look(1 + i)) for i, change in enumerate(self.detector.changes)]
        return [(self.model, each) for each in ways]


def _noted(exchange: Exchange, line: str) -> Exchange:
    return replace(exchange, trail=(*exchange.trail, line))


def _caption_message(prompt: Prompt) -> Message:
    return Message("user", CAPTION, pictures_of(prompt))


def _told(prompt: Prompt, caption: str) -> Prompt:
    """The question with words in place of its pictures, which are grey."""
    grey = [Image.new("RGB", picture.size, GREY) for picture in pictures_of(prompt)]
    blind = with_pictures(prompt, grey)
    last = blind.messages[-1]
    text = f"A picture shows: {caption}\n{last.text}"
    return replace(blind, messages=(*blind.messages[:-1], replace(last, text=text)))
