"""Files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from equipoise.errors import OutputError


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a kill at any moment leaves the old file or the new one.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files for their owner alone; results are meant to be shared.
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"expected to write {path}, got '{error.strerror}'; try another folder") from None
