from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.cli.run import _require_different
from equipoise.errors import OutputError, UsageError
from equipoise.testbed.pictures import write_pictures


def test_the_same_weights_under_two_names_are_refused() -> None:
    _require_different({"a": "sha256:1", "b": "sha256:2"})
    with pytest.raises(UsageError, match="same weights as a and b"):
        _require_different({"a": "sha256:1", "b": "sha256:1"})


def test_pictures_cannot_go_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="try another --out"):
        write_pictures(tmp_path / "taken", 1)
