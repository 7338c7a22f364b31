"""What people see of a picture: profiles and transparency are kept, and a change stays within its budget on white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from equipoise.media.appearance import Appearance, on_white, read_appearance
from equipoise.media.decode import open_picture
from equipoise.media.metadata import png_profile

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


def test_a_profile_that_is_too_large_for_pillow_is_kept(tmp_path: Path) -> None:
    wide = PROFILE + bytes(2_000_000)
    Image.fromarray(colours(6, 5, 3)).save(tmp_path / "p.png", icc_profile=wide)
    assert read_appearance(tmp_path / "p.png").profile == wide


def test_a_profile_that_cannot_be_unpacked_is_none() -> None:
    header = b"\x89PNG\r\n\x1a\n"
    for data in (header, header + b"\0\0\0\5iCCPa\0\0xy1234" + b"\0\0\0\0IDAT", header + b"\0\0\0\0IEND"):
        assert png_profile(data) is None


def test_a_profile_of_other_colours_is_not(tmp_path: Path) -> None:
    cmyk = PROFILE[:16] + b"CMYK" + PROFILE[20:]
    Image.fromarray(colours(6, 5, 4), mode="CMYK").save(tmp_path / "p.jpg", icc_profile=cmyk)
    assert read_appearance(tmp_path / "p.jpg").profile is None


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
