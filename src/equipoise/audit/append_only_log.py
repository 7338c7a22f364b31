"""An append-only file of rows that survives a kill and notices edits."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from equipoise.errors import OutputError, UsageError, os_reason

BLOCK: Final = 2**20
"""Bytes that are read at once when the end of a file is looked for."""


class LogRow(Protocol):
    """A row that can be written as one flat JSON object."""

    def to_json(self) -> dict[str, Any]:
        """The object; tuples stand for lists."""
        ...

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_json` gave.

        Raises:
            TypeError, KeyError: a field is missing or unknown.
        """
        ...


Row = TypeVar("Row", bound=LogRow)


def fingerprint(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    # ASCII escapes, as a reply may hold half a surrogate pair, which has no bytes of its own.
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class AppendOnlyLog(Generic[Row]):
    """An append-only file of rows, one JSON object a line, each with a checksum of its own.

    A line that a kill cut short is dropped when the file is opened again; a line that somebody changed is an error.
    """

    def __init__(self, path: Path, kind: type[Row]) -> None:
        self.path = path
        self.kind: type[Row] = kind
        self._lock = threading.Lock()
        self._mended = False

    def rows(self) -> Iterator[Row]:
        """Every whole row, in the order in which it was written.

        Raises:
            UsageError: a row was changed after it was written.
        """
        if not self.path.exists():
            return
        try:
            with self.path.open("rb") as file:
                # Line by line: a file of 50,000 rows and more is never in memory as a whole.
                for number, line in enumerate(file, 1):
                    # What follows the last line feed was cut short by a kill and was never acknowledged.
                    if line.endswith(b"\n"):
                        yield self._row(line, number)
        except OSError as error:
            raise UsageError(f"expected a file at {self.path}, got '{os_reason(error)}'; try a new run") from error

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows to the disk; returns when they are safe there.

        Raises:
            OutputError: the disk is full, or the file cannot be written; what was there before stays whole.
        """
        lines = []
        for row in rows:
            values = row.to_json()
            # The checksum tells a changed line from a whole one; the line feed at the end tells a whole one from one
            # that a kill cut.
            lines.append(json.dumps({**values, "check": fingerprint(values)[:16]}).encode() + b"\n")
        if not lines:
            return
        try:
            with self._lock:
                self._mend()
                with self.path.open("ab", buffering=0) as file:
                    _write(file, b"".join(lines))
                    # The caller sends the next prompt only after this returns: what was paid for is on the disk, not in
                    # a buffer.
                    os.fsync(file.fileno())
        except OSError as error:
            self._mended = False
            raise OutputError(
                f"cannot write {self.path}: {os_reason(error)}; try freeing some space and giving the same "
                "command again: it goes on where this stopped"
            ) from error

    def _mend(self) -> None:
        """Drop the line that a kill or a full disk cut short, before anything follows it."""
        if self._mended:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            os.truncate(self.path, _whole_length(self.path))
        self._mended = True

    def _row(self, line: bytes, number: int) -> Row:
        try:
            values: dict[str, Any] = json.loads(line)
            check = values.pop("check")
            intact = fingerprint(values)[:16] == check
            given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
            row = self.kind.from_json(given)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(_changed(self.path, number)) from error
        if not intact:
            raise UsageError(_changed(self.path, number))
        return row


def _whole_length(path: Path) -> int:
    """Bytes of a file up to its last line feed and with it; 0 where there is none."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        # From the end on, block by block: the replies of a large run are not in memory as a whole.
        while end:
            start = max(0, end - BLOCK)
            file.seek(start)
            position = file.read(end - start).rfind(b"\n")
            if position >= 0:
                return start + position + 1
            end = start
    return 0


def _write(file: FileIO, data: bytes) -> None:
    """Write everything; a nearly full disk takes only a part at a time before it says so."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _changed(path: Path, number: int) -> str:
    return (
        f"expected line {number} of {path} as it was written, got a changed one; "
        "try a copy of the folder that nobody edited, or a new run"
    )
