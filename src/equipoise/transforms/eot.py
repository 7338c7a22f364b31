"""Which transforms an attack looks through (expectation over transformations, Athalye et al. 2018)."""

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
    """Which transforms a step looks through."""

    transforms: tuple[Transform, ...] = field(default_factory=lambda: (Jpeg(), Resize(), Crop(), Noise()))
    """What may happen."""
    samples: int = 2
    """How many transforms a step draws, without repetition as far as they reach; each costs one evaluation."""
    plain: bool = True
    """Whether each step also looks at the picture as it is, which costs one more."""

    def __post_init__(self) -> None:
        if not self.transforms or self.samples < 1:
            raise UsageError(
                f"expected transforms and at least one sample, got {len(self.transforms)} and {self.samples}; "
                "try Expectation()"
            )

    def draw(self, random: Generator) -> list[Callable[[Tensor, Generator], Tensor]]:
        """The transforms of one step."""
        order: list[int] = []
        while len(order) < self.samples:
            order += torch.randperm(len(self.transforms), generator=random).tolist()
        drawn: list[Callable[[Tensor, Generator], Tensor]] = [self.transforms[i] for i in order[: self.samples]]
        return [Identity(), *drawn] if self.plain else drawn

    def describe(self) -> dict[str, Any]:
        """The expectation as JSON."""
        transforms = [transform.describe() for transform in self.transforms]
        return {"transforms": transforms, "samples": self.samples, "plain": self.plain}
