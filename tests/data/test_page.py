"""The page on data names every suite and its licence, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from equipoise.data.catalogue import SUITES
from equipoise.data.suites.generic import IMAGES, LABELS, TEXT

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_a_row_with_its_licence(name):
    family, _, form = name.partition("/")
    rows = [row for row in ROWS if f"`{name}`" in row or (form and f"`{family}/" in row and f"`/{form}`" in row)]
    assert len(rows) == 1
    licence = SUITES[name].licence.split(";")[0].split(",")[0]
    assert licence in rows[0]


def test_labels_and_columns_of_own_files_are_all_named():
    for word in (*LABELS, *TEXT, *IMAGES):
        assert f"`{word}`" in PAGE


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [line for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    elsewhere = ("/data", "hub:", "my_prompts")
    program = "\n".join(line for line in lines if not any(word in line for word in elsewhere))
    exec(compile(program, "docs/data.md", "exec"), {})
    assert (tmp_path / "first.png").is_file()
