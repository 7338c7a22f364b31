"""`Transformed`: every picture goes through a transform before the model sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from equipoise.countermeasures.base import Countermeasure, apply_transform
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.models.encoded_prompt import pictures as pictures_of
from equipoise.models.encoded_prompt import with_picture
from equipoise.transforms.base import Transform
from equipoise.types import Exchange, Prompt


class Transformed(Countermeasure):
    """Noise, JPEG, median, DiffPure...: a transform in front of the model.

    An attack on it is adaptive: the value is that of the transformed 8-bit picture, the gradient flows through the
    transform, straight-through where that has no derivative (BPDA, Athalye et al. 2018, arXiv:1802.00420).

    Args:
        model: who is defended.
        transform: what happens to every picture.
        spec: how a user writes it.
        seed: of all chance.
    """

    def __init__(self, model: OpenModel, transform: Transform, spec: str, *, seed: int = 0) -> None:
        super().__init__(model, spec, seed=seed)
        self.transform = transform

    @property
    def draws(self) -> bool:
        """Whether the transform does."""
        return self.transform.is_random

    def describe(self) -> dict[str, Any]:
        """The transform, with the seed where that matters."""
        return self.transform.describe() | ({"seed": self.seed} if self.draws else {})

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """Ask the model about the transformed pictures; exchanges keep the prompts as they were."""
        seen = [self.through(prompt, self.randomness(prompt)) for prompt in prompts]
        exchanges = self.model.generate(seen, max_new_tokens=max_new_tokens)
        return [replace(each, prompt=prompt) for each, prompt in zip(exchanges, prompts, strict=True)]

    def through(self, prompt: Prompt, random: Generator) -> Prompt:
        """The prompt as the model inside receives it."""
        return apply_transform(self.transform, prompt, random, self.device)

    def log_prob(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """That of the model for the transformed pixels."""
        seen = self.transform(pixels, self.look())
        return self.model.log_prob(seen, self._others(prompts), replies, end=end, question_shift=question_shift)

    def loss_and_grad(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """That of the model, carried back through the transform; only one of the two graphs is in memory at a time."""
        leaf = pixels.detach().requires_grad_(True)
        with torch.enable_grad():
            seen = self.transform(leaf, self.look())
        losses, slope = self.model.loss_and_grad(
            seen.detach(), self._others(prompts), replies, end=end, question_shift=question_shift
        )
        (gradient,) = torch.autograd.grad(seen, leaf, slope.to(seen))
        return losses, gradient

    def _others(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts with their pictures after the first transformed; the first gives way to the pixels."""
        found = []
        for prompt in prompts:
            pictures = pictures_of(prompt)
            if len(pictures) > 1:
                seen = self.through(prompt, self.look(1))
                prompt = with_picture(seen, pictures[0])
            found.append(prompt)
        return found
