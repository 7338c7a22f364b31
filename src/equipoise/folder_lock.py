"""A folder of results has one writer at a time."""

from __future__ import annotations

from pathlib import Path

from equipoise.errors import UsageError


def lock_folder(descriptor: int, folder: Path) -> None:
    """Lock an open file or folder until it is closed, also where the process is killed.

    Args:
        descriptor: of the folder, or of a file in it.
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
