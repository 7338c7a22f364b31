"""Output that every stream takes, whatever a file name or a reply holds."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.cli.console import (
    RowPrinter,
    is_first_process,
    print_json,
    print_table,
    printable,
    require_one_format,
    size,
    table,
    warn,
)
from equipoise.errors import UsageError

HALF = "x-\udce9.png"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_that_has_bytes_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_half_a_surrogate_pair_is_escaped_everywhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert printable(HALF) == "x-\\udce9.png"
    print_json({"image": HALF})
    assert json.loads(capfd.readouterr().out) == {"image": HALF}
    print_table(f"{HALF} -> done", table("", ["picture"], [(HALF,)]))
    assert capfd.readouterr().out.count("x-\\udce9.png") == 2


ROWS = [{"id": "a", "reply": "né <b>\n"}, {"id": "b", "reply": HALF}]


def rows_printed(capsys: pytest.CaptureFixture[str], rows: list[dict[str, str]], *, lines: bool) -> str:
    printer = RowPrinter({"judge": "j", "name": "n"}, lines=lines)
    for row in rows:
        printer.add(row)
    printer.close({"count": len(rows), "unreadable": 0})
    return capsys.readouterr().out


@pytest.mark.parametrize("count", [0, 1, 2])
def test_rows_are_one_document_with_head_and_tail(capsys: pytest.CaptureFixture[str], count: int) -> None:
    document = json.loads(rows_printed(capsys, ROWS[:count], lines=False))
    assert document == {"judge": "j", "name": "n", "rows": ROWS[:count], "count": count, "unreadable": 0}
    assert list(document) == ["judge", "name", "rows", "count", "unreadable"]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_rows_are_lines_without_head_and_tail(capsys: pytest.CaptureFixture[str], count: int) -> None:
    output = rows_printed(capsys, ROWS[:count], lines=True)
    assert [json.loads(line) for line in output.splitlines()] == ROWS[:count]
    assert output.isascii()


def test_a_number_that_is_none_is_no_json() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        RowPrinter({}, lines=True).add({"harm": math.nan})
    with pytest.raises(ValueError, match="JSON compliant"):
        print_json({"harm": math.inf})


def test_two_forms_of_json_are_refused() -> None:
    require_one_format(True, False)
    require_one_format(False, True)
    with pytest.raises(UsageError, match="expected --json or --jsonl, got both"):
        require_one_format(True, True)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (37_600_000_000, "37.6 GB"), (5e14, "500000.0 GB")]
)
def test_sizes_are_for_people(count: float, text: str) -> None:
    assert size(count) == text


def test_a_warning_is_one_line_on_stderr_whatever_it_holds(capfd: pytest.CaptureFixture[str]) -> None:
    warn("two\nlines\tand   spaces")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "equipoise: two lines and spaces\n")


def test_brackets_in_cells_and_lines_are_no_markup(capfd: pytest.CaptureFixture[str]) -> None:
    print_table("[bold]x[/bold]", table("[red]", ["[b]"], [("[i]cell[/i]",), (7,)]))
    output = capfd.readouterr().out
    for text in ("[bold]x[/bold]", "[i]cell[/i]", "7"):
        assert text in output


@pytest.mark.parametrize(
    ("variables", "speaks"),
    [({}, True), ({"WORLD_SIZE": "2", "RANK": "0"}, True), ({"WORLD_SIZE": "2", "RANK": "1"}, False)],
)
def test_of_several_processes_the_first_speaks(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], speaks: bool
) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is speaks


def in_encoding(code: str, encoding: str, stdout: object = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", f"from equipoise.cli.console import print_json, print_table, table\n{code}"],
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        stdout=stdout,  # type: ignore[call-overload]
        stderr=subprocess.PIPE,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1251", "utf-8", "utf-16"])
def test_every_text_is_printed_in_every_encoding(encoding: str) -> None:
    code = "d = {'image': 'né ж \\U0001f648'}; print_json(d); print_table('né ж', table('', ['ж'], [('é…',)]))"
    printed = in_encoding(code, encoding)
    assert printed.returncode == 0, printed.stderr
    document, brace, _ = printed.stdout.decode(encoding).partition("}")
    assert json.loads(document + brace) == {"image": "né ж \U0001f648"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("code", ["print_json({'a': 1})", "print_table('a')"])
def test_output_that_cannot_be_written_is_an_error_of_ours(code: str) -> None:
    with open("/dev/full", "wb") as full:
        printed = in_encoding(code, "utf-8", full)
    assert b"OutputError: expected to write to stdout" in printed.stderr
    assert b"Exception ignored" not in printed.stderr


def test_a_closed_stdout_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    print_table("nobody reads this")
    print_json({"a": 1})
