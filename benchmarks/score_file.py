"""`ScoreFile`: probabilities of harm on disk, so that a long measurement that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from equipoise.guard.detector.harm_detector import HarmDetector
from equipoise.guard.training_rows import LabelledReply as Row

PART = 64
"""Replies between two writes of a score file."""


class ScoreFile:
    """Probabilities of harm that were computed before, so that a run that was stopped goes on where it was."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._known: dict[str, float] = {}

    def open(self, path: Path | None) -> None:
        """Read a file, one line for each reply, and write there from now on; None remembers this run alone."""
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        self._known = dict(json.loads(line) for line in lines)

    def __call__(self, detector: HarmDetector, rows: Sequence[Row]) -> np.ndarray:
        """The probability of harm of each reply."""
        keys = [f"{detector.identity[:12]} {row.id}" for row in rows]
        if len(set(keys)) < len(keys):
            raise ValueError("expected rows with ids of their own, got one id twice: it would get one score")
        new = [at for at, name in enumerate(keys) if name not in self._known]
        for start in range(0, len(new), PART):
            part = new[start : start + PART]
            values = [score.harm for score in detector([rows[at].evidence for at in part])]
            fresh = {keys[at]: float(value or 0.0) for at, value in zip(part, values, strict=True)}
            self._known |= fresh
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(pair) + "\n" for pair in fresh.items())
        return np.array([self._known[name] for name in keys])
