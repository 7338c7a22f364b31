"""`without_metadata`: a picture file without its metadata, whose coded pixels stay byte for byte.

Removed are EXIF, XMP, comments, colour profiles, previews, and what follows the picture's end. JPEG: ITU-T T.81, annex
B; PNG: W3C PNG 3, section 5; WebP: RFC 9649, section 2.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Final

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"})
_PNG_TEXTS: Final = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
_PNG_COLOURS: Final = frozenset({b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI"})
"""What a PNG says of its colours beside a profile (W3C PNG 3, section 11.3.2)."""
_LARGEST_PROFILE: Final = 2**26
"""Bytes of an unpacked profile; what is larger is no profile but a trap."""
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The next marker in coded data: neither a stuffed byte nor a restart marker."""
_WEBP_DROPPED: Final = frozenset({b"EXIF", b"XMP ", b"ICCP"})
_WEBP_FLAGS: Final = 0b0001_0010
"""Of a VP8X header: transparency and animation are kept; profile, EXIF and XMP are not."""


def without_metadata(data: bytes, format: str) -> bytes | None:
    """The file without metadata; the same object if it has none; None if its structure cannot be followed.

    Args:
        data: a file.
        format: Pillow's name of its format.
    """
    strip = {"JPEG": _jpeg, "MPO": _jpeg, "PNG": _png, "WEBP": _webp}.get(format)
    try:
        stripped = data if strip is None else strip(data)
    except (struct.error, IndexError, ValueError):
        return None
    return data if stripped == data else stripped


def _jpeg(data: bytes) -> bytes:
    parts, at = [data[:2]], 2
    while True:
        marker = data[at + 1]
        if data[at] != 0xFF:
            raise ValueError("expected a marker")
        # End of image. What follows it (a second picture, a video of a phone) is dropped.
        if marker == 0xD9:
            return b"".join([*parts, data[at : at + 2]])
        # A segment is its two marker bytes and a length that counts itself (two bytes) but not the marker.
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        segment = data[at:end]
        if marker == 0xDA:
            # The coded data of a scan follows its header.
            following = _MARKER.search(data, end)
            if following is None:
                raise ValueError("expected the picture's end")
            segment, end = data[at : following.start()], following.start()
        # FE is a comment, E0 to EF are application data (EXIF, XMP, profiles). Two of these tell how to read the pixels
        # and stay: EE is Adobe's, which holds the colour transform, and JFIF's header.
        is_text = marker == 0xFE or (0xE0 <= marker <= 0xEF and marker != 0xEE and segment[4:9] != b"JFIF\0")
        if not is_text:
            parts.append(segment)
        at = end


def without_text(data: bytes) -> bytes | None:
    """A PNG file without its texts and its colour profile; None if it is no PNG, or its structure cannot be followed.

    Pillow refuses a picture whose texts or profile are large when unpacked, though they say nothing of its pixels.
    """
    if not data.startswith(PNG_SIGNATURE):
        return None
    try:
        return _png(data, dropped=_PNG_TEXTS)
    except (struct.error, IndexError):
        return None


def png_profile(data: bytes) -> bytes | None:
    """The colour profile of a PNG file, however large it is; None if there is none that can be unpacked."""
    at = len(PNG_SIGNATURE)
    try:
        while data[at + 4 : at + 8] not in (b"IDAT", b"IEND"):
            (length,) = struct.unpack_from(">I", data, at)
            if data[at + 4 : at + 8] == b"iCCP":
                # A name, a zero, the method of compression (always 0), and the compressed profile.
                packed = data[at + 8 : at + 8 + length].partition(b"\0")[2][1:]
                return zlib.decompressobj().decompress(packed, _LARGEST_PROFILE) or None
            at += 12 + length
    except (struct.error, zlib.error):
        pass
    return None


def png_colours(data: bytes) -> bytes:
    """The chunks of a PNG file that say, beside a profile, how its colours are shown; empty if there are none."""
    chunks, at = [], len(PNG_SIGNATURE)
    try:
        # They stand before the palette and the pixels.
        while data[at + 4 : at + 8] not in (b"PLTE", b"IDAT", b"IEND"):
            end = at + 12 + struct.unpack_from(">I", data, at)[0]
            if data[at + 4 : at + 8] in _PNG_COLOURS and end <= len(data):
                chunks.append(data[at:end])
            at = end
    except struct.error:
        return b""
    return b"".join(chunks)


def _png(data: bytes, dropped: frozenset[bytes] | None = None) -> bytes:
    parts, at = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while True:
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        if kind in _PNG_KEPT if dropped is None else kind not in dropped:
            parts.append(data[at : at + 12 + length])
        # A chunk is its length (4 bytes), type (4), data and checksum (4); the length is that of the data alone.
        at += 12 + length
        if kind == b"IEND":
            return b"".join(parts)


def _webp(data: bytes) -> bytes:
    parts, at = [], 12
    # The size in the header counts from byte 8 on, where "WEBP" stands.
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    while at + 8 <= end:
        kind = data[at : at + 4]
        (length,) = struct.unpack_from("<I", data, at + 4)
        # Chunks of odd length are followed by one byte of padding that their length does not count.
        chunk = data[at : at + 8 + length + length % 2]
        if kind == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & _WEBP_FLAGS]) + chunk[9:]
        if kind not in _WEBP_DROPPED:
            parts.append(chunk)
        at += 8 + length + length % 2
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
