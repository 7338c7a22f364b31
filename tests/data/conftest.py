from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("EQUIPOISE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published sets."""
    if not (DATA / "xstest").is_dir():
        pytest.skip("the published sets are absent; EQUIPOISE_SHARED_DATA names their folder")
    return DATA
