"""PNG files and data URLs lose nothing, and a broken URL is refused before it is decoded."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from equipoise.errors import PictureError
from equipoise.media.decode import decode_picture
from equipoise.media.encode import data_url, png_bytes, png_data_url, read_data_url


def picture(seed: int = 0, size: tuple[int, int] = (7, 5)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    compress_level=st.integers(-1, 9),
)
def test_a_picture_survives_png_and_url_whatever_the_compression(
    seed: int, size: tuple[int, int], compress_level: int
) -> None:
    original = picture(seed, size)
    url = png_data_url(original, compress_level=compress_level)
    assert url == data_url(png_bytes(original, compress_level=compress_level))
    assert decode_picture(read_data_url(url), "a test").tobytes() == original.tobytes()


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200), media_type=st.sampled_from(["image/png", "image/jpeg", "image/svg+xml"]))
def test_any_bytes_survive_a_data_url(content: bytes, media_type: str) -> None:
    url = data_url(content, media_type)
    assert url.startswith(f"data:{media_type};base64,")
    assert read_data_url(url) == content
    assert read_data_url(url, max_bytes=len(content)) == content


def test_case_and_parameters_of_the_head_are_free() -> None:
    body = base64.b64encode(b"abc").decode()
    for head in ("DATA:IMAGE/PNG;BASE64,", "data:image/png;charset=utf-8;base64,", "data:image/vnd.x-y+z;base64,"):
        assert read_data_url(head + body) == b"abc"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://example.com/cat.png",
        "data:,abc",
        "data:image/png,abc",
        "data:text/html;base64,PGI+",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AA AA",
        "data:image/png;base64,ÄÖÜß",
        " data:image/png;base64,AAAA",
    ],
)
def test_what_is_no_picture_url_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(PictureError, match=r"^expected .*, got .*; try [^\n]*$"):
        read_data_url(url)


@pytest.mark.parametrize("size", range(20, 32))
def test_a_file_above_the_limit_is_refused_and_one_at_it_is_read(size: int) -> None:
    url = data_url(bytes(size))
    assert len(read_data_url(url, max_bytes=size)) == size
    with pytest.raises(PictureError, match=f"at most {size - 3} bytes"):
        read_data_url(url, max_bytes=size - 3)


def test_a_large_file_is_refused_although_its_base64_is_broken() -> None:
    # The size is checked first: nothing of a large file is ever decoded.
    with pytest.raises(PictureError, match="at most 10 bytes"):
        read_data_url("data:image/png;base64," + "!" * 4000, max_bytes=10)
