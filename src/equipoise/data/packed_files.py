"""Files that are packed: unpacked as their names say, or refused with the way to unpack them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from equipoise.errors import UsageError, os_reason

PACKERS: Final[dict[str, Callable[..., Any]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""Suffixes after that of a table that is read as it is unpacked: `prompts.jsonl.gz`."""
LARGEST: Final = 2**31
"""Bytes of an unpacked table: a small file may unpack to more than a machine holds."""
PACKED: Final = {
    b"\x1f\x8b": "a gzip file", b"PK\x03\x04": "a zip file or workbook", b"BZh": "a bzip2 file",
    b"\x28\xb5\x2f\xfd": "a zstandard file", b"\xd0\xcf\x11\xe0": "a workbook",
}  # fmt: skip
"""What a file that is no text begins with."""
PACKED_FIX: Final = {
    "a gzip file": "to unpack it with gunzip, or to end its name in .gz",
    "a zip file or workbook": "to unpack it, or to save the sheet as CSV",
    "a bzip2 file": "to unpack it with bunzip2, or to end its name in .bz2",
    "a zstandard file": "to unpack it with unzstd",
    "a workbook": "to save the sheet as CSV",
}


def read_unpacked(path: Path) -> bytes:
    """The bytes of a file, unpacked where its name ends as packed files do.

    Raises:
        UsageError: it cannot be read, is broken or too large, or holds something packed in another way.
    """
    content = _unpacked(path)
    packed = next((kind for mark, kind in PACKED.items() if content.startswith(mark)), None)
    if packed is not None:
        raise UsageError(f"expected a table, got {packed} at {path}; try {PACKED_FIX[packed]}")
    return content


def _unpacked(path: Path) -> bytes:
    try:
        packer = PACKERS.get(path.suffix.lower())
        if packer is None:
            return path.read_bytes()
        with packer(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UsageError(f"expected a packed table, got '{error}' in {path}; try to copy it again") from None
    except OSError as error:
        raise UsageError(
            f"expected a table at {path}, got '{os_reason(error)}'; try its path, or to copy it again"
        ) from None
    if len(content) > LARGEST:
        raise UsageError(f"expected at most {LARGEST:,} bytes in {path}, got more; try to divide it")
    return bytes(content)
