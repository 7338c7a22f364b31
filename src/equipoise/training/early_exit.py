"""Training of a glance: a shallow network that learns what a trained harm detector says (Hinton et al. 2015).

It starts as the detector's first layers and is taught by its probabilities, window by window, so that it needs no
labels of its own. What it may decide alone is chosen on held-out rows: below which of its logits hardly a window lies
that the detector would worry about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import Dataset

from equipoise.errors import ModelError, UsageError
from equipoise.guard.detector.folder import read, write_glance
from equipoise.guard.detector.harm_detector import EarlyExit, HarmDetector
from equipoise.guard.detector.network import first_layers
from equipoise.guard.training_rows import LabelledReply
from equipoise.training.detector import DetectorCollator, DetectorTrainer
from equipoise.training.hf_trainer import TrainerSettings, run, same_recipe
from equipoise.training.loop import Progress

WORRY: Final = 0.2
"""A window that the detector gives at least this probability of harm is one that it worries about."""
HEAVIER: Final = 4.0
"""Weight of such a window in the loss: there are few."""


@dataclass(frozen=True)
class EarlyExitTrainingConfig:
    """What decides the weights."""

    layers: int = 1
    epochs: int = 4
    rate: float = 2e-4
    """Peak learning rate; the linear unit learns ten times as fast."""
    batch: int = 32
    """Windows in an optimiser step."""
    seed: int = 0
    lost: float = 0.01
    """Share of the held-out windows that the detector worries about which the glance may call harmless."""
    bf16: bool = False
    """bfloat16 autocast."""


class _ScoredWindows(Dataset[dict[str, Any]]):
    """Windows with the detector's probability of harm."""

    def __init__(self, detector: HarmDetector, rows: Sequence[LabelledReply]) -> None:
        windows = windows_of(detector, rows)
        logits = detector.logits_of(windows)
        self.items = [
            {
                "windows": [window],
                "label": float(torch.sigmoid(torch.tensor(logit))),
                "weight": HEAVIER if detector.calibration(logit) >= WORRY else 1.0,
            }
            for window, logit in zip(windows, logits, strict=True)
        ]
        self.lengths = [len(window) for window in windows]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


def windows_of(detector: HarmDetector, rows: Sequence[LabelledReply]) -> list[list[int]]:
    """Every window of every row."""
    return [window for row in rows for window in detector.template.windows(detector.tokenizer, row.evidence)]


def add_early_exit(
    recipe: EarlyExitTrainingConfig,
    folder: Path,
    rows: Sequence[LabelledReply],
    held_out: Sequence[LabelledReply],
    *,
    checkpoint_every: int = 200,
    device: str | None = None,
    progress: Progress | None = None,
    int8: bool = False,
) -> dict[str, Any]:
    """Train a glance and add it to the folder of its detector; the same call goes on where it was killed.

    Args:
        recipe: what decides the weights.
        folder: a trained detector; `glance/` in it holds checkpoints.
        rows: what the detector is asked about; their labels mean nothing.
        held_out: rows that the glance's threshold is chosen on.
        checkpoint_every: optimiser steps between checkpoints.
        device: `cpu` or `cuda`; by default CUDA where there is one.
        progress: is told step, steps and loss.
        int8: see `folder.write`.

    Returns:
        Of the held-out windows how many there are, how many the detector worries about, how many of these the glance
        calls harmless, and how many it decides in all.

    Raises:
        UsageError: no held-out window worries the detector, or a folder of another recipe.
        ModelError: no detector there, or one of fewer layers.
    """
    detector = read(folder, device=device)
    detector.glance = None
    same_recipe(folder / "glance", asdict(recipe) | {"rows": len(rows)})
    torch.manual_seed(recipe.seed)
    try:
        student = first_layers(detector.network, recipe.layers).to(detector.device)
    except ValueError as error:
        raise ModelError(f"{error}; try a glance of fewer layers") from error
    held = _held_out(detector, held_out)
    for name, weight in student.base.named_parameters():
        weight.requires_grad_("embedding" not in name)
    plan = TrainerSettings(recipe.epochs, recipe.rate, recipe.batch, recipe.seed, recipe.bf16, checkpoint_every, device)
    trainer = DetectorTrainer(
        model=student,
        args=plan.arguments(folder / "glance"),
        train_dataset=_ScoredWindows(detector, rows),
        data_collator=DetectorCollator(detector.tokenizer.pad_token_id or 0),
    )
    run(trainer, folder / "glance", progress)
    detector.network = student.eval()
    looks = np.array(detector.logits_of(held.windows))
    sure = float(np.quantile(looks[held.worries], recipe.lost, method="lower"))
    write_glance(folder, EarlyExit(student, sure), recipe.layers, asdict(recipe), int8=int8)
    return {
        "windows": len(held.windows),
        "worrying": int(held.worries.sum()),
        "lost": int((looks[held.worries] < sure).sum()),
        "decided": int((looks < sure).sum()),
    }


@dataclass(frozen=True)
class _HeldOutWindows:
    windows: list[list[int]]
    worries: np.ndarray
    """Of each window, whether the detector worries about it."""


def _held_out(detector: HarmDetector, rows: Sequence[LabelledReply]) -> _HeldOutWindows:
    """What the threshold is chosen on.

    Raises:
        UsageError: the detector worries about none of it.
    """
    windows = windows_of(detector, rows)
    worries = np.array([detector.calibration(logit) >= WORRY for logit in detector.logits_of(windows)], dtype=bool)
    if not worries.any():
        raise UsageError("expected held-out rows that do harm, got none that the detector worries about; try others")
    return _HeldOutWindows(windows, worries)
