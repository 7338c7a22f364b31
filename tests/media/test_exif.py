"""EXIF data of a copy: the owner's fields byte for byte, no place, nothing about the stored pixels."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from equipoise.media.exif import kept_exif

COPYRIGHT = "© Jané Artist".encode()
PREVIEW = b"preview" * 30


def block(order: str, *, located: bool = True) -> bytes:
    """EXIF data with a copyright of letters beyond ASCII, a turned picture, an exposure, notes of a maker, a place."""

    def directory(at: int, fields: list[tuple[int, int, bytes]]) -> bytes:
        entries, values = b"", b""
        size = {2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
        for tag, kind, content in fields:
            where = content.ljust(4, b"\0")
            if len(content) > 4:
                where = struct.pack(order + "I", at + 2 + 12 * len(fields) + 4 + len(values))
                values += content
            entries += struct.pack(order + "HHI", tag, kind, len(content) // size[kind]) + where
        return struct.pack(order + "H", len(fields)) + entries + bytes(4) + values

    def main(details: int, gps: int) -> bytes:
        number = struct.Struct(order + "I").pack
        fields = [
            (0x0112, 3, struct.pack(order + "H", 6)),
            (0x8298, 2, COPYRIGHT + b"\0"),
            (0x8769, 4, number(details)),
        ]
        return directory(8, [*fields, *([(0x8825, 4, number(gps))] if located else [])])

    details = [(0x829A, 5, struct.pack(order + "II", 1, 250)), (0x927C, 7, PREVIEW), (0xA002, 4, bytes(4))]
    first = 8 + len(main(0, 0))
    inner = directory(first, details)
    gps = directory(first + len(inner), [(1, 2, b"N\0")])
    begin = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return begin + main(first, first + len(inner)) + inner + (gps if located else b"")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("located", [True, False])
def test_the_words_of_the_owner_stay_and_the_place_does_not(order: str, located: bool) -> None:
    kept = kept_exif(b"Exif\0\0" + block(order, located=located))
    assert (kept.had_place, kept.had_maker_notes) == (located, True)
    assert COPYRIGHT in kept.block
    assert PREVIEW not in kept.block
    exif = Image.Exif()
    exif.load(kept.block)
    assert set(exif) == {ExifTags.Base.Copyright, ExifTags.Base.ExifOffset}
    assert exif.get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.ExposureTime: 1 / 250}
    again = kept_exif(kept.block)
    assert (again.block, again.had_place, again.had_maker_notes) == (kept.block, False, False)


def test_nothing_is_kept_of_data_about_pixels_alone() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert kept_exif(exif.tobytes()).block == b""


@given(cut=st.integers(0, 400), at=st.integers(0, 400), value=st.integers(0, 255))
def test_damaged_data_are_an_error_or_less_data(cut: int, at: int, value: int) -> None:
    data = bytearray(block("<"))
    data[at % len(data)] = value
    for damaged in (bytes(data), bytes(data[:cut])):
        try:
            kept = kept_exif(damaged)
        except ValueError:
            continue
        assert len(kept.block) <= 2 * len(damaged)
