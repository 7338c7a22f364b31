"""`WorkItem`: a piece of work with a key of its content; `Parcel`: its bytes on the way; `WorkerTask`: what is done."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

DIGEST: Final = 32
"""Bytes of a sha256."""


def content_key(kind: str, inputs: Sequence[str], recipe: Mapping[str, Any]) -> str:
    """The sha256 that names an item: items of one kind, of equal inputs and of equal recipe have one result.

    Args:
        kind: what is done, such as `perturb`.
        inputs: hashes or texts of what it is done to, in order.
        recipe: all else that decides the result, in JSON values.
    """
    document = json.dumps([kind, list(inputs), recipe], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(document.encode()).hexdigest()


@dataclass(frozen=True)
class Parcel:
    """Bytes that travel to a worker or from one, with their hash: what arrives is counted and compared."""

    parts: tuple[bytes, ...]
    """Such as a description and a picture; any number, also empty ones."""
    digest: bytes
    """sha256 over the lengths and the contents of the parts, of the sender."""

    @classmethod
    def of(cls, *parts: bytes) -> Parcel:
        """A parcel of these parts."""
        return cls(parts, _digest(parts))

    @property
    def damage(self) -> str | None:
        """What is wrong with the parts as they arrived; None where they are those that were sent."""
        return None if _digest(self.parts) == self.digest else "other bytes arrived than were sent"

    def to_bytes(self) -> bytes:
        """Digest, number of parts, their lengths (8 bytes each, big-endian), their contents."""
        sizes = [len(self.parts), *(len(part) for part in self.parts)]
        return b"".join((self.digest, *(size.to_bytes(8, "big") for size in sizes), *self.parts))

    @classmethod
    def from_bytes(cls, content: bytes) -> Parcel | None:
        """The inverse of `to_bytes`; None where the bytes are no whole parcel, such as those of a torn file."""
        count = int.from_bytes(content[DIGEST : DIGEST + 8], "big")
        begin = DIGEST + 8 * (count + 1)
        if len(content) < begin:
            return None
        sizes = [int.from_bytes(content[at : at + 8], "big") for at in range(DIGEST + 8, begin, 8)]
        if len(content) != begin + sum(sizes):
            return None
        parts = []
        for size in sizes:
            parts.append(content[begin : begin + size])
            begin += size
        parcel = cls(tuple(parts), content[:DIGEST])
        return None if parcel.damage else parcel


@dataclass(frozen=True)
class WorkItem:
    """A piece of work. Doing it twice gives the same result, so a worker that died costs time and nothing else."""

    key: str
    """Of `content_key`."""
    name: str
    """What people call it, such as the name of a picture's file."""
    pack: Callable[[], Parcel]
    """Makes what the worker gets. Called when a worker is free, so that a long list of items holds no pictures."""


class WorkerTask(ABC):
    """What workers do with items. It is pickled once for each worker, so its class stands in an importable module."""

    @abstractmethod
    def load(self) -> Any:
        """What a worker loads once and keeps, such as models.

        Raises:
            EquipoiseError: it cannot be loaded; the run ends with this error.
        """

    @abstractmethod
    def run(self, state: Any, parcel: Parcel) -> Parcel:
        """The result of one item.

        Args:
            state: what `load` returned.
            parcel: what the item's `pack` made.

        Raises:
            OutputError: nothing can be written any more, as on a full disk; the run ends with this error.
            EquipoiseError: this item cannot be done; the others can.
        """


def _digest(parts: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
