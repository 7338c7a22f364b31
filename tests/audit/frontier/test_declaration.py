"""What a user declares is read from a file and held against the test split."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.audit.frontier.declaration import read_declared
from equipoise.data.split_registry import SplitRegistry
from equipoise.errors import UsageError
from tests.audit.frontier.samples import planted_suite


def test_declared_prompts_are_read_from_a_file(tmp_path: Path) -> None:
    registry = SplitRegistry.of([planted_suite(60)])
    file = tmp_path / "tuned.txt"
    file.write_text("nothing of the kind\n" + registry.parts.test[0].text + "\n")
    declared = read_declared(file)
    assert len(declared) == 2
    assert len(registry.leaks(declared)) == 1


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^expected [^\n]*, got [^\n]*; try [^\n]*$"):
        read_declared(tmp_path / "none.txt")
