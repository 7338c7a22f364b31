"""What a picture's file says of it beside pixels and colours: who made it, and what others may do with it.

A copy for people keeps that: EXIF, XMP, the usual texts of PNG, and the resolution. It does not keep the place where
the picture was taken, nor what holds for the original's pixels alone, such as previews and signatures.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image, TiffImagePlugin

from equipoise.media.exif import kept_exif

_LARGEST_XMP: Final = 2**20
"""Bytes of XMP that are kept: much software reads no longer text of a PNG."""
_TEXTS: Final = ("Title", "Author", "Description", "Copyright", "Disclaimer", "Source")
"""Keywords of PNG (W3C PNG 3, section 11.3.3.1) by which owners speak."""
_XMP_KEYWORD: Final = "XML:com.adobe.xmp"
_COMMENTED: Final = ("JPEG", "MPO", "GIF")
"""Formats whose comments people write; in others, programs do."""
_IPTC: Final = 0x0404, 33723
"""Where IPTC data lie: a resource of Photoshop in a JPEG, and a tag of a TIFF."""
_METRES_PER_INCH: Final = 0.0254
_GAIN_MAPS: Final = (b"hdrgm:Version", b"urn:iso:std:iso:ts:21496", b"hdrgainmap")
"""Adobe's and Google's, ISO's, and Apple's."""
_WIDE_TRANSFERS: Final = (16, 18)
"""PQ and HLG (ITU-T H.273, table 3)."""
_WIDE_PRIMARIES: Final = 9
"""Those of BT.2020."""


def _properties(names: str) -> re.Pattern[bytes]:
    """A pattern of XMP properties, which are attributes or elements."""
    attribute = rf"\s(?:{names})\s*=\s*(?:\"[^\"]*\"|'[^']*')"
    element = rf"<({names})(?=[\s/>])[^>]*?(?:/>|>.*?</\1\s*>)"
    return re.compile(f"{attribute}|{element}".encode(), re.DOTALL)


# Drones write properties of their own, such as `drone-dji:GpsLongtitude`, in several spellings.
_XMP_PLACE: Final = _properties(
    r"(?!xmlns:)[\w.-]+:(?:(?i:GPS\w*|\w*(?:latitude|longt?itude|altitude)\w*)|City|State|ProvinceState|Country"
    r"|CountryCode|CountryName|WorldRegion|Location|Sublocation|LocationCreated|LocationShown)"
)
_XMP_STALE: Final = _properties(
    r"[\w.-]+:(?:Orientation|ImageWidth|ImageLength|PixelXDimension|PixelYDimension|Thumbnails)"
    r"|(?:hdrgm|HDRGainMap|apdi|Container|Item|GCamera|GDepth|GImage|xmpNote):[\w.-]+"
)
"""What describes the stored pixels, and further pictures in the file."""


@dataclass(frozen=True)
class FileData:
    """What a copy keeps of a file's own words."""

    chunks: bytes = b""
    """Whole chunks of a PNG."""
    notes: tuple[str, ...] = ()
    """What it cannot keep, in words."""


def read_file_data(opened: Image.Image, data: bytes) -> FileData:
    """What a copy keeps of a file, and what it leaves out.

    Args:
        opened: the picture, loaded.
        data: its file.
    """
    exif, left_out = _exif(opened, data)
    xmp, more = _xmp(opened)
    texts, others = _texts(opened)
    left_out += [*more, *others, *_further(opened, data)]
    notes = [f"left out of the copy: {', '.join(dict.fromkeys(left_out))}"] if left_out else []
    if _is_wide(data):
        notes.append(
            "the copy does not say that its colours are of a wide range (HDR or BT.2020): it may look different"
        )
    return FileData(b"".join([_resolution(opened), exif, xmp, *texts]), tuple(notes))


def _exif(opened: Image.Image, data: bytes) -> tuple[bytes, list[str]]:
    block = data if isinstance(opened, TiffImagePlugin.TiffImageFile) else opened.info.get("exif")
    if not isinstance(block, bytes) or not block:
        return b"", []
    try:
        kept = kept_exif(block)
    except ValueError:
        return b"", ["EXIF data that cannot be read"]
    left_out = ["the place where it was taken"] * kept.had_place + ["the notes of the camera's maker"] * (
        kept.had_maker_notes
    )
    return _chunk(b"eXIf", kept.block) if kept.block else b"", left_out


def _xmp(opened: Image.Image) -> tuple[bytes, list[str]]:
    xmp = opened.info.get("xmp")
    if not isinstance(xmp, bytes) or not xmp.strip(b"\0"):
        return b"", []
    xmp = xmp.rstrip(b"\0")
    try:
        xmp.decode()
    except UnicodeDecodeError:
        return b"", ["XMP data that cannot be read"]
    if len(xmp) > _LARGEST_XMP:
        return b"", [f"XMP data of more than {_LARGEST_XMP:,} bytes"]
    placeless = _XMP_PLACE.sub(b"", xmp)
    left_out = ["the place where it was taken"] if placeless != xmp else []
    left_out += ["further XMP data"] if b"HasExtendedXMP" in xmp else []
    return _text(_XMP_KEYWORD, _XMP_STALE.sub(b"", placeless)), left_out


def _texts(opened: Image.Image) -> tuple[list[bytes], list[str]]:
    """The texts of a PNG."""
    texts: dict[str, Any] = getattr(opened, "text", {})
    kept = [_text(name, str(texts[name]).encode(errors="replace")) for name in _TEXTS if name in texts]
    return kept, ["further texts"] if texts.keys() - {*_TEXTS, _XMP_KEYWORD} else []


def _further(opened: Image.Image, data: bytes) -> list[str]:
    """What the file holds beside that, and no copy can or does keep."""
    resources: Any = opened.info.get("photoshop", {})
    tags: Any = getattr(opened, "tag_v2", {})
    holds = {
        "the comment": opened.format in _COMMENTED and bool(opened.info.get("comment")),
        "IPTC data": _IPTC[0] in resources or _IPTC[1] in tags,
        # A box of JUMBF and the label of its content.
        "the content credentials (C2PA), which hold for the original alone": b"jumb" in data and b"c2pa" in data,
        "the gain map of HDR screens": any(mark in data for mark in _GAIN_MAPS),
    }
    return [name for name, is_there in holds.items() if is_there]


def _is_wide(data: bytes) -> bool:
    """Whether an AVIF or HEIF file says that its colours are more than a usual PNG can show."""
    at = data.find(b"colrnclx", 0, 2**16)
    if at < 0 or len(data) < at + 12:
        return False
    primaries, transfer = struct.unpack_from(">HH", data, at + 8)
    return primaries == _WIDE_PRIMARIES or transfer in _WIDE_TRANSFERS


def _resolution(opened: Image.Image) -> bytes:
    """The resolution of a picture that has the same one in both directions, as these may have been turned.

    Pillow says 1 where a TIFF has none.
    """
    dots = opened.info.get("dpi")
    if not isinstance(dots, tuple) or len(dots) != 2 or dots[0] != dots[1]:
        return b""
    per_inch = float(dots[0])
    if not math.isfinite(per_inch) or not 1 < per_inch < 2**24:
        return b""
    per_metre = round(per_inch / _METRES_PER_INCH)
    return _chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1))


def _text(keyword: str, text: bytes) -> bytes:
    """A text in UTF-8, neither compressed nor translated."""
    return _chunk(b"iTXt", keyword.encode("latin-1") + bytes(5) + text)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
