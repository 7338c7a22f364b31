"""`PerturbCallbacks`: functions that are called during a run over pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.errors import EquipoiseError
from equipoise.perturb.record import PictureRecord

if TYPE_CHECKING:
    from equipoise.attacks.perturbation_result import TraceStep


def _ignore(*_: object) -> None:
    """Where the caller does not follow the run."""


@dataclass(frozen=True)
class PerturbCallbacks:
    """Functions that are called during a run; by default they do nothing."""

    pictures: Callable[[int], None] = _ignore
    """The number of pictures, before anything else."""
    start: Callable[[str], None] = _ignore
    """A picture begins; its file name."""
    stage: Callable[[str], None] = _ignore
    """What is being done apart from steps, such as `loading models`."""
    step: Callable[[TraceStep], None] = _ignore
    """A step of the attack."""
    finish: Callable[[PictureRecord], None] = _ignore
    """A picture is done, now or in an earlier run."""
    note: Callable[[str], None] = _ignore
    """Something to know before it starts, in one line."""
    failure: Callable[[Path, str], None] = _ignore
    """A picture failed, with the reason in one line; the run goes on with the others."""

    def add_failure(self, image: Path, error: EquipoiseError, errors: dict[str, str]) -> None:
        """Add the reason, in one line, to `errors` by the picture's path, and tell the caller."""
        errors[str(image)] = " ".join(str(error).split())
        self.failure(image, errors[str(image)])
