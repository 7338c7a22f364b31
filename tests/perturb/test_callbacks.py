"""One picture of a run: done, failed or the end of the run."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from equipoise.errors import EquipoiseError, OutputError, PictureError
from equipoise.perturb.callbacks import PerturbCallbacks
from tests.perturb.test_record import record

IMAGE = Path("photos/cat.png")


def raising(error: EquipoiseError) -> NoReturn:
    raise error


def noting(events: list[tuple[str, object]]) -> PerturbCallbacks:
    return PerturbCallbacks(
        start=lambda name: events.append(("start", name)),
        finish=lambda done: events.append(("finish", done)),
        failure=lambda image, reason: events.append(("failure", reason)),
    )


def test_a_picture_that_is_done_is_reported_and_returned() -> None:
    events: list[tuple[str, object]] = []
    errors: dict[str, str] = {}
    done = record()
    assert noting(events).attempt(IMAGE, lambda: done, errors, alone=False) is done
    assert events == [("start", "cat.png"), ("finish", done)]
    assert errors == {}


def test_one_of_many_that_fails_is_a_line_and_the_only_one_is_the_error() -> None:
    events: list[tuple[str, object]] = []
    errors: dict[str, str] = {}
    broken = PictureError("expected a picture,\n got none; try another")
    assert noting(events).attempt(IMAGE, lambda: raising(broken), errors, alone=False) is None
    assert errors == {str(IMAGE): "expected a picture, got none; try another"}
    assert events == [("start", "cat.png"), ("failure", "expected a picture, got none; try another")]
    with pytest.raises(PictureError):
        noting(events).attempt(IMAGE, lambda: raising(broken), errors, alone=True)


def test_a_disk_that_is_full_ends_the_run() -> None:
    errors: dict[str, str] = {}
    with pytest.raises(OutputError):
        PerturbCallbacks().attempt(IMAGE, lambda: raising(OutputError("full")), errors, alone=False)
    assert errors == {}
