"""What people see of a picture: profiles and transparency are kept, and a change stays within its budget on white."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from equipoise.media.appearance import LARGEST_KEPT, Appearance, on_white, read_appearance
from equipoise.media.decode import open_picture
from equipoise.media.encode import png_bytes
from equipoise.media.metadata import png_colours, png_profile
from tests.media.test_decode import chunk

RANDOM = np.random.default_rng(0)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def colours(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def test_a_plain_picture_has_nothing_to_keep(tmp_path: Path) -> None:
    Image.fromarray(colours(6, 5, 3)).save(tmp_path / "p.png")
    opaque = np.concatenate([colours(6, 5, 3), np.full((6, 5, 1), 255, np.uint8)], -1)
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    for name in ("p.png", "opaque.png"):
        appearance = read_appearance(tmp_path / name)
        assert appearance.profile is None
        assert appearance.rgba is None


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_the_profile_of_rgb_colours_is_kept(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"p.{suffix}"
    Image.fromarray(colours(6, 5, 3)).save(file, icc_profile=PROFILE)
    assert read_appearance(file).profile == PROFILE


def test_a_profile_and_transparency_are_kept_beside_texts_that_are_too_large_for_pillow(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("workflow", "x" * 3_000_000, zip=True)
    rgba = np.concatenate([colours(6, 5, 3), np.full((6, 5, 1), 128, np.uint8)], -1)
    Image.fromarray(rgba).save(tmp_path / "p.png", icc_profile=PROFILE, pnginfo=texts)
    appearance = read_appearance(tmp_path / "p.png")
    assert appearance.profile == PROFILE
    assert np.array_equal(appearance.rgba, rgba)


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_a_profile_that_pillow_opens_in_no_png_is_left_out_with_a_note(tmp_path: Path, suffix: str) -> None:
    for size in (LARGEST_KEPT, LARGEST_KEPT + 1):
        file = tmp_path / f"p{size}.{suffix}"
        Image.fromarray(colours(6, 5, 3)).save(file, icc_profile=PROFILE + bytes(size - len(PROFILE)))
    kept, left_out = (read_appearance(tmp_path / f"p{LARGEST_KEPT + more}.{suffix}") for more in (0, 1))
    assert kept.profile is not None
    assert len(kept.profile) == LARGEST_KEPT
    assert kept.notes == ()
    assert left_out.profile is None
    assert "the colour profile of 1,048,577 bytes is left out" in left_out.notes[0]
    # The limit is that of Pillow: a copy with the largest kept profile opens.
    with Image.open(io.BytesIO(png_bytes(Image.new("RGB", (2, 2)), icc_profile=kept.profile))) as copy:
        assert copy.info["icc_profile"] == kept.profile


def test_what_a_png_says_of_its_colours_is_kept_in_its_copy(tmp_path: Path) -> None:
    gamma, primaries = chunk(b"gAMA", struct.pack(">I", 100000)), chunk(b"cICP", bytes([12, 13, 0, 1]))
    plain = png_bytes(Image.fromarray(colours(6, 5, 3)))
    (tmp_path / "p.png").write_bytes(plain[:33] + chunk(b"tEXt", b"a\0b") + gamma + primaries + plain[33:])
    appearance = read_appearance(tmp_path / "p.png")
    assert appearance.colour_chunks == gamma + primaries
    copy = png_bytes(Image.fromarray(colours(6, 5, 3)), chunks=appearance.colour_chunks)
    assert png_colours(copy) == gamma + primaries
    with Image.open(io.BytesIO(copy)) as opened:
        opened.load()
        assert opened.info["gamma"] == 1.0
    Image.fromarray(colours(6, 5, 3)).save(tmp_path / "p.jpg")
    assert read_appearance(tmp_path / "p.jpg").colour_chunks == b""
    assert png_colours(plain[:20]) == png_colours(plain[:33] + gamma[:-6]) == b""


def test_a_16_bit_grey_that_stands_for_transparent_is_kept(tmp_path: Path) -> None:
    # 32896 and 32897 are both 128 in 8 bits; one of them is transparent.
    grey = np.array([[0, 32896, 32897, 65535]], ">u2")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, 16, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + grey.tobytes())) + chunk(b"IEND", b"")
    transparent = chunk(b"tRNS", struct.pack(">H", 32896))
    (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + transparent + pixels)
    appearance = read_appearance(tmp_path / "p.png")
    assert appearance.rgba is not None
    assert appearance.rgba[0, :, 3].tolist() == [255, 0, 255, 255]
    assert np.asarray(open_picture(tmp_path / "p.png"))[0, :, 0].tolist() == [0, 255, 128, 255]


def test_a_profile_that_cannot_be_unpacked_is_none() -> None:
    header = b"\x89PNG\r\n\x1a\n"
    for data in (header, header + b"\0\0\0\5iCCPa\0\0xy1234" + b"\0\0\0\0IDAT", header + b"\0\0\0\0IEND"):
        assert png_profile(data) is None


def test_a_profile_of_other_colours_is_not(tmp_path: Path) -> None:
    cmyk = PROFILE[:16] + b"CMYK" + PROFILE[20:]
    Image.fromarray(colours(6, 5, 4), mode="CMYK").save(tmp_path / "p.jpg", icc_profile=cmyk)
    appearance = read_appearance(tmp_path / "p.jpg")
    assert appearance.profile is None
    assert "one of CMYK colours and is left out" in appearance.notes[0]
    Image.fromarray(colours(6, 5, 3)).save(tmp_path / "junk.jpg", icc_profile=b"junk")
    assert read_appearance(tmp_path / "junk.jpg").notes == (), "no software reads it"


def test_transparency_is_read_upright(tmp_path: Path) -> None:
    rgba = colours(4, 6, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgba).save(tmp_path / "p.png", exif=exif)
    appearance = read_appearance(tmp_path / "p.png")
    assert appearance.rgba is not None
    assert appearance.rgba.shape == (6, 4, 4)
    assert np.array_equal(appearance.rgba, np.rot90(rgba, -1))
    assert Image.fromarray(appearance.rgba).size == open_picture(tmp_path / "p.png").size


@given(seed=st.integers(0, 10**6), levels=st.sampled_from([1, 8, 16]))
def test_a_change_never_exceeds_its_levels_on_white_and_unseen_pixels_stay(seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    rgba = random.integers(0, 256, (9, 8, 4), dtype=np.uint8)
    rgba[:3, :, 3], rgba[3:5, :, 3] = 0, 255
    clean = on_white(Image.fromarray(rgba))
    change = random.integers(-levels, levels + 1, (9, 8, 3))
    flat = Image.fromarray(np.clip(np.asarray(clean) + change, 0, 255).astype(np.uint8))
    applied = Appearance(rgba=rgba).applied(flat, clean, levels)
    shown = np.asarray(on_white(applied), dtype=int)
    assert np.abs(shown - np.asarray(clean, dtype=int)).max() <= levels
    assert np.array_equal(np.asarray(applied)[..., 3], rgba[..., 3])
    assert np.array_equal(np.asarray(applied)[:3], rgba[:3]), "nothing of a transparent pixel is seen"
    assert np.array_equal(shown[3:5], np.asarray(flat, dtype=int)[3:5]), "opaque pixels take the whole change"


def test_without_transparency_the_picture_is_returned_as_it_is() -> None:
    flat = Image.fromarray(colours(3, 3, 3))
    assert Appearance(PROFILE).applied(flat, flat, 8) is flat
