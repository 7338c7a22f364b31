"""EXIF data without what a changed copy must not hold: the place, and what describes the stored pixels.

The fields are kept byte for byte. Pillow would write them anew, and lose every letter that is not ASCII. Structure:
CIPA DC-008 (Exif 3.0), section 4.6, which is that of TIFF 6.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 129: 1}
"""Bytes of one value of each type."""
_ORDERS: Final = {b"II*\0": "<", b"MM\0*": ">"}
_DETAILS: Final = 0x8769
"""Points to the fields of the exposure."""
_PLACE: Final = 0x8825
_MAKER_NOTES: Final = 0x927C
_KEPT: Final = frozenset({0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298}) | frozenset(
    range(0x9C9B, 0x9CA0)
)
"""Description, camera, program, date, artist, host, rating, copyright, and what Windows writes of them; the rest tells
how pixels are stored and turned."""
_STALE: Final = frozenset({_MAKER_NOTES, 0x9214, 0xA002, 0xA003, 0xA005, 0xA214})
"""Of the exposure: a maker's notes, which hold previews, and sizes and positions in the stored pixels."""
_LARGEST: Final = 2**16
"""Bytes of the largest EXIF data of a JPEG: what is larger in a TIFF is no word about it, but pixels or profiles."""
_HEADER: Final = 8
"""Bytes in front of the first field."""

_Fields: TypeAlias = dict[int, tuple[int, int, bytes]]
"""Type, number of values and their bytes, by tag."""


@dataclass(frozen=True)
class KeptExif:
    """What is kept of EXIF data."""

    block: bytes = b""
    """As a PNG's `eXIf` holds it; empty where nothing is kept."""
    had_place: bool = False
    """Whether the place was left out."""
    had_maker_notes: bool = False
    """Whether notes of the camera's maker were left out."""


def kept_exif(block: bytes) -> KeptExif:
    """The fields of EXIF data that hold for a changed, upright copy.

    Args:
        block: the data with or without the letters `Exif` in front, or a whole TIFF file.

    Raises:
        ValueError: it cannot be read.
    """
    tiff = block.removeprefix(b"Exif\0\0")
    try:
        order = _ORDERS[tiff[:4]]
        fields = _read(tiff, order, struct.unpack_from(order + "I", tiff, 4)[0])
        details = _read(tiff, order, struct.unpack(order + "I", fields[_DETAILS][2])[0]) if _DETAILS in fields else {}
    except (struct.error, KeyError):
        raise ValueError("expected EXIF data, got something else or a part of it") from None
    kept = {tag: field for tag, field in fields.items() if tag in _KEPT}
    kept_details = {tag: field for tag, field in details.items() if tag not in _STALE}
    written = _written(kept, kept_details, order) if kept or kept_details else b""
    return KeptExif(tiff[:4] + written if written else b"", _PLACE in fields, _MAKER_NOTES in details)


def _read(tiff: bytes, order: str, at: int) -> _Fields:
    """The fields of one directory; those of unknown types, and those that lie outside of the data, are left out."""
    fields: _Fields = {}
    room = _LARGEST
    (count,) = struct.unpack_from(order + "H", tiff, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", tiff, entry)
        size = _SIZES.get(kind, 0) * number
        # Four bytes hold the values, or say where they are.
        start = entry + 8 if size <= 4 else struct.unpack_from(order + "I", tiff, entry + 8)[0]
        values = tiff[start : start + size] if size <= room else b""
        if values and len(values) == size:
            fields[tag] = (kind, number, values)
            room -= size
    return fields


def _written(fields: _Fields, details: _Fields, order: str) -> bytes:
    """The data behind the first four bytes."""
    start = struct.pack(order + "I", _HEADER)
    if not details:
        return start + _directory(fields, order, _HEADER)
    length = len(_directory(fields | {_DETAILS: (4, 1, bytes(4))}, order, _HEADER))
    pointer = struct.pack(order + "I", _HEADER + length)
    main = _directory(fields | {_DETAILS: (4, 1, pointer)}, order, _HEADER)
    return start + main + _directory(details, order, _HEADER + length)


def _directory(fields: _Fields, order: str, at: int) -> bytes:
    """One directory that begins at a byte, with its values behind it."""
    entries, values = [struct.pack(order + "H", len(fields))], b""
    first = at + 2 + 12 * len(fields) + 4
    for tag, (kind, number, content) in sorted(fields.items()):
        where = content.ljust(4, b"\0") if len(content) <= 4 else struct.pack(order + "I", first + len(values))
        entries.append(struct.pack(order + "HHI", tag, kind, number) + where)
        # Values begin at even bytes.
        values += content + bytes(len(content) % 2) if len(content) > 4 else b""
    return b"".join([*entries, bytes(4), values])
