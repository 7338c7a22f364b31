from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

DATA = Path(os.environ.get("EQUIPOISE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published sets."""
    if not (DATA / "xstest").is_dir():
        pytest.skip("the published sets are absent; EQUIPOISE_SHARED_DATA names their folder")
    return DATA


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder but for two pictures, `pictures/a.png` and `pictures/b.png`."""
    (tmp_path / "pictures").mkdir()
    for name in "ab":
        Image.new("RGB", (8, 8), "navy").save(tmp_path / "pictures" / f"{name}.png")
    return tmp_path
