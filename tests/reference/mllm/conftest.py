"""A tiny base, once for all tests of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reference.tiny_base import write_tiny_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"))
