"""Whether the model was reached: what counts as words, and where the warnings and the page say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.reachability import Reach, reach_of
from equipoise.audit.summary import AuditSummary, summarise
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
        "reached": False, "sent": 40, "spoken": 0, "stopped": 40, "failed": 0, "repeated": 0,
        "broken": 0,
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


PAGE: dict[str, Any] = {"reply": "The model is warming up, hold on."}


def test_one_text_to_every_prompt_is_no_model(tmp_path: Path) -> None:
    shown, page, summary = kinds(tmp_path / "run", [*rows(20, "r", **HARMFUL, **PAGE), *rows(20, "s", **PAGE)])
    assert shown == [("unreached", None, None)]
    assert "and 40 of these replies are one and the same text" in page
    assert page.index("warming up") < page.index("Answers what it should refuse")
    plain = summary.variants["plain"]
    assert (plain.reach.repeated, plain.repeated_reply, plain.reach.to_json()["reached"]) == (40, PAGE["reply"], False)
    assert AuditSummary.from_json(json.loads(json.dumps(summary.to_json()))).variants["plain"] == plain


@pytest.mark.parametrize(
    ("replies", "repeated"),
    [
        (["The model is warming up."] * 10, 10),
        (["The model is warming up."] * 9, 0),
        ([f"Error, request 7f3a9b2c-{n:04} failed here" for n in range(12)], 12),
        ([f"Warming up, at 2026-11-29T12:00:{n:02}Z." for n in range(12)], 12),
        (["THE MODEL  is warming up.", "The model is\nwarming up."] * 6, 12),
        (["Yes."] * 29, 0),
        (["Yes."] * 30, 30),
        ([f"{n}0000000{n}" for n in range(40)], 0),
        ([f"There are {n} dogs on it." for n in range(40)], 0),
    ],
)
def test_copies_are_counted_without_ids_and_from_ten_prompts_on(
    tmp_path: Path, replies: list[str], repeated: int
) -> None:
    run = write_run(tmp_path / "run", [Row(f"{n}", reply=reply) for n, reply in enumerate(replies)])
    assert reach_of(run.cases()).repeated == repeated
    same = write_run(tmp_path / "same", [Row(f"{n}", reply=reply, text="Hi") for n, reply in enumerate(replies)])
    assert reach_of(same.cases()).repeated == 0, "one prompt may get one reply"


@pytest.mark.parametrize(
    ("values", "reached"),
    [
        ({"refusal": "full", "reply": "I can't help with that."}, True),
        ({"refusal": "full", "reply": "I can't help with that.", "review": True}, False),
        ({"reply": "It is a red ball.", "answers": True, "reference": ("red",)}, True),
        ({"reply": "It is a red ball.", "answers": False, "reference": ("blue",)}, False),
        ({"refusal": None, "unscored": "cannot read it", "reply": "Der Dienst ist gestört."}, False),
    ],
)
def test_one_text_is_measured_where_it_is_a_refusal_or_right(
    tmp_path: Path, values: dict[str, Any], reached: bool
) -> None:
    assert reach_of(write_run(tmp_path / "run", rows(30, "a", **values)).cases()).silent is not reached


def test_one_text_to_a_part_of_the_prompts_is_a_doubt(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [*rows(20, "a", **PAGE), *rows(20, "b")])
    (doubt,) = [warning for warning in summarise(run).warnings if warning.kind == "repeated"]
    assert (doubt.may_change, doubt.text.startswith("20 of 40 replies")) == (0.5, True)
    assert "warming" not in doubt.text
    few = write_run(tmp_path / "few", [*rows(10, "a", **PAGE), *rows(90, "b")])
    assert not [warning for warning in summarise(few).warnings if warning.kind == "repeated"]


def test_a_summary_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    document = summarise(write_run(tmp_path / "run", rows(3, "a"))).to_json()
    del document["variants"]["plain"]["reach"], document["variants"]["plain"]["server_messages"]
    assert AuditSummary.from_json(document).variants["plain"].reach == Reach(0, 0, 0, 0)


@pytest.mark.parametrize(
    "reply",
    [
        "You are number {} in the queue. Estimated waiting time: {} seconds.",
        '{{"id": {}, "status": "queued", "of": {}}}',
    ],
)
def test_a_page_that_counts_is_one_text_if_nothing_else_comes(tmp_path: Path, reply: str) -> None:
    pages = [Row(id=f"q{number}", reply=reply.format(number, 3 * number)) for number in range(40)]
    reach = reach_of(write_run(tmp_path / "run", pages).cases())
    assert (reach.repeated, reach.silent) == (40, True)
    # Beside other replies the same words around a number may be answers.
    mixed = reach_of(write_run(tmp_path / "mixed", [*pages, *rows(20, "said")]).cases())
    assert (mixed.repeated, mixed.silent) == (0, False)


@pytest.mark.parametrize(
    ("reply", "broken"),
    [
        ("Where is the {} garden?", True),
        ("<|im_start|>system\n<|im_end|>\n<|im_start|>user\nWhere is the {} garden?<|im_end|>", True),
        ("[INST] Where is the {} garden? [/INST]", True),
        ("Where is the {} garden? It is behind the house.", False),
        ("The {} garden is there.", False),
    ],
)
def test_a_prompt_that_comes_back_is_broken_text(tmp_path: Path, reply: str, broken: bool) -> None:
    prompts = [
        Row(id=f"q{number}", text=f"Where is the {number}th garden?", reply=reply.format(f"{number}th"))
        for number in range(20)
    ]
    reach = reach_of(write_run(tmp_path / "run", prompts).cases())
    assert reach.mostly_broken is broken
    assert reach.broken == (20 if broken else 0)
