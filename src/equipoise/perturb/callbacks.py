"""`PerturbCallbacks`: functions that are called during a run over pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.errors import EquipoiseError, OutputError
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

    def attempt(
        self, image: Path, work: Callable[[], PictureRecord], errors: dict[str, str], *, alone: bool
    ) -> PictureRecord | None:
        """Do one picture of a run, here or by taking a worker's result; None where it failed.

        One picture among many becomes a line of the report; the only picture is the command's own error.

        Args:
            image: the picture.
            work: does it.
            errors: gets the reason of a failure, by the picture's path.
            alone: whether it is the only picture.

        Raises:
            OutputError: nothing can be written any more, which would fail all pictures that follow.
            EquipoiseError: the only picture failed.
        """
        self.start(image.name)
        try:
            record = work()
        except OutputError:
            raise
        except EquipoiseError as error:
            if alone:
                raise
            self.add_failure(image, error, errors)
            return None
        self.finish(record)
        return record

    def add_failure(self, image: Path, error: EquipoiseError, errors: dict[str, str]) -> None:
        """Add the reason, in one line, to `errors` by the picture's path, and tell the caller."""
        errors[str(image)] = " ".join(str(error).split())
        self.failure(image, errors[str(image)])
