"""What the folder of a frontier says of its variants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.audit.frontier.variant_record import LEFT_OUT, RECIPE, RECORD, VariantRecord, read_left_out, run_folders
from equipoise.errors import UsageError
from tests.audit.frontier.folders import cases, write_folder


def record(**fields: object) -> VariantRecord:
    values = {
        "name": "guard",
        "seed": 0,
        "specs": ["guard"],
        "model": "m",
        "tuned_on": {"xstest": 3},
        "tuning": "nothing is fitted",
        "doubts": ["small"],
        "cost": {"latency_ratio": 1.5},
    }
    return VariantRecord(**{**values, **fields})  # type: ignore[arg-type]


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record().write(tmp_path)
    assert VariantRecord.read(tmp_path) == record()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"name": "x"}', '{"colour": 1}'])
def test_a_damaged_record_is_one_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / RECORD).write_text(content)
    with pytest.raises(UsageError, match="expected the record of a variant"):
        VariantRecord.read(tmp_path)


def test_folders_come_in_the_order_of_the_commands(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"plain": cases(1, 1), "b": cases(1, 1), "a": cases(1, 1), "b#1": cases(1, 1)})
    (folder / RECIPE).write_text(json.dumps({"order": ["plain", "b", "a", "b-seed1"]}))
    assert [path.name for path in run_folders(folder)] == ["plain", "b", "a", "b-seed1"]


def test_a_folder_without_a_record_is_not_measured_yet(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"plain": cases(1, 1)})
    (folder / "runs" / "begun").mkdir()
    assert [path.name for path in run_folders(folder)] == ["plain"]
    assert run_folders(tmp_path / "nowhere") == []


def test_what_was_left_out_is_read(tmp_path: Path) -> None:
    assert read_left_out(tmp_path) == []
    (tmp_path / LEFT_OUT).write_text(json.dumps([{"name": "x", "reason": "y"}]))
    assert read_left_out(tmp_path) == [{"name": "x", "reason": "y"}]
