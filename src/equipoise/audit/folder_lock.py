"""A run folder has one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from equipoise.errors import OutputError
from equipoise.folder_lock import lock_folder

LOCK: Final = ".lock"
"""The file that is locked."""


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Keep a second process out of a run folder.

    Raises:
        OutputError: the folder cannot be written.
        UsageError: another process writes it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}; try another --out") from error
    try:
        lock_folder(lock, folder)
        yield
    finally:
        os.close(lock)
