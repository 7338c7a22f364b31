"""A folder of results has one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from equipoise.errors import OutputError, UsageError, os_reason


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Keep a second process out of a folder, which is created where it does not exist.

    The folder itself is locked, so that no file of ours lies beside the results. A killed process holds no lock.

    Raises:
        OutputError: the folder cannot be made.
        UsageError: another process writes it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise OutputError(
            f"expected a folder to write to, got {folder} ({os_reason(error)}); try another folder"
        ) from error
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    """Lock an open folder until it is closed, also where the process is killed.

    Args:
        descriptor: of the folder.
        folder: for the message.

    Raises:
        UsageError: another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:
        # Windows has no such module.
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"expected nobody else to write {folder}, got another run doing so; try another --out, or wait for it"
        ) from None
    except OSError:
        # Some network file systems lock nothing; a run is not refused for that.
        return
