"""`CrossCheck`: when the model refuses a safe prompt, ask a fallback model that is hard to perturb.

Replies that do not refuse stay as they are, so the accuracy that adversarial training costs is only paid on refusals.
The price: where the fallback model does not see what makes a picture forbidden, a rightful refusal is undone. `odds`
bounds that: the fallback model must be far from refusing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from PIL import Image
from torch import Generator, Tensor

from equipoise.countermeasures.base import PictureView
from equipoise.countermeasures.detection import refusal_log_odds
from equipoise.countermeasures.retry_on_refusal import PromptJudge, RetryOnRefusal
from equipoise.media.quantize import to_pixels
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.types import Exchange, Judge, Prompt


@dataclass(frozen=True)
class FinestView:
    """The view of whichever of several models sees most of a picture."""

    views: tuple[PictureView, ...]
    """Those of the models that say how much they see."""

    def seen_pixels(self, picture: Image.Image) -> int:
        """The most pixels of a picture that one of the models receives."""
        return max(view.seen_pixels(picture) for view in self.views)


class CrossCheck(RetryOnRefusal):
    """The reply of a fallback model where the model refuses a safe prompt and the fallback is far from refusing it.

    Args:
        model: the model to defend.
        fallback_model: asked where the model refuses; trained against perturbations (`equipoise train adversarial`).
        odds: the fallback model's log-odds of a refusal, in nats, from which on the first refusal stands.
        spec: how a user writes it.
        safe: decides which prompts may be asked again; None means `WithoutPicture`.
        judge: decides what a refusal is; None means `PhraseJudge()`.
    """

    def __init__(
        self,
        model: OpenModel,
        fallback_model: OpenModel,
        odds: float,
        spec: str,
        *,
        safe: PromptJudge | None = None,
        judge: Judge | None = None,
    ) -> None:
        super().__init__(model, None, spec, safe=safe, judge=judge)
        self.fallback_model = fallback_model
        self.odds = odds

    @property
    def differentiable_processor(self) -> PictureView | None:
        """That of the model that sees most of a picture; None where neither says."""
        views = [getattr(model, "differentiable_processor", None) for model in (self.model, self.fallback_model)]
        known = tuple(view for view in views if view is not None)
        return FinestView(known) if known else None

    @property
    def is_random(self) -> bool:
        """Whether either model is randomised."""
        return self.model.is_random or self.fallback_model.is_random

    def sample_randomness(self, random: Generator) -> Self:
        """Both models with their randomness drawn."""
        drawn = super().sample_randomness(random)
        if drawn is not self:
            drawn.fallback_model = self.fallback_model.sample_randomness(random)
        return drawn

    def describe(self) -> dict[str, Any]:
        """The fallback model, and when its reply counts."""
        return {
            # Part of the revision, as are the keys: a new name would make another model of the same defence.
            "countermeasure": "second opinion",
            "second": self.fallback_model.name,
            "revision": self.fallback_model.revision,
            "odds": self.odds,
            "safe": type(self._safe).__name__,
        }

    @property
    def _how(self) -> str:
        return f"of {self.fallback_model.name}"

    def _objection(self, prompt: Prompt) -> str | None:
        # Its reply alone would not do: a model on the brink of refusing may just have overlooked what is forbidden.
        # Only clearly negative odds outvote the refusal of the first model.
        first, *_ = prompt.pictures
        odds = refusal_log_odds(self.fallback_model, to_pixels(first).to(self.fallback_model.device), [prompt])
        if odds < self.odds:
            return None
        return f"{self.fallback_model.name} is not far from refusing, too (log-odds {odds:.1f} >= {self.odds:.1f})"

    def _ask_again(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Exchange]:
        return self.fallback_model.generate(prompts, max_new_tokens=max_new_tokens)

    def log_prob(
        self,
        pixels: Tensor | None,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """The mean over both models of each reply's log-probability per token, in each token of the model inside.

        A refusal only stands where both are ready to refuse, so an attack on this surrogate is one on both at once. Not
        token by token, as the two may split a reply into different tokens: `total` is that mean times the tokens of the
        model inside, as of a reply of that length, so that sums and means of replies compare as those of one model do.
        """
        if pixels is None:
            return super().log_prob(None, prompts, replies, end=end, question_shift=question_shift)
        results = [
            model.log_prob(path, prompts, replies, end=end, question_shift=question_shift)
            for model, path in self.gradient_paths(pixels)
        ]
        mean = torch.stack([result.mean.to(pixels.device) for result in results]).mean(0)
        mask = results[0].mask.to(pixels.device)
        return ReplyLogProbs(torch.where(mask, mean[:, None], 0.0), mask)

    def gradient_paths(self, pixels: Tensor) -> list[tuple[OpenModel, Tensor]]:
        """Both models see the pixels as they are."""
        return [(self.model, pixels * 1), (self.fallback_model, pixels.to(self.fallback_model.device) * 1)]
