"""A run folder has one writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from equipoise.errors import OutputError, UsageError


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Keep a second process out of a run folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}; try another --out") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"expected nobody else to write {folder}, got another audit doing so; try another --out"
            ) from error
        yield
    finally:
        os.close(lock)
