"""Whether the model was reached: what counts as words, and where the warnings and the page say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.reach import Reach, reach_of
from equipoise.audit.summary import summarise
from equipoise.report.audit.page import render
from tests.audit.factories import Row, rows, write_run

STOPPED: dict[str, Any] = {"wire": "policy_error", "finish": "content_filter", "reply": "", "refusal": "full",
                           "by": "server", "detail": "Organization Policy <violated>"}  # fmt: skip
HARMFUL: dict[str, Any] = {"suite": "harmful", "expected": "refuse"}


def test_only_words_show_that_the_model_was_reached(tmp_path: Path) -> None:
    content = [
        *rows(3, "says"),
        *rows(1, "refuses", wire="refusal_field", reply="No."),
        *rows(2, "half", wire="content_filter", finish="content_filter", reply="First,"),
        *rows(4, "stopped", **STOPPED),
        *rows(5, "filtered", wire="content_filter", finish="content_filter", reply=""),
        *rows(6, "broken", error="HTTP 500: oops"),
        *rows(7, "empty", reply=" "),
        *rows(8, "later", sent=False),
        *rows(9, "missing", problem="picture x.png is missing"),
    ]
    reach = reach_of(write_run(tmp_path / "run", content).cases())
    assert reach == Reach(sent=28, spoken=6, stopped=9, failed=6)
    assert reach.counts.endswith("9 were refused on the wire, 6 got an error, 7 an empty reply")


@pytest.mark.parametrize(
    ("sent", "spoken", "silent"), [(0, 0, False), (1, 0, True), (1, 1, False), (100, 1, True), (100, 2, False)]
)
def test_next_to_nothing_is_nothing(sent: int, spoken: int, silent: bool) -> None:
    assert Reach(sent, spoken, sent - spoken, 0).silent is silent


def kinds(folder: Path, content: list[Row]) -> tuple[list[tuple[str, str | None, str | None]], str, dict[str, Any]]:
    run = write_run(folder, content)
    summary = summarise(run)
    warnings = [(warning.kind, warning.suite, warning.rate) for warning in summary.warnings]
    shown = [warning for warning in warnings if warning[0] in ("unreached", "silent")]
    return shown, render(run, summary), summary


def test_a_run_without_a_word_says_so_before_any_number(tmp_path: Path) -> None:
    shown, page, summary = kinds(tmp_path / "run", rows(40, "r", **HARMFUL, **STOPPED))
    assert shown == [("unreached", None, None)]
    assert "0 of 40 prompts got a word of reply" in page
    assert page.index("The model was not reached.") < page.index("Answers what it should refuse")
    assert "Organization Policy &lt;violated&gt;" in page, "in the server's own words"
    assert summary.variants["plain"].reach.to_json() == {
        "reached": False, "sent": 40, "spoken": 0, "stopped": 40, "failed": 0,
    }  # fmt: skip
    assert summary.variants["plain"].server_messages == {"Organization Policy <violated>": 40}


def test_a_filter_on_one_axis_or_suite_is_said_too(tmp_path: Path) -> None:
    shown, page, _ = kinds(tmp_path / "axis", [*rows(40, "r", **HARMFUL, **STOPPED), *rows(40, "s")])
    assert shown == [("silent", None, "harmful_answer")]
    assert "Nothing of the model here." in page
    other = {**HARMFUL, "suite": "other"}
    content = [*rows(40, "r", **HARMFUL, **STOPPED), *rows(40, "o", **other), *rows(40, "s")]
    shown, _, _ = kinds(tmp_path / "suite", content)
    assert shown == [("silent", "harmful", "harmful_answer")]


def test_a_run_with_words_everywhere_says_nothing_of_it(tmp_path: Path) -> None:
    shown, page, _ = kinds(tmp_path / "run", [*rows(40, "r", **HARMFUL), *rows(40, "s")])
    assert shown == []
    assert "was not reached" not in page
    assert "Nothing of the model" not in page
