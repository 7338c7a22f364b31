from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.audit.case_table import COLUMNS, FORMULA, _cell, batched_rows, case_values, write_csv, write_parquet
from equipoise.errors import MissingExtraError, OutputError
from tests.audit.factories import Row, balanced, rows, write_run

HOSTILE = '=HYPERLINK("http://x")\r\nsecond "line", \x00 \ud83d'


def test_every_case_is_a_row_of_the_csv_in_order(tmp_path: Path) -> None:
    cases = balanced(tmp_path / "run").cases()
    path = write_csv(cases, tmp_path / "deep" / "rows.csv")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf"), "spreadsheet programs know UTF-8 by its mark"
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    assert [row["key"] for row in table] == [case.row.key for case in cases]
    assert [row["refusal"] for row in table] == [case.verdict.refusal or "" for case in cases]
    assert {row["harmful"] for row in table} == {"True", "False", ""}


def test_a_reply_that_looks_like_a_formula_stays_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [Row(id="a", reply=HOSTILE, category="-1")])
    with write_csv(run.cases(), tmp_path / "rows.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["reply"] == "'" + HOSTILE.replace("\0", "\N{SYMBOL FOR NULL}").replace("\ud83d", "?")
    assert row["category"] == "'-1"


@given(st.text() | st.lists(st.text()).map(tuple))
def test_no_cell_of_text_begins_like_a_formula(value: object) -> None:
    cell = _cell(value)
    assert not str(cell).startswith(FORMULA)
    str(cell).encode()  # lone surrogates are replaced


def test_numbers_stay_numbers() -> None:
    assert _cell(-1.5) == -1.5
    assert _cell(None) == ""
    assert _cell(False) is False


def test_parquet_holds_every_text_as_it_is(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    content = [Row(id="a", reply="=1+1"), *rows(3, "r", expected="refuse", harm="some"), Row(id="e", error="down")]
    run = write_run(tmp_path / "run", content)
    table = parquet.read_table(write_parquet(run.cases(), tmp_path / "rows.parquet")).to_pylist()
    assert [tuple(row) for row in table] == [COLUMNS] * 5
    assert table[0]["reply"] == "=1+1"
    assert [row["harmful"] for row in table] == [False, True, True, True, None]
    assert table[0]["seconds"] == pytest.approx(0.01)
    assert table[0]["pictures"] == []


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"equipoise\[parquet\]"):
        write_parquet([], tmp_path / "rows.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_a_table_that_cannot_be_written_is_one_clear_error(write: object, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="expected to write"):
        write([], tmp_path / "file" / "rows")  # type: ignore[operator]


def test_rows_come_in_batches_and_none_is_lost(tmp_path: Path) -> None:
    cases = write_run(tmp_path / "run", rows(7, "a")).cases()
    batches = list(batched_rows(iter(cases), 3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert [row for batch in batches for row in batch] == [case_values(case) for case in cases]
    assert list(batched_rows([], 3)) == []
