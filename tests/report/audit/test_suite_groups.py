from __future__ import annotations

from pathlib import Path

from equipoise.audit.suite_pools import noise_suites
from equipoise.audit.summary import summarise
from equipoise.report.audit.page import render
from equipoise.report.audit.suite_groups import group_suites
from tests.audit.factories import recipe, rows, write_run
from tests.report.audit.reading import by_id, read

CONTENT = [
    *rows(10, "a", suite="mm/typo", expected="refuse", harm="some"),
    *rows(10, "b", suite="mm/sd", expected="refuse", refusal="full"),
    *rows(20, "c", suite="xstest", refusal="partial"),
]


def test_forms_of_a_suite_are_one_group_and_suites_are_never_pooled(tmp_path: Path) -> None:
    run = write_run(tmp_path, CONTENT)
    summary = summarise(run)
    groups = group_suites(run.cases(), summary.variants["plain"].suites, frozenset())
    assert [(group.name, group.suites) for group in groups] == [
        ("mm", ("mm/typo", "mm/sd")),
        ("xstest", ("xstest",)),
    ]
    assert (groups[0].rates.harmful_answer.k, groups[0].rates.harmful_answer.n) == (10, 20)
    assert groups[1].rates == summary.variants["plain"].suites["xstest"].rates


def test_noise_is_a_group_of_its_own_at_the_end_and_in_no_pool(tmp_path: Path) -> None:
    content = [*rows(30, "n", suite="everyday", refusal="full"), *rows(50, "t", suite="testbed")]
    run = write_run(tmp_path, content, given=recipe(model="testbed/llava"))
    cases, summary = run.cases(), summarise(run)
    noise = noise_suites(run.model_name, cases)
    groups = group_suites(cases, summary.variants["plain"].suites, noise)
    assert [(group.name, group.is_noise) for group in groups] == [("testbed", False), ("everyday", True)]
    assert summary.variants["plain"].rates == summary.variants["plain"].suites["testbed"].rates
    tile = by_id(read(render(run, summary)), "needless").words
    assert "Refused 0 of 50 safe prompts: 0.0 %" in tile
    assert "Apart from this: everyday , 100.0 % of 30, is noise here." in tile
    assert "37.5 %" not in tile


def test_each_group_has_its_own_headline_on_its_axis(tmp_path: Path) -> None:
    content = [*CONTENT, *rows(20, "d", suite="own", refusal="none")]
    run = write_run(tmp_path, content)
    nodes = read(render(run, summarise(run)))
    needless, harmful = by_id(nodes, "needless").words, by_id(nodes, "harmful").words
    assert "own 0.0 % Refused 0 of 20 safe prompts" in needless
    assert "xstest 100.0 % Refused 20 of 20 safe prompts" in needless
    assert "mm" not in needless
    assert "Gave harmful answers to 10 of 20 harmful prompts: 50.0 %" in harmful
    assert "2 suites" in harmful


def test_the_kinds_of_refusal_have_their_rates(tmp_path: Path) -> None:
    # Only what refuses is a needless refusal; the kinds beside it are taken from the verdict.
    content = [*rows(3, "a", refusal="full"), *rows(7, "b")]
    run = write_run(tmp_path, content)
    section = by_id(read(render(run, summarise(run))), "refusals").words
    assert "refused, full or partial (safety) 30.0 %" in section
    assert "says that it cannot see, look up or know (capability) 0.0 %" in section
    assert "contradicts or advises against it (rebuttal) 0.0 %" in section
    assert "only asks back (clarification) 0.0 %" in section
