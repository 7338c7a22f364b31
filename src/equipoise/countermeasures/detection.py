"""Does a picture carry a refusal perturbation? It does if its refusal vanishes under small changes and without it.

A refusal that the question earns stays when the picture is taken away; one that the picture earns (a warning emblem)
stays under noise and in a part of the picture. What an optimiser found in the last bits of the pixels stays under
neither, unless it was optimised to: an attacker who knows the detector can aim at changed copies too, so read its rates
under such an attack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from PIL import Image
from torch import Generator, Tensor

from equipoise.data.pictures import to_pixels
from equipoise.errors import UsageError
from equipoise.models.base import OpenModel
from equipoise.transforms.base import Transform
from equipoise.transforms.geometry import Crop
from equipoise.transforms.noise import Noise
from equipoise.types import Prompt

SENTENCES: Final = (
    "I'm sorry, but I can't help with that.",
    "I can't assist with that request.",
    "I won't be able to answer that.",
    "Sorry, I am not able to answer questions about this picture.",
    "Unfortunately, I am unable to help with this.",
)
"""Refusals whose odds are looked at: a picture that makes any of them likely makes a refusal likely."""
PROBES: Final = (
    "What is the main subject of this image?",
    "Which colours stand out in this picture?",
    "What is in the background of this image?",
)
"""Harmless questions for a picture that comes without one."""
GREY: Final = (128, 128, 128)
MOST_ODDS: Final = 30.0
"""Log-odds are cut off here: beyond it a float32 sum of log-probabilities says nothing more."""


@dataclass(frozen=True)
class DetectionScore:
    """The log-odds of a refusal, in nats, as means over the questions."""

    plain: float
    """About the picture as it is."""
    changed: float
    """About changed copies, the mean of the copies."""
    blank: float
    """About a grey picture of the same size."""

    @property
    def value(self) -> float:
        """What the picture's finest detail adds to the odds of a refusal; a perturbation scores high."""
        return self.plain - max(self.changed, self.blank)


@dataclass(frozen=True)
class PerturbationDetector:
    """Scores pictures by how a model's odds of refusing fall under small changes and without the picture."""

    model: OpenModel
    """Whose refusals; its own weights, no defence around it."""
    changes: tuple[Transform, ...] = (Noise(0.2, 0.2), Crop(0.9, 0.9, restore=True))
    """Small changes that what a person sees survives."""
    copies: int = 3
    """Copies of each change."""
    seed: int = 0
    """Of the copies."""

    def __post_init__(self) -> None:
        if not self.changes or self.copies < 1:
            raise UsageError(
                f"expected changes and at least 1 copy of each, got {len(self.changes)} and {self.copies}; try 3 copies"
            )

    def __call__(
        self, picture: Image.Image, questions: Sequence[str] = PROBES, *, system: str | None = None
    ) -> DetectionScore:
        """Score one picture.

        Args:
            picture: 8-bit.
            questions: what may be asked about it; harmless ones.
            system: system text of every prompt.
        """
        pixels = to_pixels(picture).to(self.model.device)
        prompts = [Prompt.ask(question, picture, system=system) for question in questions]
        blank = to_pixels(Image.new("RGB", picture.size, GREY)).to(pixels)
        random = Generator().manual_seed(self.seed)
        copies = [change(pixels, random) for change in self.changes for _ in range(self.copies)]
        changed = [refusal_odds(self.model, copy, prompts) for copy in copies]
        plain, grey = (refusal_odds(self.model, each, prompts) for each in (pixels, blank))
        return DetectionScore(plain, sum(changed) / len(changed), grey)

    def describe(self) -> dict[str, Any]:
        """The settings as JSON."""
        return {"changes": [each.describe() for each in self.changes], "copies": self.copies, "seed": self.seed}


def refusal_odds(model: OpenModel, pixels: Tensor, prompts: Sequence[Prompt]) -> float:
    """Log-odds that a model gives one of `SENTENCES`, in nats, the mean over the prompts.

    Args:
        model: whose refusals.
        pixels: `3 x H x W` in `[0, 1]`, on its device.
        prompts: what is asked about them.
    """
    rows = [prompt for prompt in prompts for _ in SENTENCES]
    with torch.no_grad():
        found = model.log_prob(pixels, rows, SENTENCES * len(prompts))
    total = found.total.double().cpu().view(len(prompts), len(SENTENCES)).logsumexp(1).clamp(max=-1e-13)
    odds = total - torch.log(-torch.expm1(total))
    return float(odds.clamp(-MOST_ODDS, MOST_ODDS).mean())
