"""What a picture's file says of its owner is in the copy, in every format; what is lost is named."""

from __future__ import annotations

import io
import struct
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from equipoise.media.decode import decode_picture, upright
from equipoise.media.encode import png_bytes
from equipoise.media.file_data import FileData, read_file_data

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8))
RIGHTS = b'plus:DataMining="http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-AIMLTRAINING"'


def xmp(attributes: bytes, elements: bytes = b"") -> bytes:
    names = b"".join(
        b' xmlns:%s="http://%s/"' % (name, name) for name in (b"plus", b"exif", b"tiff", b"hdrgm", b"photoshop")
    )
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b"<rdf:Description" + names + b" " + attributes + b">" + elements + b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def saved(kind: str, more: bytes = b"", **options: Any) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, kind, **options)
    return file.getvalue() + more


def read(data: bytes) -> FileData:
    with Image.open(io.BytesIO(data)) as opened:
        upright(opened)
        return read_file_data(opened, data)


def copied(data: bytes) -> Image.Image:
    """A copy of a file, opened; its pixels are as they were."""
    copy = png_bytes(PICTURE, chunks=read(data).chunks)
    assert decode_picture(copy, "copy").tobytes() == PICTURE.tobytes()
    opened = Image.open(io.BytesIO(copy))
    opened.load()
    return opened


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_owners_words_are_in_the_copy(kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Copyright] = "(c) Jane Artist"
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (1.0, 2.0, 3.0)}
    options = {} if kind in ("WEBP", "AVIF") else {"dpi": (300, 300)}
    text = xmp(
        RIGHTS + b' tiff:Orientation="6" exif:GPSLatitude="1,2N"', b"<exif:GPSLongitude>3,4E</exif:GPSLongitude>"
    )
    if kind == "TIFF":
        exif[ExifTags.Base.XMLPacket] = text
    block = exif.tobytes()
    data = saved(kind, exif=block, xmp=text, **options) if kind != "PNG" else with_xmp(text, exif=block, **options)
    copy = copied(data)
    fields = copy.getexif()
    assert fields[ExifTags.Base.Copyright] == "(c) Jane Artist"
    assert not {ExifTags.Base.Orientation, ExifTags.IFD.GPSInfo} & set(fields)
    assert RIGHTS in copy.info["xmp"]
    assert b"GPS" not in copy.info["xmp"]
    assert copy.info.get("dpi", (300, 300)) == pytest.approx((300, 300), abs=0.1)
    assert ("dpi" in copy.info) == bool(options)
    assert read(data).notes == ("left out of the copy: the place where it was taken",)
    assert ElementTree.fromstring(copy.info["xmp"]) is not None


def with_xmp(text: bytes, **options: Any) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", text.decode())
    return saved("PNG", pnginfo=info, **options)


def test_the_usual_texts_of_a_png_are_kept_and_others_named() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Copyright", "© Jane")
    assert read(saved("PNG", pnginfo=info)).notes == ()
    info.add_text("prompt", "a workflow", zip=True)
    data = saved("PNG", pnginfo=info)
    assert read(data).notes == ("left out of the copy: further texts",)
    assert copied(data).text == {"Copyright": "© Jane"}


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (saved("JPEG", comment=b"hello"), "the comment"),
        (saved("JPEG", b"jumb....c2pa"), "content credentials"),
        (saved("JPEG", xmp=xmp(b'hdrgm:Version="1.0"')), "gain map"),
        (saved("JPEG", xmp=b"\xff\xfe<"), "XMP data that cannot be read"),
        (saved("PNG", exif=b"garbage"), "EXIF data that cannot be read"),
        (saved("PNG", b"colrnclx" + struct.pack(">HHH", 9, 16, 9)), "wide range"),
        (saved("PNG", b"colrnclx" + struct.pack(">HHH", 1, 18, 1)), "wide range"),
    ],
)
def test_what_is_lost_is_named(data: bytes, note: str) -> None:
    (line,) = read(data).notes
    assert note in line
    assert "\n" not in line


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "JPEG2000"])
def test_nothing_is_said_of_a_plain_file(kind: str) -> None:
    assert read(saved(kind)).notes == ()


@pytest.mark.parametrize(
    "spelling", [b"exif:GPSLatitude", b"drone-dji:GpsLatitude", b"drone-dji:GpsLongtitude", b"gps:Longitude"]
)
def test_the_place_is_left_out_in_every_spelling(spelling: bytes) -> None:
    prefix = spelling.split(b":")[0]
    # Where one property of a prefix stays, so does the prefix.
    names = b"" if prefix == b"exif" else b' xmlns:%s="http://drone/" %s:Speed="1"' % (prefix, prefix)
    attribute = xmp(RIGHTS + names + b' %s="+22.5"' % spelling)
    element = xmp(RIGHTS + names, b"<%s>+22.5</%s>" % (spelling, spelling))
    for text in (attribute, element):
        data = saved("JPEG", xmp=text)
        copy = copied(data).info["xmp"]
        assert copy == xmp(RIGHTS + names)
        assert ElementTree.fromstring(copy) is not None
        assert read(data).notes == ("left out of the copy: the place where it was taken",)


def test_further_pictures_are_no_longer_described() -> None:
    directory = b'<Container:Directory><rdf:Seq><rdf:li Item:Length="7"/></rdf:Seq></Container:Directory>'
    copy = copied(saved("JPEG", xmp=xmp(RIGHTS + b" hdrgm:Version='1.0' photoshop:City='Rome'", directory)))
    assert copy.info["xmp"] == xmp(RIGHTS)
