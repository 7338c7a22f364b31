"""`checkpoint`: where long work lets others go first, or ends because nobody waits for it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from equipoise.guard.turns import WorkPiece

_own = threading.local()


class LaneLost(Exception):
    """What computed this work has died, which need not be the work's fault: it may be tried once more."""


class Abandoned(BaseException):
    """The caller has given this work up. Not an `Exception`, so that no detector takes it for its own failure."""


def checkpoint() -> None:
    """To be called between two parts of long work; does nothing outside of an executor.

    Raises:
        Abandoned: the caller no longer waits.
    """
    pause: Callable[[], None] | None = getattr(_own, "pause", None)
    if pause is not None:
        pause()


@contextmanager
def pausing(pause: Callable[[], None], piece: WorkPiece | None = None) -> Iterator[None]:
    """While it lasts, `checkpoint` on this thread calls `pause`, and `current_piece` is `piece`."""
    _own.pause, _own.piece = pause, piece
    try:
        yield
    finally:
        _own.pause = _own.piece = None


def current_piece() -> WorkPiece | None:
    """The executor's piece that this thread computes; None outside of an executor."""
    piece: WorkPiece | None = getattr(_own, "piece", None)
    return piece


def raise_if_abandoned() -> None:
    """To be called between two parts of long work that cannot let others go first, as it holds a lock.

    Raises:
        Abandoned: the caller no longer waits.
    """
    piece = current_piece()
    if piece is not None and piece.gone:
        raise Abandoned
