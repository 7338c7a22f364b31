"""Training of an early exit: a shallow network distilled from a trained harm detector (Hinton et al. 2015).

The student starts as the detector's first layers and learns the detector's probabilities, window by window, so that it
needs no labels of its own. Its threshold is chosen on held-out rows: below that logit of the student, hardly a window
lies that the detector would take for harmful.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from equipoise.errors import ModelError, UsageError
from equipoise.guard.detector.folder import full_network_hash, read, write_early_exit
from equipoise.guard.detector.harm_detector import EarlyExit, HarmDetector, PlattScaling, Window
from equipoise.guard.detector.network import HarmNetwork, first_layers
from equipoise.guard.training_rows import LabelledReply
from equipoise.models.load import find_device
from equipoise.training.checkpointing import Checkpoint
from equipoise.training.detector import DetectorCollator, head_groups, rows_digest
from equipoise.training.loop import Progress, seeded
from equipoise.training.processes import TrainingProcesses
from equipoise.training.supervised_training import SupervisedSettings, fit, require_rate

POSITIVE_PROBABILITY: Final = 0.2
"""A window to which the detector gives at least this probability of harm counts as positive."""
POSITIVE_WEIGHT: Final = 4.0
"""Weight of a positive window in the loss, where others have 1: there are few."""
FOLDER: Final = "early_exit"
"""Folder of the training inside that of the detector."""


@dataclass(frozen=True)
class EarlyExitTrainingConfig:
    """What decides the weights, beside the detector and the rows."""

    layers: int = 1
    """Of the student."""
    epochs: int = 4
    """Times over the windows."""
    rate: float = 2e-4
    """Peak learning rate; the linear unit learns ten times as fast."""
    batch: int = 32
    """Windows in an optimiser step."""
    seed: int = 0
    """Of dropout and the order of the windows."""
    missed: float = 0.01
    """Share of the positive held-out windows that the early exit may call harmless."""
    bf16: bool = False
    """bfloat16 autocast."""

    def to_json(self) -> dict[str, Any]:
        """As `detector.json` holds it; `missed` is called `lost` there since the first detector that shipped."""
        recipe = asdict(self)
        return {("lost" if name == "missed" else name): value for name, value in recipe.items()}

    def __post_init__(self) -> None:
        require_rate(self.rate)


@dataclass(frozen=True)
class EarlyExitResult:
    """What a trained early exit does with the held-out windows."""

    windows: int
    """Held-out windows."""
    positives: int
    """Those to which the detector gives at least `POSITIVE_PROBABILITY`."""
    missed: int
    """Positives that the early exit calls harmless."""
    decided: int
    """Windows that the early exit decides alone, right or wrong."""


def windows_of(detector: HarmDetector, rows: Sequence[LabelledReply]) -> list[Window]:
    """Every window of every row, as token ids."""
    return [window for row in detector.windows([row.evidence for row in rows]) for window in row]


def logits_of(detector: HarmDetector, windows: Sequence[Window]) -> list[float]:
    """The uncalibrated logit of each window."""
    return detector.logits([[window] for window in windows])


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
) -> EarlyExitResult:
    """Train an early exit and add it to the folder of its detector; the same call goes on where it was killed.

    Args:
        recipe: what decides the weights.
        folder: a trained detector; the folder `early_exit` in it holds the training's checkpoint.
        rows: whose windows the detector scores; their labels are not used.
        held_out: rows on which the threshold is chosen.
        checkpoint_every: optimiser steps between checkpoints.
        device: `cpu` or `cuda`; by default CUDA where there is one.
        progress: called after every step.
        int8: see `guard.detector.folder.write`.

    Raises:
        UsageError: no positive held-out window, or a folder of another recipe.
        ModelError: no detector there, or one with too few layers.
    """
    processes = TrainingProcesses.join(device)
    compute = find_device(device)
    known = full_network_hash(folder)
    detector = read(folder, device=str(compute), early_exit=False)
    settings = SupervisedSettings(
        recipe.epochs,
        recipe.rate,
        recipe.batch,
        recipe.seed,
        bf16=recipe.bf16,
        checkpoint_every=checkpoint_every,
        device=str(
            compute,
        ),
    )
    full_recipe = recipe.to_json() | {"rows": rows_digest(rows), "detector": known}
    windows = windows_of(detector, rows)
    Checkpoint(folder / FOLDER, full_recipe).require_same_recipe()
    student = _student(detector, recipe)
    held_out_windows = windows_of(detector, held_out)
    positive = _positives(detector, held_out_windows)
    if not positive.any():
        raise UsageError("expected held-out rows that do harm, got none that the detector takes for it; try others")
    fit(
        student,
        _targets(detector, windows),
        DetectorCollator(detector.tokenizer.pad_token_id or 0),
        settings,
        folder / FOLDER,
        full_recipe,
        groups=head_groups(student, recipe.rate),
        lengths=[len(window) for window in windows],
        progress=progress,
    )
    # On held-out windows: on those that it learned, a student misses fewer positives than it will in use.
    student_logits = np.array(logits_of(_with_network(detector, student), held_out_windows))
    # The largest logit below which at most the allowed share of the positives lies; and what the early exit decides
    # must itself be no positive, or a window would do harm by the word of the student alone.
    allowed = float(np.quantile(student_logits[positive], recipe.missed, method="lower"))
    exit_threshold = min(allowed, _positive_logit(detector.calibration))
    early_exit = EarlyExit(student, exit_threshold)
    processes.on_first(lambda: write_early_exit(folder, early_exit, recipe.layers, recipe.to_json(), int8=int8))
    decided = student_logits < exit_threshold
    return EarlyExitResult(
        windows=len(held_out_windows),
        positives=int(positive.sum()),
        missed=int((decided & positive).sum()),
        decided=int(decided.sum()),
    )


def _student(detector: HarmDetector, recipe: EarlyExitTrainingConfig) -> HarmNetwork:
    """The detector's first layers, of which all but the shared embeddings learn."""
    try:
        with seeded(recipe.seed):
            student = first_layers(detector.network, recipe.layers)
    except ValueError as error:
        raise ModelError(f"{error}; try an early exit of fewer layers") from error
    for name, weight in student.base.named_parameters():
        # The token embeddings are the detector's own: they must not change under it.
        weight.requires_grad_("embedding" not in name)
    return student


def _with_network(detector: HarmDetector, network: HarmNetwork) -> HarmDetector:
    """A detector that reads the same windows with another network and has no early exit."""
    return HarmDetector(
        network,
        detector.tokenizer,
        detector.template,
        detector.calibration,
        name=f"{detector.name}-early-exit",
        identity="",
        device=detector.device,
    )


def _positives(detector: HarmDetector, windows: Sequence[Window]) -> np.ndarray:
    """Of each window, whether the detector gives it at least `POSITIVE_PROBABILITY` [windows, bool]."""
    return np.array(
        [detector.calibration(logit) >= POSITIVE_PROBABILITY for logit in logits_of(detector, windows)], dtype=bool
    )


def _positive_logit(calibration: PlattScaling) -> float:
    """The logit from which on a window counts as positive; infinite where larger logits are not more harmful."""
    if calibration.slope <= 0:
        return math.inf
    log_odds = math.log(POSITIVE_PROBABILITY / (1 - POSITIVE_PROBABILITY))
    return (log_odds - calibration.shift) / calibration.slope


def _targets(detector: HarmDetector, windows: Sequence[Window]) -> list[dict[str, Any]]:
    """The windows as rows of their own, with the detector's probability as label.

    The label is the sigmoid of the uncalibrated logit: the student takes the place of the network, and the calibration
    comes after both.
    """
    logits = np.array(logits_of(detector, windows))
    # The sigmoid as exp(-log(1 + exp(-x))), which does not overflow for large negative logits.
    labels = np.exp(-np.logaddexp(0, -logits))
    return [
        {
            "windows": [list(window)],
            "label": float(label),
            "weight": POSITIVE_WEIGHT if detector.calibration(logit) >= POSITIVE_PROBABILITY else 1.0,
        }
        for window, logit, label in zip(windows, logits.tolist(), labels, strict=True)
    ]
