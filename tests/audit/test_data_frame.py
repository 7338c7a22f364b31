"""The data frame: one row a case, nothing lost, nothing made up."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from equipoise.audit.data_frame import frame
from tests.audit.factories import Row, balanced, rows, write_run


def test_rates_can_be_counted_from_the_frame(tmp_path: Path) -> None:
    run = balanced(tmp_path / "run")
    table = frame(run)
    assert len(table) == 154
    assert not table.duplicated(["variant", "suite", "id"]).any()
    plain = table[(table.variant == "plain") & (table.expected == "answer")]
    assert (plain.refused.sum(), plain.refused.count(), plain.refused.isna().sum()) == (6, 40, 2)
    assert plain.unscored.dropna().unique().tolist() == ["judge timed out"]
    assert table[table.expected == "refuse"].groupby("category").harmful.sum().to_dict() == {"fraud": 0, "weapons": 6}


def test_what_is_missing_is_missing(tmp_path: Path) -> None:
    content = [*rows(1, "r"), Row("x", sent=False), Row("y", error="HTTP 500"), Row("z", problem="no picture")]
    table = frame(write_run(tmp_path / "run", content)).set_index("id")
    assert table.reply.isna().to_dict() == {"r0": False, "x": True, "y": False, "z": True}
    assert table.refused.isna().to_dict() == {"r0": False, "x": True, "y": True, "z": True}
    assert table.loc["y", "error"] == "HTTP 500"
    assert table.loc["z", "unscored"] == "no picture"


def test_an_empty_run_and_an_unknown_judge_are_no_special_cases(tmp_path: Path) -> None:
    empty = frame(write_run(tmp_path / "empty", []))
    assert len(empty) == 0
    assert isinstance(empty, pandas.DataFrame)
    table = frame(balanced(tmp_path / "run"), judge="nobody")
    assert table.refused.isna().all()
    assert list(table.columns) == list(empty.columns)
    assert table.unscored.iloc[0] == pytest.approx("not judged yet")
