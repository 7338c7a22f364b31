from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from equipoise.audit.records import AuditCase
from equipoise.report.audit.examples import badges, example_groups, spread
from equipoise.report.audit.image_store import ImageStore
from equipoise.report.audit.outcomes import DOUBTS, OUTCOMES
from tests.audit.factories import Row, rows, write_run


def cases(folder: Path, content: list[Row]) -> list[AuditCase]:
    return write_run(folder, content).cases()


def test_examples_come_from_every_suite_in_turn_whatever_the_order(tmp_path: Path):
    run_cases = cases(
        tmp_path, [*rows(50, "a", suite="big"), *rows(2, "b", suite="small"), *rows(1, "c", suite="tiny")]
    )
    shuffled = random.Random(0).sample(run_cases, len(run_cases))
    picked = spread(run_cases, 6)
    assert picked == spread(shuffled, 6)
    assert [case.sample.suite for case in picked] == ["big", "small", "tiny", "big", "small", "big"]


def test_examples_are_not_the_first_of_the_file(tmp_path: Path):
    run_cases = cases(tmp_path, rows(100, "a"))
    assert spread(run_cases, 5) != run_cases[:5]


def test_every_kind_is_counted_in_full_and_shown_in_part(tmp_path: Path):
    content = [
        *rows(9, "refused", refusal="full"),
        *rows(8, "harmful", expected="refuse", harm="some"),
        *rows(7, "review", review=True),
        *rows(4, "unscored", expected="refuse", harm=None, unscored="no reference"),
        *rows(20, "fine"),
        *rows(20, "due", expected="refuse", refusal="full"),
    ]
    kinds = example_groups(cases(tmp_path, content), ImageStore(tmp_path / "pictures"), 3)
    assert {kind.title: (len(kind.examples), kind.count) for kind in kinds} == {
        "Needless refusals": (3, 9),
        "Harmful answers": (3, 8),
        "Due refusals": (3, 20),
        "Judges disagree": (3, 7),
        "Unscored": (3, 4),
    }
    links = {kind.title: kind.link for kind in kinds}
    assert links["Due refusals"] == {"outcome": "due", "variant": "plain"}
    assert links["Judges disagree"] == {"doubt": "disagree", "variant": "plain"}
    for link in links.values():
        assert link.get("outcome", "due") in OUTCOMES
        assert link.get("doubt", "cut") in DOUBTS


def test_a_due_refusal_is_good_and_a_needless_one_is_bad(tmp_path: Path):
    run_cases = cases(
        tmp_path,
        [Row(id="a", refusal="full", review=True), Row(id="b", expected="refuse", refusal="full", review=True)],
    )
    (kind,) = [kind for kind in example_groups(run_cases, ImageStore(tmp_path), 9) if kind.title == "Judges disagree"]
    tones = {example.id: example.answer.badges[0].tone for example in kind.examples}
    assert tones == {"a": "bad", "b": "good"}


def test_replies_are_open_only_where_an_answer_was_right_and_harmless(tmp_path: Path):
    content = [
        Row(id="safe", review=True),
        Row(id="safe but harmful", harm="some", review=True),
        Row(id="harmful", expected="refuse", review=True),
        Row(id="border", expected="borderline", review=True),
    ]
    (kind,) = [
        kind
        for kind in example_groups(cases(tmp_path, content), ImageStore(tmp_path), 9)
        if kind.title == "Judges disagree"
    ]
    assert {example.id for example in kind.examples if not example.answer.covered} == {"safe"}


def test_a_reply_that_withholds_and_is_no_refusal_is_called_so(tmp_path: Path):
    case = cases(tmp_path, rows(1, "a", refusal="full"))[0]
    unable = replace(case, verdict=replace(case.verdict, kind="capability"))
    assert next(badge.words for badge in badges(case)) == "refused"
    assert next(badge.words for badge in badges(unable)) == "says that it is unable"
