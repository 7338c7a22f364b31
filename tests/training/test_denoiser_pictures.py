"""Pictures that a denoiser learns from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from equipoise.errors import PictureError, UsageError
from equipoise.training.denoiser_pictures import folder_sampler, sample_world_picture


def test_scenes_depend_on_the_generator_alone() -> None:
    drawn = [sample_world_picture(np.random.default_rng(seed)).tobytes() for seed in range(6)]
    assert drawn == [sample_world_picture(np.random.default_rng(seed)).tobytes() for seed in range(6)]
    assert len(set(drawn)) == 6


def test_a_folder_is_drawn_whole_and_mirrored_half_of_the_time(tmp_path: Path) -> None:
    pictures = []
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        pictures.append(Image.fromarray(values))
        pictures[-1].save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    draw = folder_sampler(tmp_path)
    drawn = [draw(np.random.default_rng(seed)).tobytes() for seed in range(120)]
    assert drawn == [draw(np.random.default_rng(seed)).tobytes() for seed in range(120)]
    straight = {picture.tobytes() for picture in pictures}
    assert set(drawn) == straight | {ImageOps.mirror(picture).tobytes() for picture in pictures}
    assert 40 < sum(bytes_ in straight for bytes_ in drawn) < 80


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a folder with pictures, got none"):
        folder_sampler(tmp_path)
    with pytest.raises(PictureError, match=r"no file at .*; try"):
        folder_sampler(tmp_path / "none")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nxxxxxxxxxxx")
    with pytest.raises(PictureError, match=r"b\.png"):
        folder_sampler(tmp_path)
