"""Detection of refusal perturbations: does a refusal vanish under small changes of the picture, and without it?

A refusal that the question causes stays when the picture is taken away; one that its content causes (a warning emblem)
stays under noise and in a crop. A perturbation, which lives in the lowest bits of the pixels, survives neither, unless
it was optimised to: an attacker who knows the detector can include changed copies in the loss, so its rates have to be
measured under such an attack.

This is not a countermeasure itself. It stands here because two of them (`retry_on_refusal`, `cross_check`) are built on
it, while the certificate is built on a third: a package of their own would import this one and be imported by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from PIL import Image
from torch import Generator, Tensor

from equipoise.errors import UsageError
from equipoise.media.quantize import to_pixels
from equipoise.models.base import OpenModel
from equipoise.transforms.base import Transform
from equipoise.transforms.geometry import Crop
from equipoise.transforms.noise import Noise
from equipoise.types import Prompt

REFUSALS: Final = (
    "I'm sorry, but I can't help with that.",
    "I can't assist with that request.",
    "I won't be able to answer that.",
    "Sorry, I am not able to answer questions about this picture.",
    "Unfortunately, I am unable to help with this.",
)
"""The refusals whose odds are measured: a picture that makes any of them likely makes a refusal likely.

Not the targets of `attacks/refusal_targets.py`, although some are equal: thresholds are calibrated on the odds of
exactly these sentences, each costs time for every picture, and a defence must not grow with the attack's list.
"""
PROBE_QUESTIONS: Final = (
    "What is the main subject of this image?",
    "Which colours stand out in this picture?",
    "What is in the background of this image?",
)
"""Harmless questions for a picture that comes without one."""
GREY: Final = (128, 128, 128)
"""The colour of a picture that stands for no picture."""
MAX_LOG_ODDS: Final = 30.0
"""Log-odds are clamped here: beyond it a float32 sum of log-probabilities is rounding error."""


PictureStatistic = Callable[[OpenModel, Tensor, Sequence[Prompt]], float]
"""Model, pixels (`3 x H x W` in `[0, 1]`) and prompts to a number: the nearer the model is to a refusal, the higher."""


@dataclass(frozen=True)
class DetectionScore:
    """A statistic of the refusal, as means over the questions: its log-odds in nats, or what a detector was given."""

    plain: float
    """About the picture as it is."""
    changed: float
    """About changed copies, the mean of the copies."""
    blank: float
    """About a grey picture of the same size."""

    @property
    def value(self) -> float:
        """By how much the statistic falls, at least, when the picture is changed or removed."""
        return self.plain - max(self.changed, self.blank)


@dataclass(frozen=True)
class PerturbationDetector:
    """Scores pictures by how a model's odds of refusing fall under small changes and without the picture."""

    model: OpenModel
    """The model whose refusals are measured; without a defence around it."""
    changes: tuple[Transform, ...] = (Noise(0.2, 0.2), Crop(0.9, 0.9, restore=True))
    """Small changes that the visible content survives."""
    copies: int = 3
    """Copies of each change."""
    seed: int = 0
    """Of the copies."""
    statistic: PictureStatistic | None = None
    """What is measured; None is `refusal_log_odds`, and `steering.projection.ProjectionStatistic` is another."""

    def __post_init__(self) -> None:
        if not self.changes or self.copies < 1:
            raise UsageError(
                f"expected changes and at least 1 copy of each, got {len(self.changes)} and {self.copies}; try 3 copies"
            )

    def __call__(
        self, picture: Image.Image, questions: Sequence[str] = PROBE_QUESTIONS, *, system: str | None = None
    ) -> DetectionScore:
        """Score one picture.

        Args:
            picture: 8-bit.
            questions: harmless questions about it.
            system: system text of every prompt.
        """
        # The idea: a perturbation is tuned to exact pixels and breaks under small changes, visible content survives
        # them. So the odds of refusing fall much under a change if the perturbation made the model refuse, and little
        # if the content did.
        pixels = to_pixels(picture).to(self.model.device)
        prompts = [Prompt.ask(question, picture, system=system) for question in questions]
        # Without the picture, but with one of the same size: the prompt keeps its tokens and only the content is gone.
        blank = to_pixels(Image.new("RGB", picture.size, GREY)).to(pixels)
        random = Generator().manual_seed(self.seed)
        # A fixed seed: the same picture has to get the same score again, on the threshold's calibration as in use.
        copies = [change(pixels, random) for change in self.changes for _ in range(self.copies)]
        measure = self.statistic or refusal_log_odds
        changed = [measure(self.model, copy, prompts) for copy in copies]
        plain, grey = (measure(self.model, version, prompts) for version in (pixels, blank))
        return DetectionScore(plain, sum(changed) / len(changed), grey)

    def describe(self) -> dict[str, Any]:
        """The settings as JSON."""
        settings = {"changes": [change.describe() for change in self.changes], "copies": self.copies, "seed": self.seed}
        describe = getattr(self.statistic, "describe", None)
        return settings | (describe() if describe else {})


def refusal_log_odds(model: OpenModel, pixels: Tensor, prompts: Sequence[Prompt]) -> float:
    """Log-odds that a model gives one of `REFUSALS`, in nats, the mean over the prompts.

    Args:
        model: the model whose refusals are measured.
        pixels: `3 x H x W` in `[0, 1]`, on its device.
        prompts: the questions about them.
    """
    rows = [prompt for prompt in prompts for _ in REFUSALS]
    with torch.no_grad():
        log_probs = model.log_prob(pixels, rows, REFUSALS * len(prompts))
    # The sentences exclude each other, so their probabilities add up. In float64, and kept below log 1 = 0, so that
    # log(1 - p) = log(-expm1(log p)) neither cancels for small p nor is infinite for p that rounds to 1.
    total = log_probs.total.double().cpu().view(len(prompts), len(REFUSALS)).logsumexp(1).clamp(max=-1e-13)
    odds = total - torch.log(-torch.expm1(total))
    return float(odds.clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS).mean())
