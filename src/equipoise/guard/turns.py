"""`FairTurns`: which of the waiting pieces of work goes next, and which of them share a part of their computing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

AGING: Final = 0.1
"""Seconds of computing that a second of waiting makes up for."""


@dataclass(eq=False)
class WorkPiece:
    """Work on its way."""

    work: Callable[[], Any]
    client: str
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    progress: int
    """The executor's count of progress when the piece came."""
    material: Any = None
    """What it may share with others; None where it is computed by itself."""
    arrived: float = field(default_factory=time.monotonic)
    lane: int | None = None
    """Where it has to go on; None where any lane will do."""
    used: float = 0.0
    """Seconds that it has computed."""
    began: float = 0.0
    """When its turn began, or it last passed a checkpoint."""
    paused: bool = False
    """Whether it has begun and waits for its next turn."""
    gone: bool = False
    """Whether its caller has given up."""
    lost: bool = False
    """Whether its lane was closed while it paused."""
    turn: threading.Event = field(default_factory=threading.Event)

    def order(self, now: float) -> float:
        """Seconds of computing, made up for by waiting: the least goes first."""
        return self.used - AGING * (now - self.arrived)


class FairTurns:
    """The pieces that wait, and when each client last had a turn; the executor's lock guards it."""

    def __init__(self) -> None:
        self.ready: list[WorkPiece] = []
        """Pieces that have not begun, or have paused."""
        self._served: dict[str, int] = {}
        self._turns = 0

    def best(self, lane: int) -> WorkPiece | None:
        """The piece whose turn it is on a lane; abandoned ones first, since they only end."""
        here = [piece for piece in self.ready if piece.lane in (None, lane)]
        now = time.monotonic()
        # Between clients: round robin by the number of the last turn, so that a client gains nothing by sending more.
        # Within a client: least computing first, aged by waiting (`WorkPiece.order`), so that nothing waits for ever.
        return min(
            here,
            key=lambda piece: (not piece.gone, self._served.get(piece.client, 0), piece.order(now)),
            default=None,
        )

    def take(self, piece: WorkPiece, lane: int) -> None:
        """Give a piece its turn."""
        self.ready.remove(piece)
        piece.lane = lane
        piece.began = time.monotonic()
        self._turns += 1
        self._served[piece.client] = self._turns

    def company(self, first: WorkPiece, most: int) -> list[WorkPiece]:
        """A piece that begins with those that wait and may share its computing, the next in turn first.

        Args:
            first: has its turn.
            most: pieces, `first` included.
        """
        waiting = [piece for piece in self.ready if piece.material is not None and piece.lane is None]
        taken = Counter({first.client: 1})
        company = [first]
        now = time.monotonic()
        while waiting and len(company) < most:
            # In the order of their turns: one of each client, then the second of each.
            served = self._served
            piece = min(waiting, key=lambda one: (taken[one.client], served.get(one.client, 0), one.order(now)))
            waiting.remove(piece)
            taken[piece.client] += 1
            company.append(piece)
        return company

    def forget(self, client: str) -> None:
        """Of a client without work, or this would grow with every client that ever asked."""
        self._served.pop(client, None)
