"""What the upstream sees is what was looked at; what cannot be looked at is an error, with limits first."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from equipoise.errors import PictureError
from equipoise.guard.gateway.picture_decoding import decode_picture_url
from equipoise.guard.policy import PicturePolicy

LIMITS = PicturePolicy(max_bytes=200_000, max_pixels=40_000)


def url(image: Image.Image, kind: str = "PNG", **more: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def picture(size: tuple[int, int] = (30, 20)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_the_picture_that_is_passed_on_is_the_one_that_was_looked_at(kind: str) -> None:
    decoded = decode_picture_url(url(picture(), kind), LIMITS)
    again = decode_picture_url(decoded.url, LIMITS)
    assert decoded.image.mode == "RGB"
    assert np.array_equal(np.asarray(decoded.image), np.asarray(again.image))
    assert again.url == decoded.url
    if kind == "PNG":
        assert np.array_equal(np.asarray(decoded.image), np.asarray(picture()))


def test_it_is_turned_as_its_exif_says_and_the_exif_is_dropped() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "where I live"
    decoded = decode_picture_url(url(picture(), "JPEG", exif=exif, quality=95), LIMITS)
    assert decoded.image.size == (20, 30)
    assert b"where I live" not in base64.b64decode(decoded.url.partition(",")[2])
    assert not Image.open(io.BytesIO(base64.b64decode(decoded.url.partition(",")[2]))).getexif()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image = clear.convert(mode) if mode != "P" else clear.quantize(4)
    assert decode_picture_url(url(image), LIMITS).image.getpixel((3, 3)) == (255, 255, 255)


def test_several_frames_are_not_looked_at() -> None:
    frames = [picture(), picture((30, 20)).rotate(90)]
    with pytest.raises(PictureError, match="a still picture, got 2 frames"):
        decode_picture_url(url(frames[0], "GIF", save_all=True, append_images=frames[1:]), LIMITS)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("https://example.com/cat.png", "data URL"),
        ("file:///etc/passwd", "data URL"),
        ("data:image/png;base64,!!!!", "base64"),
        ("data:image/png;base64,AAAA", "got something else"),
        ("data:image/png,plain", "data URL"),
        ("data:text/html;base64,PGI+", "data URL"),
        ("", "data URL"),
        ("data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode(), "got something else"),
        ("data:image/png;base64," + "A" * 400_000, "at most 200000 bytes"),
    ],
)
def test_what_is_no_picture_is_one_error(given: str, says: str) -> None:
    with pytest.raises(PictureError, match=says):
        decode_picture_url(given, LIMITS)


def test_too_many_pixels_are_not_decoded() -> None:
    with pytest.raises(PictureError, match="pixels"):
        decode_picture_url(url(Image.new("RGB", (300, 300))), LIMITS)
    with pytest.raises(PictureError):
        decode_picture_url(url(Image.new("1", (20_000, 20_000))), PicturePolicy(max_pixels=10_000_000))


def test_half_a_picture_is_no_picture() -> None:
    head, data = url(picture((100, 100))).split(",")
    # A multiple of four, so that the base64 itself is whole.
    with pytest.raises(PictureError, match="damaged or truncated"):
        decode_picture_url(f"{head},{data[: len(data) // 8 * 4]}", LIMITS)


def url_of(image: Image.Image, form: str, **more: Any) -> str:
    file = io.BytesIO()
    image.save(file, form, **more)
    return f"data:image/{form.lower()};base64," + base64.b64encode(file.getvalue()).decode()


def photo(size: tuple[int, int] = (400, 300)) -> Image.Image:
    ramp = np.linspace(0, 255, size[0])[None, :, None] + np.random.default_rng(0).normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray(np.clip(ramp, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "url",
    [
        url_of(photo(), "JPEG", quality=85),
        url_of(photo(), "PNG"),
        url_of(photo(), "WEBP"),
        url_of(photo().convert("L"), "JPEG"),
        url_of(photo().convert("P"), "PNG"),
        url_of(photo().convert("P"), "GIF"),
    ],
)
def test_a_picture_that_needs_no_change_passes_byte_for_byte(url: str) -> None:
    assert decode_picture_url(url, PicturePolicy()).url == url


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_metadata_goes_or_stays_by_policy(form: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret"
    url = url_of(photo(), form, exif=exif)
    assert decode_picture_url(url, PicturePolicy(metadata="keep")).url == url
    stripped = decode_picture_url(url, PicturePolicy()).url
    assert b"a secret" not in base64.b64decode(stripped.partition(",")[2])
    assert abs(len(stripped) - len(url)) < 400


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_a_turned_picture_stays_in_its_kind_and_size(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    url = url_of(photo(), form, exif=exif, quality=85)
    picture = decode_picture_url(url, PicturePolicy())
    assert picture.image.size == (300, 400)
    assert picture.url.startswith(f"data:image/{form.lower()};")
    assert len(picture.url) < 1.5 * len(url)
    again = decode_picture_url(picture.url, PicturePolicy())
    assert (again.url, again.image.tobytes()) == (picture.url, picture.image.tobytes())


def test_sixteen_bits_are_scaled_and_cmyk_is_converted() -> None:
    wide = Image.fromarray(np.tile(np.linspace(0, 65535, 256).astype("uint16"), (256, 1)))
    grey = np.asarray(decode_picture_url(url_of(wide, "PNG"), PicturePolicy()).image)[0, :, 0]
    assert np.array_equal(grey, np.arange(256))
    cmyk = url_of(photo().convert("CMYK"), "JPEG", quality=85)
    picture = decode_picture_url(cmyk, PicturePolicy())
    sent = Image.open(io.BytesIO(base64.b64decode(picture.url.partition(",")[2])))
    assert (sent.format, sent.mode) == ("JPEG", "RGB")
    assert np.abs(np.asarray(sent).astype(int) - np.asarray(photo()).astype(int)).mean() < 12


def test_transparency_is_flattened_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    for form in ("PNG", "WEBP"):
        picture = decode_picture_url(
            url_of(clear, form, **({"lossless": True} if form == "WEBP" else {})), PicturePolicy()
        )
        assert picture.image.getpixel((3, 3)) == (255, 255, 255)
        assert Image.open(io.BytesIO(base64.b64decode(picture.url.partition(",")[2]))).mode == "RGB"


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_animations_are_refused_with_the_reason(form: str) -> None:
    frames = [photo((40, 30)), photo((40, 30)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    url = url_of(frames[0], form, save_all=True, append_images=frames[1:])
    with pytest.raises(PictureError, match="frames"):
        decode_picture_url(url, PicturePolicy())


def test_the_previews_of_a_phone_s_picture_are_left_out() -> None:
    url = url_of(photo(), "MPO", save_all=True, append_images=[photo((40, 30))]).replace("image/mpo", "image/jpeg")
    picture = decode_picture_url(url, PicturePolicy())
    sent = Image.open(io.BytesIO(base64.b64decode(picture.url.partition(",")[2])))
    assert (sent.format, sent.size) == ("JPEG", (400, 300))


@pytest.mark.parametrize(
    "head",
    [
        *("data:;base64", "data:application/octet-stream;base64", "data:image/*;base64", "data:None;base64"),
        *("data:image/png;name=a b.png;base64", "DATA:Image/PNG;BASE64", "data:image/png; base64"),
    ],
)
def test_the_bytes_of_a_data_url_decide_what_it_is(head: str) -> None:
    usual = url(picture())
    packed = usual.split(",")[1]
    for spelled in (packed, packed.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D")):
        sent = decode_picture_url(f"{head},{spelled}", PicturePolicy()).url
        assert sent.lower().startswith("data:image/png;base64,")
        assert sent.split(",")[1] == packed


def test_spellings_that_decoders_disagree_about_become_the_usual_one() -> None:
    usual = url(picture())
    head, packed = usual.split(",")
    assert {"+", "/"} <= set(packed)
    spellings = [
        packed.replace("+", "-").replace("/", "_"),
        "\r\n".join(packed[at : at + 76] for at in range(0, len(packed), 76)),
        f" {packed}\n",
        packed.rstrip("=") + "==",
    ]
    for spelling in spellings:
        decoded = decode_picture_url(f"  {head},{spelling}", LIMITS)
        assert decoded.url == usual
        assert np.array_equal(np.asarray(decoded.image), np.asarray(picture()))


def test_texts_that_are_too_large_when_unpacked_are_left_out() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 3_000_000, zip=True)
    decoded = decode_picture_url(url(picture(), pnginfo=info), LIMITS)
    assert len(decoded.url) == len(url(picture()))


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "ICO", "PPM"])
def test_kinds_that_upstreams_do_not_read_are_refused_with_those_that_they_do(kind: str) -> None:
    with pytest.raises(PictureError, match="try a file of PNG, JPEG"):
        decode_picture_url(url(picture((32, 32)), kind), LIMITS)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "file-abc123", "blob:x", "data:,x", "data:image/png,%89PNG"])
def test_addresses_that_are_no_data_are_refused(address: str) -> None:
    with pytest.raises(PictureError, match="expected a picture as a base64 data URL"):
        decode_picture_url(address, LIMITS)
