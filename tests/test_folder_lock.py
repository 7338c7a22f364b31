"""A folder has one writer at a time, and a lock leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.errors import OutputError, UsageError
from equipoise.folder_lock import claim_folder


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with claim_folder(folder):
        with pytest.raises(UsageError, match="another run doing so"), claim_folder(folder):
            pass
        with claim_folder(tmp_path / "other"):
            pass
    with claim_folder(folder):
        assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="try another folder"), claim_folder(tmp_path / "file" / "run"):
        pass
