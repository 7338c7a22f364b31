"""Every kind of picture becomes upright 8-bit RGB, or a one-line error that says what to do."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from equipoise.errors import PictureError
from equipoise.media.appearance import read_appearance
from equipoise.media.decode import DecodeLimits, decode_picture, open_picture

DEFAULT = DecodeLimits()
UNDO = {
    orientation: Image.Transpose(number) for orientation, number in {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.items()
}
"""The inverse transpose for each orientation."""


def noise(height: int = 12, width: int = 17, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def rejected(path: Path, limits: DecodeLimits = DEFAULT) -> str:
    with pytest.raises(PictureError) as caught:
        open_picture(path, limits)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("expected ")
    assert "; try " in message
    assert str(path) in message
    return message


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_lossless_rgb_is_kept(tmp_path: Path, suffix: str) -> None:
    values = noise()
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    picture = open_picture(tmp_path / f"a.{suffix}")
    assert picture.mode == "RGB"
    assert np.array_equal(np.asarray(picture), values)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(noise()).convert(mode)
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    source.save(path)
    picture = open_picture(path)
    assert (picture.mode, picture.size) == ("RGB", source.size)


def test_grey_has_three_equal_channels(tmp_path: Path) -> None:
    values = noise(channels=1)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(open_picture(tmp_path / "a.png")), np.repeat(values[..., None], 3, 2))


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    if suffix == "pgm":
        (tmp_path / "a.pgm").write_bytes(b"P5 16 16 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    grey = np.asarray(open_picture(tmp_path / f"a.{suffix}"))[..., 0]
    assert np.array_equal(grey.ravel(), np.arange(256))


def grey_tiff(rows: list[bytes], width: int, bits: int, photometric: int, orientation: int = 1) -> bytes:
    data = b"".join(rows)
    tags = {256: width, 257: len(rows), 258: bits, 259: 1, 262: photometric, 273: 8, 274: orientation, 277: 1}
    tags |= {278: len(rows), 279: len(data), 339: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<4sI", b"II*\0", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("bits", "photometric"), [(8, 0), (8, 1), (12, 1), (16, 0), (16, 1)])
def test_grey_of_a_tiff_has_its_stated_range(tmp_path: Path, bits: int, photometric: int, orientation: int) -> None:
    levels = np.arange(256).reshape(16, 16)
    stored = np.rint(levels * (2**bits - 1) / 255).astype(int)
    written = stored if photometric else 2**bits - 1 - stored
    if bits == 12:
        rows = [b"".join(((a << 12) + b).to_bytes(3, "big") for a, b in row.reshape(-1, 2).tolist()) for row in written]
    else:
        rows = [row.astype(f"<u{bits // 8}").tobytes() for row in written]
    (tmp_path / "a.tif").write_bytes(grey_tiff(rows, 16, bits, photometric, orientation))
    grey = np.asarray(open_picture(tmp_path / "a.tif"))[..., 0]
    assert np.array_equal(grey, levels if orientation == 1 else np.rot90(levels, -1))


def test_sixteen_bit_colour_keeps_its_range(tmp_path: Path) -> None:
    values = (noise().astype(np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert np.array_equal(np.asarray(open_picture(tmp_path / "a.png")), noise())


def test_transparent_places_become_white(tmp_path: Path) -> None:
    values = np.zeros((2, 2, 4), np.uint8)
    values[0, 0] = (200, 10, 10, 255)
    values[0, 1] = (0, 0, 0, 128)
    Image.fromarray(values).save(tmp_path / "a.png")
    picture = open_picture(tmp_path / "a.png")
    assert picture.getpixel((0, 0)) == (200, 10, 10)
    assert picture.getpixel((1, 0)) == (127, 127, 127)
    assert picture.getpixel((1, 1)) == (255, 255, 255)


def test_transparent_palette_entry_becomes_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / "a.png", transparency=0)
    opened = open_picture(tmp_path / "a.png")
    assert (opened.getpixel((0, 0)), opened.getpixel((1, 1))) == ((255, 255, 255), (0, 0, 255))


def test_cmyk_colours_are_not_inverted(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (230, 20, 30)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    red, green, blue = open_picture(tmp_path / "a.jpg").getpixel((8, 8))
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(noise())
    stored = upright.transpose(UNDO[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    opened = open_picture(tmp_path / "a.png")
    assert np.array_equal(np.asarray(opened), np.asarray(upright))
    assert not opened.getexif()
    opened.save(tmp_path / "b.png")
    assert np.array_equal(np.asarray(open_picture(tmp_path / "b.png")), np.asarray(upright))


@pytest.mark.parametrize("exif", [b"garbage", b"Exif\0\0garbage!", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12"])
@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_exif_that_cannot_be_read_turns_nothing(tmp_path: Path, suffix: str, exif: bytes) -> None:
    image = Image.fromarray(np.dstack([noise(), np.full((12, 17), 128, np.uint8)]))
    image = image.convert("RGB") if suffix == "jpg" else image
    plain, broken = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    image.save(plain)
    image.save(broken, exif=exif)
    assert open_picture(broken).tobytes() == open_picture(plain).tobytes()
    assert (read_appearance(broken).rgba is None) == (suffix == "jpg")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_tiff_that_has_to_be_turned_is_turned(tmp_path: Path, mode: str, compression: str) -> None:
    grey = Image.fromarray(noise(channels=1).astype(np.uint16) * 257)
    upright = grey if mode == "I;16" else Image.fromarray(noise(channels=4)).convert(mode)
    upright.save(tmp_path / "a.tif", compression=compression)
    expected = np.asarray(open_picture(tmp_path / "a.tif"))
    for orientation, undo in UNDO.items():
        upright.transpose(undo).save(tmp_path / "b.tif", compression=compression, tiffinfo={274: orientation})
        assert np.array_equal(np.asarray(open_picture(tmp_path / "b.tif")), expected)
        rgba = read_appearance(tmp_path / "b.tif").rgba
        assert rgba is None or rgba.shape[:2] == expected.shape[:2]
        assert (rgba is not None) == (mode in ("LA", "RGBA"))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_animated_and_paged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(noise(seed=s)) for s in range(3)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    message = rejected(tmp_path / f"a.{suffix}")
    assert "expected a still picture, got 3 frames" in message
    assert "try the first frame saved as PNG" in message


def test_still_gif_is_fine(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.gif")
    assert open_picture(tmp_path / "a.gif").mode == "RGB"


def test_phone_photo_with_a_preview_is_fine(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(seed=s)) for s in range(2)]
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert open_picture(tmp_path / "a.jpg").size == frames[0].size


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tiff", "bmp"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(90, 80)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    rejected(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_a_picture_or_an_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a"
    suffix = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]))
    Image.fromarray(noise()).save(path, format=suffix)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        picture = open_picture(path)
    except PictureError:
        rejected(path)
    else:
        assert picture.mode == "RGB"


def test_decompression_bombs_are_refused_undecoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(60_000, 60_000))
    (tmp_path / "large.png").write_bytes(png_claiming(9_000, 9_000))
    assert "67,108,864 pixels" in rejected(tmp_path / "bomb.png")
    assert "got 9000 x 9000 = 81,000,000" in rejected(tmp_path / "large.png")


def test_the_size_limit_can_be_changed(tmp_path: Path) -> None:
    Image.fromarray(noise(10, 10)).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png", DecodeLimits(max_pixels=100)).size == (10, 10)
    rejected(tmp_path / "a.png", DecodeLimits(max_pixels=99))


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("a picture of a cat")
    (tmp_path / "zero.png").write_bytes(png_claiming(0, 5))
    (tmp_path / "header.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("empty.png", "text.png", "zero.png", "header.png", "missing.png"):
        rejected(tmp_path / name)
    rejected(tmp_path)
    Image.fromarray(noise(channels=1).astype(np.float32)).save(tmp_path / "float.tiff")
    assert "32 bits" in rejected(tmp_path / "float.tiff")
    Image.fromarray(noise(channels=1).astype(np.int32)).save(tmp_path / "integer.tiff")
    assert "32 bits" in rejected(tmp_path / "integer.tiff")


def test_unreadable_paths_are_refused(tmp_path: Path) -> None:
    rejected(tmp_path / ("x" * 300 + ".png"))
    rejected(Path("/dev/null"))


def test_a_png_whose_checksums_do_not_fit_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "flipped.png"
    Image.effect_noise((64, 64), 90).convert("RGB").save(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(bytes(content))
    with pytest.raises(PictureError, match="damaged"):
        open_picture(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_only_the_formats_that_the_limits_name_are_tried(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise()).save(path, format=kind)
    limits = DecodeLimits(formats=("PNG", "JPEG"))
    if kind in ("PNG", "JPEG"):
        assert np.array_equal(np.asarray(open_picture(path, limits)), np.asarray(open_picture(path)))
    else:
        assert "try a file of PNG, JPEG" in rejected(path, limits)


def test_a_jpeg_with_previews_needs_a_decoder_of_such_files(tmp_path: Path) -> None:
    views = [Image.fromarray(noise(seed=seed)) for seed in range(2)]
    views[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=views[1:])
    assert "got 2 frames" in rejected(tmp_path / "a.jpg", DecodeLimits(formats=("JPEG",)))
    assert open_picture(tmp_path / "a.jpg", DecodeLimits(formats=("JPEG", "MPO"))).size == views[0].size


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_bytes_and_the_file_that_holds_them_are_one_picture(
    kind: str, width: int, height: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("same") / "a"
    Image.fromarray(noise(height, width, seed=seed)).save(path, format=kind)
    opened, decoded = open_picture(path), decode_picture(path.read_bytes(), "a test")
    assert opened.size == decoded.size == (width, height)
    assert opened.tobytes() == decoded.tobytes()


def test_refused_bytes_are_called_by_the_name_given() -> None:
    for content in (b"", b"text", png_claiming(9_000, 9_000)):
        with pytest.raises(PictureError, match=r"^expected .* a cell of a table.*; try "):
            decode_picture(content, "a cell of a table")


def test_the_transparent_colour_of_an_rgb_file_becomes_white(tmp_path: Path) -> None:
    picture = Image.new("RGB", (2, 1), (10, 20, 30))
    picture.putpixel((1, 0), (40, 50, 60))
    picture.save(tmp_path / "a.png", transparency=(10, 20, 30))
    opened = open_picture(tmp_path / "a.png")
    assert (opened.getpixel((0, 0)), opened.getpixel((1, 0))) == ((255, 255, 255), (40, 50, 60))


@pytest.mark.parametrize("compressed", [True, False])
def test_texts_of_any_size_do_not_keep_a_picture_from_opening(tmp_path: Path, compressed: bool) -> None:
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    texts = PngInfo()
    count = 1 if compressed else 70
    for number in range(count):
        texts.add_text(f"workflow{number}", "x" * 3_000_000 if compressed else "y" * 1_000_000, zip=compressed)
    picture.save(tmp_path / "p.png", pnginfo=texts)
    assert open_picture(tmp_path / "p.png").tobytes() == picture.tobytes()
    assert decode_picture((tmp_path / "p.png").read_bytes(), "p").tobytes() == picture.tobytes()


def test_damage_beside_large_texts_is_still_damage(tmp_path: Path) -> None:
    texts = PngInfo()
    texts.add_text("workflow", "x" * 3_000_000, zip=True)
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG", pnginfo=texts)
    data = bytearray(file.getvalue())
    at = data.index(b"IDAT") + 8
    data[at] ^= 0xFF
    with pytest.raises(PictureError, match="damaged"):
        decode_picture(bytes(data), "p")


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1"])
@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".hif", ".jpg", ""])
def test_what_phones_write_names_the_package_that_reads_it(tmp_path: Path, suffix: str, brand: bytes) -> None:
    file = tmp_path / f"p{suffix}"
    file.write_bytes(b"\x00\x00\x00\x18ftyp" + brand + b"\x00\x00\x00\x00mif1heic" + bytes(64))
    with pytest.raises(PictureError, match="pillow-heif, or a copy exported as JPEG"):
        open_picture(file)
    with pytest.raises(PictureError, match="pillow-heif, or a copy exported as JPEG"):
        decode_picture(file.read_bytes(), "p")


def test_a_drawing_is_not_given_to_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.eps")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *given, **more: pytest.fail("Ghostscript was run"))
    assert "got a file of EPS" in rejected(tmp_path / "a.eps")


def test_a_format_that_pillow_only_recognises_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    assert "got a file of HDF5" in rejected(tmp_path / "a.h5")
