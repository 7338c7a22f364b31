"""Expectation over transformations (EOT, Athalye et al. 2018, arXiv:1707.07397): the transforms of an attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from equipoise.errors import UsageError
from equipoise.transforms.base import Identity, Transform
from equipoise.transforms.geometry import Crop, Resize
from equipoise.transforms.jpeg import Jpeg
from equipoise.transforms.noise import Noise


@dataclass(frozen=True)
class EOTConfig:
    """The transforms over which each step of an attack averages its loss."""

    transforms: tuple[Transform, ...] = field(default_factory=lambda: (Jpeg(), Resize(), Crop(), Noise()))
    """From which each step draws."""
    samples: int = 2
    """How many transforms a step draws, without repetition as far as they reach; each costs one evaluation."""
    plain: bool = True
    """Whether each step also evaluates the unchanged picture, which costs one evaluation more."""

    def __post_init__(self) -> None:
        if not self.transforms or self.samples < 1:
            raise UsageError(
                f"expected transforms and at least one sample, got {len(self.transforms)} and {self.samples}; "
                "try EOTConfig()"
            )

    def draw(self, random: Generator) -> list[Callable[[Tensor, Generator], Tensor]]:
        """The transforms of one step."""
        # Whole permutations one after another: no transform comes a second time before all came once.
        order: list[int] = []
        while len(order) < self.samples:
            order += torch.randperm(len(self.transforms), generator=random).tolist()
        drawn: list[Callable[[Tensor, Generator], Tensor]] = [self.transforms[i] for i in order[: self.samples]]
        return [Identity(), *drawn] if self.plain else drawn

    def describe(self) -> dict[str, Any]:
        """The settings as JSON."""
        transforms = [transform.describe() for transform in self.transforms]
        return {"transforms": transforms, "samples": self.samples, "plain": self.plain}
