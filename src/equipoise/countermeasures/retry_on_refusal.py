"""`RetryOnRefusal`: when the model refuses a safe prompt, ask again without what may have caused the refusal.

Blocking a detected perturbation would finish the attacker's job, as the user gets no answer either way. So this defence
asks again: about the purified picture, or about the model's own caption of it. A prompt whose words alone are refused
is never asked again, and with a detector neither is a picture that does not score as perturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, Self

from PIL import Image
from torch import Generator, Tensor

from equipoise.countermeasures.base import Countermeasure, apply_transform
from equipoise.countermeasures.detection import GREY, PerturbationDetector
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel
from equipoise.transforms.base import Transform
from equipoise.types import Exchange, Judge, Message, Prompt

BY: Final = "recovery"
"""`Exchange.by` of a recovered reply."""
CAPTION: Final = "Describe what is in this picture."
"""The request for a caption."""


class PromptJudge(Protocol):
    """Decides whether the words of prompts are safe."""

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[bool | None]:
        """Safe, not safe, or None (undecided, which counts as not safe), for each prompt."""
        ...


@dataclass(frozen=True)
class WithoutPicture:
    """A prompt is safe if the model does not refuse it with a grey picture in place of each of its own.

    The model's own alignment decides: what it refuses for the words alone is not recovered.
    """

    model: OpenModel
    """The model to ask."""
    judge: Judge
    """Decides what a refusal is."""

    def __call__(self, prompts: Sequence[Prompt]) -> list[bool | None]:
        """Ask about grey pictures."""
        grey = [
            prompt.with_pictures([Image.new("RGB", picture.size, GREY) for picture in prompt.pictures])
            for prompt in prompts
        ]
        # The model itself is the judge of the words: if it answers them about an empty picture, they are harmless in
        # its own eyes, and the picture was what it refused. Grey pictures of the same size, as some models cannot do
        # without one.
        verdicts = self.judge(self.model.generate(grey, max_new_tokens=32))
        return [None if verdict.refused is None else not verdict.refused for verdict in verdicts]


class RetryOnRefusal(Countermeasure):
    """Asks again where the model refused a prompt that is judged safe; the trail of the reply says what happened.

    Args:
        model: the model to defend.
        purifier: transform of the pictures for the second question; None asks about the model's caption of them.
        spec: how a user writes it.
        seed: of the purifier's randomness.
        safe: decides which prompts may be asked again; None means `WithoutPicture`.
        detector: scores pictures; only those above `threshold` are asked about again. None asks about all.
        threshold: of the detector's score; `stats.thresholds.calibrate` chooses one.
        judge: decides what a refusal is; None means `PhraseJudge()`.
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
        self._safe_judge = safe

    @property
    def adds_randomness(self) -> bool:
        """Whether the purifier or the detector is randomised."""
        return self.detector is not None or (self.purifier is not None and self.purifier.is_random)

    def sample_randomness(self, random: Generator) -> Self:
        """The defended model with all randomness drawn, also that of its detector and of its judge of prompts."""
        drawn = super().sample_randomness(random)
        if drawn is not self and self.detector is not None:
            # Where the detector measures the defended model itself, both must be the same draw: an attack on one would
            # otherwise be checked on another.
            shared = self.detector.model is self.model
            model = drawn.model if shared else self.detector.model.sample_randomness(random)
            # The detector's copies are part of the secret of the deployed defence, so they are drawn anew as well.
            drawn.detector = replace(self.detector, model=model, seed=drawn._draw or 0)
        return drawn

    @property
    def _safe(self) -> PromptJudge:
        return WithoutPicture(self.model, self._judge) if self._safe_judge is None else self._safe_judge

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
            index for index, verdict in enumerate(self._judge(exchanges)) if verdict.refused and prompts[index].pictures
        ]
        for index in refused:
            # Noted before anything is decided: the trail of a recovered answer has to show that the model had refused.
            exchanges[index] = _with_note(exchanges[index], f"refused at first: {exchanges[index].reply}")
        again = self._allowed(prompts, exchanges, refused)
        if not again:
            return exchanges
        retries = self._ask_again([prompts[index] for index in again], max_new_tokens)
        for index, retry, verdict in zip(again, retries, self._judge(retries), strict=True):
            first = exchanges[index]
            # An unscored or degenerate second reply is no answer; the first refusal then stands.
            if verdict.refused is False and not verdict.degenerate:
                recovered = replace(retry, prompt=prompts[index], by=BY, trail=(*first.trail, *retry.trail))
                exchanges[index] = _with_note(recovered, f"asked again {self._how}: answered")
            else:
                exchanges[index] = _with_note(first, f"asked again {self._how}: not answered")
        return exchanges

    @property
    def _how(self) -> str:
        return "about a caption" if self.purifier is None else f"about the picture after {self.spec}"

    def _allowed(self, prompts: Sequence[Prompt], exchanges: list[Exchange], refused: list[int]) -> list[int]:
        """Of the refused prompts those that may be asked again; the others' trails say why not."""
        # Words first: judging them costs one short reply, scoring a picture many evaluations.
        verdicts = self._safe([prompts[index] for index in refused]) if refused else []
        allowed = []
        for index, safe in zip(refused, verdicts, strict=True):
            if not safe:
                why = "could not be judged" if safe is None else "is not judged safe"
                note = f"not asked again: the prompt {why} without its picture"
                exchanges[index] = _with_note(exchanges[index], note)
            elif (objection := self._objection(prompts[index])) is not None:
                exchanges[index] = _with_note(exchanges[index], f"not asked again: {objection}")
            else:
                allowed.append(index)
        return allowed

    def _objection(self, prompt: Prompt) -> str | None:
        """Why the pictures of a safe prompt may not be asked about again; None where they may."""
        if self.detector is None:
            return None
        # The highest of several pictures: one that was perturbed is enough to have caused the refusal.
        score = max(self.detector(picture, [prompt.text], system=prompt.system).value for picture in prompt.pictures)
        if score > self.threshold:
            return None
        return f"the picture is not deemed perturbed ({score:.1f} <= {self.threshold:.1f})"

    def _ask_again(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Exchange]:
        if self.purifier is not None:
            pure = [apply_transform(self.purifier, prompt, self.randomness(prompt), self.device) for prompt in prompts]
            return self.model.generate(pure, max_new_tokens=max_new_tokens)
        requests = [replace(prompt, messages=(Message("user", CAPTION, prompt.pictures),)) for prompt in prompts]
        captions = self.model.generate(requests, max_new_tokens=max_new_tokens)
        # A caption that is a refusal describes nothing; the question then goes out alone and most likely fails.
        captioned = [_with_caption(prompt, caption.reply) for prompt, caption in zip(prompts, captions, strict=True)]
        return self.model.generate(captioned, max_new_tokens=max_new_tokens)

    def gradient_paths(self, pixels: Tensor) -> list[tuple[OpenModel, Tensor]]:
        """The model sees the picture as it is, purified, and as the detector changes it.

        A refusal only stands if the model refuses the picture *and* refuses again (or the detector lets it pass), so an
        attack on the mean over these paths is one on model, recovery and detector together.
        """
        paths = [pixels * 1]
        if self.purifier is not None:
            paths.append(self.purifier(pixels, self.gradient_randomness(0)))
        if self.detector is not None:
            changes = enumerate(self.detector.changes, start=1)
            paths += [change(pixels, self.gradient_randomness(index)) for index, change in changes]
        return [(self.model, path) for path in paths]


def _with_note(exchange: Exchange, line: str) -> Exchange:
    """The exchange with a line more in its trail."""
    return replace(exchange, trail=(*exchange.trail, line))


def _with_caption(prompt: Prompt, caption: str) -> Prompt:
    """The question with a caption in front, and grey pictures in place of its own."""
    grey = [Image.new("RGB", picture.size, GREY) for picture in prompt.pictures]
    blind = prompt.with_pictures(grey)
    last = blind.messages[-1]
    text = f"A picture shows: {caption}\n{last.text}"
    return replace(blind, messages=(*blind.messages[:-1], replace(last, text=text)))
