"""`ShardStore`: the results of workers, each in a file of its own in the worker's folder, merged on read."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from equipoise.execution.items import Parcel
from equipoise.files import write_whole

_KEY: Final = re.compile(r"[0-9a-f]{64}")
TOKEN: Final = ".token"
"""File by which a worker on another machine learns whether it sees this folder."""


@dataclass(frozen=True)
class ShardStore:
    """A folder with a shard (a folder) for each worker, and in it one file for each result, named by the item's key.

    A file is written beside its place, flushed and renamed, so a kill leaves a whole result or none. A result that two
    workers wrote is one result. A file whose hash does not fit counts as none, and its item is done again.
    """

    folder: Path
    """The folder; it need not exist."""

    def write(self, worker: str, key: str, result: Parcel) -> None:
        """Keep a result in the shard of a worker; returns when it is on the disk.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        write_whole(self.folder / worker / key, result.to_bytes())

    def read(self, key: str) -> Parcel | None:
        """The result of an item, from whichever shard has a whole one; None where there is none."""
        # Sorted, so that of two whole results the same one is read everywhere. They are equal by contract; where a task
        # breaks the contract, at least every reader sees the same.
        for path in sorted(self.folder.glob(f"*/{key}")):
            parcel = _read(path)
            if parcel is not None:
                return parcel
        return None

    def results(self) -> Iterator[tuple[str, Parcel]]:
        """Every result once, with its key, in the order of the keys: the same whoever did what."""
        for key in self.keys():
            parcel = self.read(key)
            if parcel is not None:
                yield key, parcel

    def keys(self) -> list[str]:
        """The keys of all files, sorted, each once; whether a file is whole is known when it is read."""
        return sorted({path.name for path in self.folder.glob("*/*") if _KEY.fullmatch(path.name)})

    def discard(self, key: str) -> None:
        """Remove an item's result from all shards, once it is kept elsewhere."""
        for path in self.folder.glob(f"*/{key}"):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove every result, and then what is empty: all of it is kept elsewhere, or of no use any more."""
        for key in self.keys():
            self.discard(key)
        self.remove_empty()

    def remove_empty(self) -> None:
        """Remove what holds no result: half-written files of killed workers, the token, folders without files."""
        for path in [*self.folder.glob("*/.*.part"), self.folder / TOKEN]:
            path.unlink(missing_ok=True)
        # A folder that still holds results stays, and so does the store.
        for path in [*self.folder.glob("*/"), self.folder]:
            with suppress(OSError):
                path.rmdir()

    def write_token(self) -> str:
        """Leave a random word in the folder; a worker that can read it writes its shard itself."""
        token = uuid.uuid4().hex
        write_whole(self.folder / TOKEN, token)
        return token

    def is_reached_by(self, token: str) -> bool:
        """Whether this process sees the folder in which `write_token` left its word."""
        try:
            return (self.folder / TOKEN).read_text() == token
        except OSError:
            return False


def _read(path: Path) -> Parcel | None:
    try:
        return Parcel.from_bytes(path.read_bytes())
    except OSError:
        return None
