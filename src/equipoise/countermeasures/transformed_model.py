"""`TransformedModel`: every picture goes through a transform before the model sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Generator, Tensor

from equipoise.countermeasures.base import Countermeasure, apply_transform
from equipoise.models.base import OpenModel
from equipoise.transforms.base import Transform
from equipoise.types import Exchange, Prompt


class TransformedModel(Countermeasure):
    """Noise, JPEG, median, DiffPure...: a transform in front of the model.

    An attack on it is adaptive: the loss is that of the transformed 8-bit picture, and the gradient flows through the
    transform, straight-through where that has no derivative (BPDA, Athalye et al. 2018, arXiv:1802.00420).

    Args:
        model: the model to defend.
        transform: what happens to every picture.
        spec: how a user writes it.
        seed: of all randomness.
    """

    def __init__(self, model: OpenModel, transform: Transform, spec: str, *, seed: int = 0) -> None:
        super().__init__(model, spec, seed=seed)
        self.transform = transform

    @property
    def adds_randomness(self) -> bool:
        """Whether the transform is randomised."""
        return self.transform.is_random

    def describe(self) -> dict[str, Any]:
        """The transform, with the seed where that matters."""
        return self.transform.describe() | ({"seed": self.seed} if self.adds_randomness else {})

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """Ask the model about the transformed pictures; exchanges keep the prompts as they were."""
        transformed = [self.transform_prompt(prompt, self.randomness(prompt)) for prompt in prompts]
        exchanges = self.model.generate(transformed, max_new_tokens=max_new_tokens)
        return [replace(exchange, prompt=prompt) for exchange, prompt in zip(exchanges, prompts, strict=True)]

    def transform_prompt(self, prompt: Prompt, random: Generator) -> Prompt:
        """The prompt as the model inside receives it."""
        return apply_transform(self.transform, prompt, random, self.device)

    def gradient_paths(self, pixels: Tensor) -> list[tuple[OpenModel, Tensor]]:
        """The model inside sees the transformed pixels."""
        return [(self.model, self.transform(pixels, self.gradient_randomness()))]

    def gradient_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts with their pictures after the first transformed."""
        transformed = []
        for prompt in prompts:
            pictures = prompt.pictures
            if len(pictures) > 1:
                # The first picture stays as it is: the pixels, transformed in `gradient_paths`, take its place.
                prompt = self.transform_prompt(prompt, self.gradient_randomness(1)).with_picture(pictures[0])
            transformed.append(prompt)
        return transformed
