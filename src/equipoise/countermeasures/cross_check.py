"""`CrossCheck`: when the model refuses a safe prompt, a model that is hard to perturb is asked whether it would.

Replies that do not refuse stay as they are, so what adversarial training costs in right answers is not paid. What it
costs in refusals that a picture earns is: where the second model is blind to what forbids a picture, the refusal is
undone. `odds` is how far from refusing it must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Generator, Tensor

from equipoise.countermeasures.detection import refusal_odds
from equipoise.countermeasures.retry_on_refusal import PromptJudge, RetryOnRefusal
from equipoise.data.pictures import to_pixels
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.models.encoded_prompt import pictures as pictures_of
from equipoise.types import Exchange, Judge, Prompt


class CrossCheck(RetryOnRefusal):
    """The reply of a second model where the first refuses a safe prompt and the second is far from refusing it.

    Args:
        model: who is defended.
        second: who is asked then; trained against perturbations (`equipoise train adversarial`).
        odds: the second model's log-odds of a refusal, in nats, from which on the first refusal stands.
        spec: how a user writes it.
        safe: says which prompts may be asked again; None means `WithoutPicture`.
        judge: who tells a refusal; None means `PhraseJudge()`.
    """

    def __init__(
        self,
        model: OpenModel,
        second: OpenModel,
        odds: float,
        spec: str,
        *,
        safe: PromptJudge | None = None,
        judge: Judge | None = None,
    ) -> None:
        super().__init__(model, None, spec, safe=safe, judge=judge)
        self.second = second
        self.odds = odds

    @property
    def is_random(self) -> bool:
        """Whether either model draws by chance."""
        return self.model.is_random or self.second.is_random

    def sample_randomness(self, random: Generator) -> Self:
        """Both models with their chance drawn."""
        drawn = super().sample_randomness(random)
        if drawn is not self:
            drawn.second = self.second.sample_randomness(random)
        return drawn

    def describe(self) -> dict[str, Any]:
        """Who is asked, and when that counts."""
        return {
            "countermeasure": "second opinion",
            "second": self.second.name,
            "revision": self.second.revision,
            "odds": self.odds,
            "safe": type(self._safe).__name__,
        }

    @property
    def _how(self) -> str:
        return f"of {self.second.name}"

    def _objection(self, prompt: Prompt) -> str | None:
        first, *_ = pictures_of(prompt)
        odds = refusal_odds(self.second, to_pixels(first).to(self.second.device), [prompt])
        if odds < self.odds:
            return None
        return f"{self.second.name} is not far from refusing, too (log-odds {odds:.1f} >= {self.odds:.1f})"

    def _ask_again(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Exchange]:
        return self.second.generate(prompts, max_new_tokens=max_new_tokens)

    def log_prob(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """The mean over both models of each reply's log-probability per token, as a single column.

        A refusal only stands where both are ready to refuse, so an attack on this surrogate is one on both at once.
        """
        found = [
            model.log_prob(seen, prompts, replies, end=end, question_shift=question_shift).mean.to(pixels.device)
            for model, seen in self._ways(pixels)
        ]
        column = torch.stack(found).mean(0)[:, None]
        return ReplyLogProbs(column, torch.ones_like(column, dtype=torch.bool))

    def _ways(self, pixels: Tensor) -> list[tuple[OpenModel, Tensor]]:
        return [(self.model, pixels * 1), (self.second, pixels.to(self.second.device) * 1)]
