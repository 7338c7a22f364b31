"""Runs a judge in a worker thread, in batches; a reply that several scorers want judged is judged once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from equipoise.audit.engine.batching import Batcher
from equipoise.errors import EquipoiseError
from equipoise.types import Exchange, Judge, Verdict

BATCH: Final = 64
"""Replies judged at once."""
WINDOW: Final = 0.02
"""Seconds to wait for more replies when nothing is judged."""
KEPT: Final = 512
"""Verdicts kept for the other scorers of the same sample."""


class BatchedJudge:
    """Asks a judge in batches.

    A judge that raises gives no verdict: those replies are unscored, with the error as the reason.

    Args:
        judge: who reads the replies.
        window: seconds to wait for more replies when nothing is judged; `close` ends the wait.
    """

    def __init__(self, judge: Judge, window: float = WINDOW) -> None:
        self._judge = judge
        self._batches: Batcher[Callable[[], Exchange], Verdict] = Batcher(
            self._run, size=BATCH, window=window, name="judge"
        )
        self._known: OrderedDict[str, Future[Verdict]] = OrderedDict()
        self._lock = threading.Lock()

    def verdict(self, key: str, exchange: Callable[[], Exchange]) -> Future[Verdict]:
        """The verdict of one exchange.

        Args:
            key: names the reply; scorers that give the same one share a verdict.
            exchange: makes the exchange, in the judge's thread, as that may decode pictures.
        """
        with self._lock:
            verdict = self._known.get(key)
            if verdict is None:
                verdict = self._known[key] = self._batches.submit(exchange)
                if len(self._known) > KEPT:
                    self._known.popitem(last=False)
            return verdict

    def close(self) -> None:
        """End the thread."""
        self._batches.close()

    def _run(self, exchanges: Sequence[Callable[[], Exchange]]) -> list[Verdict]:
        try:
            return self._judge([make() for make in exchanges])
        except Exception as error:
            if len(exchanges) > 1:
                raise
            text = " ".join(str(error).split()) if isinstance(error, EquipoiseError) else repr(error)
            return [Verdict(None, unscored=f"the judge failed: {text[:240]}")]
