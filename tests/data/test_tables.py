"""Tables as people have them: exact strings out, or one error with file and line."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.tables import TableRow, collect, find_table, read_json, read_rows, read_table
from equipoise.errors import MissingExtraError, UsageError
from equipoise.types import Sample


def values(path):
    return [dict(row.values) for row in read_rows(path)]


def write(path, content: str | bytes):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


CELLS = st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=2), min_size=1)


@given(CELLS)
def test_any_strings_survive_csv_and_jsonl(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("tables")
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
        # An own column that is never empty: a row of empty cells and an empty line look alike.
        csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(
            [["id", "a", "b"], *([i, *c] for i, c in enumerate(cells))]
        )
    (folder / "a.jsonl").write_bytes("\n".join(json.dumps({"a": a, "b": b}) for a, b in cells).encode())
    assert [[row.text("a"), row.text("b")] for row in read_rows(folder / "a.csv")] == cells
    assert [[row.text("a"), row.text("b")] for row in read_rows(folder / "a.jsonl")] == cells


@pytest.mark.parametrize("cell", ["NA", "nan", "NULL", "007", "1e5", "True", " padded ", "None"])
def test_nothing_is_guessed(tmp_path, cell):
    assert values(write(tmp_path / "a.csv", f"id,prompt\n1,{cell}\n")) == [{"id": "1", "prompt": cell}]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_marks_and_line_ends_make_no_difference(tmp_path, mark, end):
    table = write(tmp_path / "a.csv", mark + end.join(["id,prompt", "1,one", "", '2,"two, too"', ""]).encode())
    lines = write(tmp_path / "a.jsonl", mark + end.join(['{"id": "1"}', "", '{"id": "2"}', ""]).encode())
    assert values(table) == [{"id": "1", "prompt": "one"}, {"id": "2", "prompt": "two, too"}]
    assert values(lines) == [{"id": "1"}, {"id": "2"}]


def test_cells_may_hold_lines_and_lines_are_counted_by_where_rows_begin(tmp_path):
    rows = read_rows(write(tmp_path / "a.csv", 'id,prompt\n1,"a\r\nb\nc"\n2,d\n'))
    assert rows[0].values["prompt"] == "a\r\nb\nc"
    assert [row.line for row in rows] == [2, 5]


def test_a_line_separator_inside_a_json_string_ends_no_line(tmp_path):
    assert values(write(tmp_path / "a.jsonl", '{"a": "x\u2028y\x85z"}\n')) == [{"a": "x\u2028y\x85z"}]


def test_huge_cells_are_read_and_the_limit_of_csv_is_left_as_found(tmp_path):
    before = csv.field_size_limit()
    huge = "word " * 400_000
    assert values(write(tmp_path / "a.csv", f'id,prompt\n1,"{huge}"\n'))[0]["prompt"] == huge
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}]', '{"a": 1}\n{"a": 2}'])
def test_json_is_a_list_or_an_object_a_line(tmp_path, text):
    assert values(write(tmp_path / "a.json", text)) == [{"a": 1}, {"a": 2}]


def test_tabs(tmp_path):
    assert values(write(tmp_path / "a.tsv", "id\tprompt\n1\ta, b\n")) == [{"id": "1", "prompt": "a, b"}]


def test_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"id": ["007", "x"], "prompt": ["NA", None]}).to_parquet(tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == [{"id": "007", "prompt": "NA"}, {"id": "x", "prompt": None}]


def test_parquet_without_pyarrow_names_the_pip_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'equipoise\[parquet\]'"):
        read_rows(write(tmp_path / "a.parquet", "x"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"id,prompt\n1,caf\xe9\n", "UTF-8 text, got byte 0xe9 in .*a.csv, line 2"),
        ("a.csv", "id,prompt\n1,x\n".encode("utf-16-le"), "got NUL bytes in .*a.csv, line 1"),
        ("a.csv", "id,prompt\n".encode("utf-16")[:-1], "UTF-8"),
        ("a.csv", b"", "expected rows, got none"),
        ("a.csv", b"id,prompt\n", "expected rows below the names"),
        ("a.csv", b"id,id\n1,2\n", "'id' twice"),
        ("a.csv", b"id,prompt\n1,a\n2,b,c\n", "2 cells .*got 3 in .*, line 3"),
        ("a.csv", b'id,prompt\n1,"never closed\n2,b\n', "line 3"),
        ("a.jsonl", b"", "expected rows, got none"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "expected JSON, .*line 2"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', "object, got a list .*line 2"),
        ("a.jsonl", b'{"a": NaN}\n', "NaN is no JSON"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\\ud83d"}\n', "surrogates not allowed.*line 2"),
        ("a.json", b'[{"a": 1},\n 3]', "object, got a int .*line 2"),
        ("a.json", b"[" * 100_000, "expected JSON"),
        ("a.parquet", b"not parquet", "expected a parquet file"),
    ],
)
def test_one_clear_error(tmp_path, name, content, says):
    with pytest.raises(UsageError, match=says) as caught:
        read_rows(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there():
    with pytest.raises(UsageError, match="nowhere"):
        read_rows(Path("nowhere.csv"))


def test_json_values(tmp_path):
    assert read_json(write(tmp_path / "a.json", '{"a": [1]}')) == {"a": [1]}
    with pytest.raises(UsageError, match="line 2"):
        read_json(write(tmp_path / "b.json", '{\n"a" 1}'))


ROW = TableRow({"id": 7, "prompt": "", "question": "Why?", "tags": ["x"], "none": None}, file=Path("a"), line=3)


def test_the_first_column_that_holds_something_counts():
    assert (ROW.text("prompt", "question"), ROW.text("prompt"), ROW.text("id"), ROW.text("none")) == (
        "Why?",
        "",
        "7",
        "",
    )


def test_a_missing_column_names_those_found():
    with pytest.raises(UsageError, match="goal or text, got id, prompt, question, tags, none in a, line 3"):
        ROW.text("goal", "text")


def test_a_list_is_no_text():
    with pytest.raises(UsageError, match="got a list in a, line 3"):
        ROW.text("tags")


def test_double_ids_name_both_lines(tmp_path):
    rows = read_rows(write(tmp_path / "a.csv", "id,prompt\n1,a\n2,b\n1,c\n"))
    with pytest.raises(UsageError, match=r"'1' in .*line 4 and in .*line 2"):
        collect(rows, lambda row: Sample(row.text("id"), "s", row.text("prompt"), "answer"))


def test_a_table_is_found_by_name_one_folder_down_or_by_being_alone(tmp_path):
    (tmp_path / "data").mkdir()
    inside = write(tmp_path / "data" / "test-00000.parquet", "x")
    assert find_table(tmp_path, "prompts") == inside
    named = write(tmp_path / "prompts.jsonl", "x")
    assert find_table(tmp_path, "others", "prompts") == named
    with pytest.raises(UsageError, match=r"expected nothing .*got data/test-00000.parquet, prompts\.jsonl"):
        find_table(tmp_path, "nothing")
    with pytest.raises(UsageError, match="expected a folder"):
        find_table(tmp_path / "absent", "prompts")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_separators_and_encodings_of_spreadsheets(tmp_path, separator, encoding):
    path = tmp_path / "a.csv"
    text = (
        separator.join(["prompt", "label"])
        + "\r\n"
        + separator.join(['"Gr\u00fc\u00dfe; hi, you|there"', "safe"])
        + "\r\n"
    )
    mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    path.write_bytes((mark + text).encode(encoding))
    assert [dict(row.values) for row in read_rows(path)] == [
        {"prompt": "Gr\u00fc\u00dfe; hi, you|there", "label": "safe"}
    ]


def test_a_comma_in_the_header_goes_before_all_other_separators(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,"a;b"\nx;y,z\n')
    assert [dict(row.values) for row in read_rows(path)] == [{"prompt": "x;y", "a;b": "z"}]


def test_excels_hint_is_no_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sep=;\nprompt;label\nHi;safe\n")
    (row,) = read_rows(path)
    assert (dict(row.values), row.line) == ({"prompt": "Hi", "label": "safe"}, 3)


def parts(folder, name, count, missing=()):
    folder.mkdir(parents=True, exist_ok=True)
    for number in set(range(count)) - set(missing):
        (folder / f"{name}-{number:05}-of-{count:05}.jsonl").write_text(json.dumps({"id": number}) + "\n")


def test_the_parts_of_a_table_are_one_table(tmp_path):
    parts(tmp_path / "original", "train", 1)
    parts(tmp_path / "original", "test", 3)
    parts(tmp_path / "contrast", "test", 1)
    assert [row.values["id"] for row in read_table(tmp_path, "original")] == [0, 1, 2]
    assert [row.values["id"] for row in read_table(tmp_path, "contrast")] == [0]


def test_a_table_alone_may_have_parts(tmp_path):
    parts(tmp_path / "data", "test", 2)
    assert len(read_table(tmp_path, "anything")) == 2


def test_a_missing_part_is_one_error(tmp_path):
    parts(tmp_path, "test", 3, missing=[1])
    with pytest.raises(UsageError, match=r"expected 3 parts of .* got none called test-00001-of-00003"):
        read_table(tmp_path, "test")


def test_a_clone_is_searched_by_name_further_down(tmp_path):
    (tmp_path / "data" / "question").mkdir(parents=True)
    (tmp_path / ".git" / "question").mkdir(parents=True)
    for folder in ("data", ".git"):
        (tmp_path / folder / "question" / "safebench.csv").write_text("a\n1\n")
    (tmp_path / "readme.json").write_text("[]")
    (tmp_path / "setup.json").write_text("[]")
    assert find_table(tmp_path, "safebench") == tmp_path / "data" / "question" / "safebench.csv"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b"{}"), "got a gzip file"),
        (b"PK\x03\x04rest", "got a zip file or workbook"),
        ("a,b\n1,2\n".encode("utf-32"), "got UTF-32"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, content, says):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_rows(path)


@pytest.mark.parametrize("indent", [None, 1])
def test_rows_inside_of_one_object_are_rows(tmp_path, indent):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": 1, "data": [{"a": 1}, {"a": 2}]}, indent=indent))
    assert [row.values for row in read_rows(path)] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("whole", [{"a": ["x", "y"], "b": [1, 2]}, {"1": {"a": 1}, "2": {"a": 2}}])
def test_columns_and_ids_in_one_object_are_refused_with_the_fix(tmp_path, whole):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(whole))
    with pytest.raises(UsageError, match=r"to_json\(orient='records'\)"):
        read_rows(path)


def test_one_object_over_several_lines_is_a_row(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"a": 1, "messages": [{"role": "user"}]}, indent=2))
    assert [row.values for row in read_rows(path)] == [{"a": 1, "messages": [{"role": "user"}]}]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
@pytest.mark.parametrize("name", ["prompts.csv", "prompts.TSV", "prompts.jsonl"])
def test_a_packed_table_is_read_as_it_is_unpacked(tmp_path, name, suffix, pack):
    content = {"csv": "a,b\n1,2\n", "tsv": "a\tb\n1\t2\n", "jsonl": '{"a": "1", "b": "2"}\n'}[name[8:].lower()]
    (tmp_path / f"{name}{suffix}").write_bytes(pack(content.encode()))
    table = find_table(tmp_path, "prompts")
    assert [row.values for row in read_rows(table)] == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"a,b\n1,2\n")[:-5], b"\x1f\x8bbroken"])
def test_a_broken_packed_table_is_one_error(tmp_path, content):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="try"):
        read_rows(path)


def test_a_packed_table_has_a_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr("equipoise.data.packed_files.LARGEST", 10)
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 100))
    with pytest.raises(UsageError, match="at most 10 bytes"):
        read_rows(path)


def test_times_that_python_cannot_hold_are_one_error(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    far = pyarrow.array([4 * 10**17], pyarrow.timestamp("us"))
    parquet.write_table(pyarrow.table({"prompt": ["a"], "when": far}), tmp_path / "far.parquet")
    with pytest.raises(UsageError, match=r"^expected times up to the year 9999, got .*; try to leave out that column$"):
        read_rows(tmp_path / "far.parquet")
