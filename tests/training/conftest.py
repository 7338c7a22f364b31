from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.families.llava import llava


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "llava"
    llava(folder)
    return folder
