"""`MajorityVote`: ask about randomly changed copies of the picture and reply with the majority, to refuse or to answer.

With Gaussian noise (`RandomizedSmoothing`) this is randomised smoothing (Cohen et al. 2019, arXiv:1902.02918) of the
binary class {refuse, answer} of a chat model's reply: the class of the vote is what `certificate` bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from torch import Generator

from equipoise.countermeasures.transformed_model import TransformedModel
from equipoise.errors import UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel
from equipoise.transforms.base import Transform
from equipoise.transforms.noise import Noise
from equipoise.types import Exchange, Judge, Prompt


@dataclass(frozen=True)
class VoteCounts:
    """How the replies about the copies divide."""

    refuse: int
    """Full or partial refusals."""
    answer: int
    """Replies that do not refuse."""
    unscored: int
    """Replies that the judge could not score; they count for neither."""

    @property
    def refused(self) -> bool:
        """Whether more copies are refused than answered; a tie is answered."""
        return self.refuse > self.answer


class MajorityVote(TransformedModel):
    """The majority over `copies` copies of the pictures, each changed at random.

    The vote has no gradient, so an evaluation of an attack is at one copy: over many evaluations the attack lowers the
    expected loss under the change (SmoothAdv, Salman et al. 2019, arXiv:1906.04584).

    Args:
        model: the model to defend.
        transform: what happens to each copy.
        copies: how many copies vote; odd, so that a tie needs an unscored reply.
        spec: how a user writes it.
        seed: of the copies.
        judge: decides what a refusal is; None means `PhraseJudge()`.
    """

    def __init__(
        self,
        model: OpenModel,
        transform: Transform,
        copies: int,
        spec: str,
        *,
        seed: int = 0,
        judge: Judge | None = None,
    ) -> None:
        if copies < 1:
            raise UsageError(f"expected at least 1 copy, got {copies}; try 9")
        if copies > 1 and not transform.is_random:
            raise UsageError(f"expected copies that differ, got {copies} after {transform}; try noise or crop")
        super().__init__(model, transform, spec, seed=seed)
        self.copies = copies
        self._judge = judge or PhraseJudge()

    def describe(self) -> dict[str, Any]:
        """What happens to a copy, and how many there are."""
        return {"countermeasure": "vote", "copies": self.copies, **super().describe()}

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The reply that most copies of the majority's class give; the trail holds the vote.

        A prompt without pictures has nothing to vote over and is asked once.
        """
        counts = [self.copies if prompt.pictures else 1 for prompt in prompts]
        copies = [
            self.transform_prompt(prompt, self.randomness(prompt, i))
            for prompt, count in zip(prompts, counts, strict=True)
            for i in range(count)
        ]
        # One call for all copies of all prompts, so that the model can batch them; then each prompt takes its own.
        exchanges = iter(self.model.generate(copies, max_new_tokens=max_new_tokens))
        replies = []
        for prompt, count in zip(prompts, counts, strict=True):
            own = list(islice(exchanges, count))
            replies.append(self._elected(prompt, own) if prompt.pictures else replace(own[0], prompt=prompt))
        return replies

    def votes(
        self, prompt: Prompt, count: int, random: Generator, *, batch: int = 64, max_new_tokens: int = 64
    ) -> VoteCounts:
        """How `count` fresh copies divide.

        Args:
            prompt: the question with its pictures.
            count: how many copies.
            random: source of all randomness.
            batch: copies in one batch.
            max_new_tokens: as of `generate`: a reply that is cut off earlier may be of another class.
        """
        # Copies are made batch by batch: a certificate takes thousands, and that many photos at once would fill the
        # memory.
        refused: Counter[bool | None] = Counter()
        for start in range(0, count, batch):
            copies = [self.transform_prompt(prompt, random) for _ in range(min(batch, count - start))]
            exchanges = self.model.generate(copies, max_new_tokens=max_new_tokens)
            refused.update(verdict.refused for verdict in self._judge(exchanges))
        return VoteCounts(refused[True], refused[False], refused[None])

    def _elected(self, prompt: Prompt, exchanges: Sequence[Exchange]) -> Exchange:
        # The class is voted on first and the wording second: a vote over wordings would almost always be a tie, and
        # randomised smoothing needs finitely many classes.
        refused = [verdict.refused for verdict in self._judge(exchanges)]
        votes = VoteCounts(refused.count(True), refused.count(False), refused.count(None))
        # `is`: the label of an unscored reply is None, which belongs to neither class.
        members = [exchange for exchange, label in zip(exchanges, refused, strict=True) if label is votes.refused]
        if not members:  # nothing was scored
            members = list(exchanges)
        # The most frequent reply of the class that won, not of all: ten differently worded answers must not lose to
        # three equal refusals.
        (most, _), *_ = Counter(exchange.reply for exchange in members).most_common(1)
        elected = next(exchange for exchange in members if exchange.reply == most)
        line = f"vote over {len(exchanges)} copies: {votes.refuse} refuse, {votes.answer} answer"
        if votes.unscored:
            line += f", {votes.unscored} unscored"
        return replace(elected, prompt=prompt, trail=(*elected.trail, line))


class RandomizedSmoothing(MajorityVote):
    """The majority over copies with Gaussian noise, which can be certified.

    Args:
        model: the model to defend.
        sigma: standard deviation of the noise, in pixel units.
        copies: as in `MajorityVote`.
        spec: how a user writes it.
        seed: of the noise.
        judge: as in `MajorityVote`.
    """

    def __init__(
        self, model: OpenModel, sigma: float, copies: int, spec: str, *, seed: int = 0, judge: Judge | None = None
    ) -> None:
        if not 0 < sigma <= 1:
            raise UsageError(f"expected sigma above 0 and up to 1, got {sigma:g}; try 0.1")
        super().__init__(model, Noise(sigma, sigma), copies, spec, seed=seed, judge=judge)
        self.sigma = sigma
