from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.audit.factories import Row, balanced, rows, write_run
from tests.cli.command import Command


def both_axes(variant: str, refusal: str) -> list[Row]:
    return [
        *rows(3, "safe", refusal=refusal, variant=variant),
        *rows(3, "harmful", expected="refuse", refusal=refusal, variant=variant),
    ]


def test_it_makes_the_page_from_the_folder_and_says_where_it_is(equipoise: Command, tmp_path: Path):
    run = balanced(tmp_path / "run")
    done = equipoise("report", run.folder)
    assert done.exit_code == 0
    assert done.stdout.strip() == str(run.folder / "report.html")
    assert "Refused 6 of 40 safe prompts" in (run.folder / "report.html").read_text(encoding="utf-8")


def test_the_page_goes_where_it_is_told(equipoise: Command, tmp_path: Path):
    run = write_run(tmp_path / "run", rows(3, "a"))
    assert equipoise("report", run.folder, "--out", tmp_path / "new" / "page.html").exit_code == 0
    assert equipoise("report", run.folder, "--out", tmp_path).exit_code == 0
    pages = [(tmp_path / name).read_text(encoding="utf-8") for name in ("new/page.html", "report.html")]
    # Each names the page of its own replies.
    assert pages[0].replace("page-replies.html", "report-replies.html") == pages[1]
    assert not (run.folder / "report.html").exists()


def test_against_an_earlier_run_it_shows_what_changed(equipoise: Command, tmp_path: Path):
    before, after = (
        write_run(tmp_path / name, [row for variant in ("plain", "perturbed") for row in both_axes(variant, refusal)])
        for name, refusal in (("a", "full"), ("b", "none"))
    )
    assert equipoise("report", after.folder, "--against", before.folder).exit_code == 0
    page = (after.folder / "report.html").read_text(encoding="utf-8")
    assert "Arrows lead from where" in page
    assert page.count("<small>variant <bdi>") == 2


def test_it_opens_the_page_when_asked(equipoise: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    run = write_run(tmp_path / "run", rows(3, "a"))
    assert equipoise("report", run.folder, "--open").exit_code == 0
    assert opened == [(run.folder / "report.html").as_uri()]


def test_a_folder_without_a_run_is_one_clear_line(equipoise: Command, tmp_path: Path):
    done = equipoise("report", tmp_path)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "expected the folder of an audit" in done.stderr


def test_an_edited_folder_is_one_clear_line(equipoise: Command, tmp_path: Path):
    run = balanced(tmp_path / "run")
    verdicts = run.folder / "verdicts.jsonl"
    verdicts.write_text(verdicts.read_text().replace('"refusal": "full"', '"refusal": "none"', 1))
    done = equipoise("report", run.folder)
    assert done.exit_code == 2
    assert "got a changed one" in done.stderr
    assert not (run.folder / "report.html").exists()


def test_runs_that_share_nothing_are_no_comparison(equipoise: Command, tmp_path: Path):
    a, b = (write_run(tmp_path / name, rows(3, name)) for name in ("a", "b"))
    done = equipoise("report", b.folder, "--against", a.folder)
    assert done.exit_code == 2
    assert "share samples" in done.stderr


def test_it_loads_neither_torch_nor_inspect(tmp_path: Path):
    run = write_run(tmp_path / "run", rows(3, "a"))
    program = (
        "import sys; from equipoise.cli.main import app; app(['report', sys.argv[1]], standalone_mode=False)\n"
        "print(*[name for name in ('torch', 'inspect_ai', 'transformers') if name in sys.modules])"
    )
    words = [sys.executable, "-c", program, str(run.folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_several_runs_are_a_trend_on_the_page_of_the_last(equipoise: Command, tmp_path: Path):
    runs = [write_run(tmp_path / name, rows(9, "safe", refusal=kind)) for name, kind in (("a", "none"), ("b", "full"))]
    done = equipoise("report", *(run.folder for run in runs))
    assert done.exit_code == 0, done.output
    assert not (runs[0].folder / "report.html").exists()
    page = (runs[1].folder / "report.html").read_text(encoding="utf-8")
    assert "Trend over 2 runs" in page
    assert "Refused 9 of 9 safe prompts" in page


def test_tables_prices_and_calibrations(equipoise: Command, tmp_path: Path):
    pytest.importorskip("pyarrow")
    run = balanced(tmp_path / "run")
    csv, parquet = tmp_path / "rows.csv", tmp_path / "rows.parquet"
    done = equipoise("report", run.folder, "--csv", csv, "--parquet", parquet, "--price", "2.5,10")
    assert done.exit_code == 0, done.output
    assert len(csv.read_text(encoding="utf-8-sig").splitlines()) == 155
    assert parquet.read_bytes()[:4] == b"PAR1"
    assert "in the currency of these prices" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert (run.folder / "report-replies.html").is_file()
    for option, words in (("--price", "expected the prices"), ("--calibration", "expected a calibration")):
        wrong = equipoise("report", run.folder, option, tmp_path)
        assert (wrong.exit_code, len(wrong.stderr.splitlines())) == (2, 1)
        assert words in wrong.stderr
