"""`WorkClock`: seconds of work, carried over from a process that was killed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from equipoise.files import write_json

WRITE_EVERY: Final = 1.0
"""Seconds between two writes."""


class WorkClock:
    """Seconds of work over all processes that worked on something, kept in a file.

    Args:
        file: where they are kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._before = float(json.loads(file.read_text(encoding="utf-8"))["seconds"]) if file.exists() else 0.0
        self._start = self._written = time.monotonic()

    @property
    def seconds(self) -> float:
        """So far."""
        return self._before + time.monotonic() - self._start

    def tick(self, *, final: bool = False) -> None:
        """Write the time so far, now and then.

        Args:
            final: whether it is written in any case.
        """
        now = time.monotonic()
        if final or now - self._written >= WRITE_EVERY:
            write_json(self._file, {"seconds": self.seconds})
            self._written = now
