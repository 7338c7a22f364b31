"""`Smoothed`: ask about noisy copies of the picture, vote on refuse or answer, return an answer of the majority.

Randomised smoothing (Cohen et al. 2019, arXiv:1902.02918) of the binary class {refuse, answer} of a chat model's reply:
the class of the vote is what `certificate` bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Generator

from equipoise.countermeasures.base import pictures_of, with_pictures
from equipoise.countermeasures.transformed import Transformed
from equipoise.data.pictures import to_image, to_pixels
from equipoise.errors import UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel
from equipoise.transforms.noise import Noise
from equipoise.types import Exchange, Judge, Prompt


@dataclass(frozen=True)
class Votes:
    """How the replies about noisy copies divide."""

    refuse: int
    """Full or partial refusals."""
    answer: int
    """Replies that do not refuse."""
    unscored: int
    """Replies that the judge could not tell; they count for neither."""

    @property
    def refused(self) -> bool:
        """Whether more copies are refused than answered; a tie is answered."""
        return self.refuse > self.answer


class Smoothed(Transformed):
    """The majority over `copies` noisy copies of the pictures.

    One look of an attack is at one noisy copy, so that an attack over many looks lowers the expected loss under the
    noise (SmoothAdv, Salman et al. 2019, arXiv:1906.04584).

    Args:
        model: who is asked.
        sigma: standard deviation of the noise, in pixel units.
        copies: how many are asked about; odd, so that a tie needs an unscored reply.
        spec: how a user writes it.
        seed: of the noise.
        judge: who tells a refusal; None means `PhraseJudge()`.
    """

    def __init__(
        self, model: OpenModel, sigma: float, copies: int, spec: str, *, seed: int = 0, judge: Judge | None = None
    ) -> None:
        if not 0 < sigma <= 1:
            raise UsageError(f"expected sigma above 0 and up to 1, got {sigma:g}; try 0.1")
        if copies < 1:
            raise UsageError(f"expected at least 1 copy, got {copies}; try 9")
        super().__init__(model, Noise(sigma, sigma), spec, seed=seed)
        self.sigma = sigma
        self.copies = copies
        self._judge = judge or PhraseJudge()

    def describe(self) -> dict[str, Any]:
        """Noise, number of copies, seed."""
        return {"countermeasure": "smoothing", "sigma": self.sigma, "copies": self.copies, "seed": self.seed}

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The reply that most copies of the majority's class give; the trail holds the vote."""
        copies = [self._noisy(prompt, self.chance(prompt, i)) for prompt in prompts for i in range(self.copies)]
        exchanges = self.model.generate(copies, max_new_tokens=max_new_tokens)
        replies = []
        for number, prompt in enumerate(prompts):
            if not pictures_of(prompt):
                replies.append(exchanges[number * self.copies])
                continue
            replies.append(self._elected(prompt, exchanges[number * self.copies : (number + 1) * self.copies]))
        return replies

    def votes(
        self, prompt: Prompt, count: int, random: Generator, *, batch: int = 64, max_new_tokens: int = 24
    ) -> Votes:
        """How `count` fresh noisy copies divide.

        Args:
            prompt: what is asked.
            count: how many copies.
            random: source of the noise.
            batch: copies asked about at once.
            max_new_tokens: enough of a reply to see a refusal begin.
        """
        found: Counter[bool | None] = Counter()
        for start in range(0, count, batch):
            copies = [self._noisy(prompt, random) for _ in range(min(batch, count - start))]
            exchanges = self.model.generate(copies, max_new_tokens=max_new_tokens)
            found.update(verdict.refused for verdict in self._judge(exchanges))
        return Votes(found[True], found[False], found[None])

    def _elected(self, prompt: Prompt, exchanges: Sequence[Exchange]) -> Exchange:
        refused = [verdict.refused for verdict in self._judge(exchanges)]
        votes = Votes(refused.count(True), refused.count(False), refused.count(None))
        members = [each for each, told in zip(exchanges, refused, strict=True) if told is votes.refused]
        if not members:
            members = list(exchanges)
        (most, _), *_ = Counter(each.reply for each in members).most_common(1)
        elected = next(each for each in members if each.reply == most)
        line = f"vote over {len(exchanges)} noisy copies: {votes.refuse} refuse, {votes.answer} answer"
        if votes.unscored:
            line += f", {votes.unscored} unscored"
        return replace(elected, prompt=prompt, trail=(*elected.trail, line))

    def _noisy(self, prompt: Prompt, random: Generator) -> Prompt:
        pictures = [to_image(self.transform(to_pixels(picture), random)) for picture in pictures_of(prompt)]
        return with_pictures(prompt, pictures)
