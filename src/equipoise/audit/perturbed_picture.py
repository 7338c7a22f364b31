"""What the attack of an audit did to each picture: `attack.json` of the run folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from equipoise.audit.json_reader import JsonObject


@dataclass(frozen=True)
class PerturbedPicture:
    """What the attack did to one picture, for the report and its warnings."""

    clean: str
    """sha256 of the picture's file."""
    perturbed: str
    """sha256 of the PNG."""
    linf: float
    """Largest change of any value on [0, 1], measured on the saved PNG."""
    psnr: float | None
    """In dB; None where nothing changed."""
    ssim: float | None
    """Structural similarity in [-1, 1]; None where it is undefined."""
    losses: tuple[float, ...]
    """One a step, in nats per token."""
    stopped: str
    """Why the attack ended."""
    seconds: float
    """Wall-clock time."""
    warnings: tuple[str, ...]
    """Reasons not to trust it."""
    target: float | None
    """Share of its samples that should be answered and that the target refuses on the saved file."""
    bystander: float | None
    """The largest such share of a model that was not attacked; None without one."""
    variant: str
    """In which variant it is asked about first."""


def to_document(pictures: Sequence[PerturbedPicture]) -> str:
    """`attack.json` as text."""
    return json.dumps({"pictures": [asdict(picture) for picture in pictures]}, indent=1, allow_nan=False) + "\n"


def read_perturbed_pictures(path: Path) -> tuple[PerturbedPicture, ...]:
    """The pictures of an `attack.json`.

    Raises:
        UsageError: the file is damaged.
    """
    return tuple(entry.record(PerturbedPicture) for entry in JsonObject.load(path).items("pictures"))
