"""Where the numbers come from, as the page says it; and who judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.audit.judge_summary import JudgeMember, JudgeSummary
from equipoise.audit.records import AuditRun
from equipoise.judges.cards import AgreementCard, shipped_cards
from equipoise.report.audit.cards import judge_cards, kappa_of, notes_of
from equipoise.report.audit.provenance import RunProvenance, provenance
from tests.audit.factories import AGREEMENT, Row, recipe, rows, write_run


def shown(tmp_path: Path, content: list[Row] | None = None, **fields: Any) -> RunProvenance:
    run: AuditRun = write_run(tmp_path / "run", content or rows(2, "a"), given=recipe(**fields))
    return provenance(run, list(run.cases()))


def test_model_date_and_command_are_those_of_the_recipe(tmp_path: Path) -> None:
    page = shown(tmp_path)
    assert (page.model, page.revision, page.day, page.version) == ("toy/model", "r1", "2026-01-01", "0.0.0")
    assert page.command == "equipoise audit toy/model"


def test_what_else_the_recipe_holds_is_a_fact_in_one_line(tmp_path: Path) -> None:
    page = shown(
        tmp_path, attack={"epsilon": 8 / 255, "eot": ["jpeg", "crop"], "keep_away": False}, limit=None, note=""
    )
    facts = dict(page.facts)
    assert facts["attack"] == "epsilon 8/255, eot jpeg, crop, keep away no"
    assert facts["hardware"] == "toy"
    assert {"limit", "note", "model", "judge", "suites"}.isdisjoint(facts)


def test_every_suite_is_counted_with_source_and_licence(tmp_path: Path) -> None:
    content = [*rows(3, "a", suite="safe"), *rows(2, "b", suite="harmful", expected="refuse")]
    suites = {suite.name: suite for suite in shown(tmp_path, content).suites}
    assert {name: suite.samples for name, suite in suites.items()} == {"safe": 3, "harmful": 2}
    assert all((suite.source, suite.licence) == ("toy", "CC0-1.0") for suite in suites.values())


def test_a_sample_asked_in_two_variants_is_one_prompt(tmp_path: Path) -> None:
    content = [*rows(3, "a"), *rows(3, "a", variant="perturbed")]
    assert [suite.samples for suite in shown(tmp_path, content).suites] == [3]


def test_parts_of_a_suite_have_the_hash_of_the_whole(tmp_path: Path) -> None:
    entry = {"name": "mm", "source": "a folder", "sha256": "ab" * 32, "samples": 2}
    content = [*rows(1, "a", suite="mm/typo"), *rows(1, "b", suite="mm/sd")]
    suites = shown(tmp_path, content, suites=[entry]).suites
    assert [(suite.name, suite.sha256) for suite in suites] == [("mm/typo", "ab" * 32), ("mm/sd", "ab" * 32)]


def test_a_suite_whose_rows_are_not_there_yet_is_named(tmp_path: Path) -> None:
    entries = [{"name": name, "source": "s", "sha256": "0" * 64, "samples": 9} for name in ("safe", "later")]
    suites = {suite.name: suite for suite in shown(tmp_path, rows(1, "a"), suites=entries).suites}
    assert (suites["later"].samples, suites["later"].licence) == (0, "not stated")


def test_the_defence_is_named_layer_by_layer(tmp_path: Path) -> None:
    layers = [{"spec": "median"}, {"spec": "jpeg:quality=50"}]
    assert shown(tmp_path, defence={"layers": layers}).defence == ("median", "jpeg:quality=50")
    assert shown(tmp_path / "none").defence == ()


JUDGE = JudgeSummary("ensemble", "id-1", (), ("says little",), AgreementCard("e", "id-1", (AGREEMENT,), "make"), {})


def test_the_first_judge_made_the_numbers_and_each_is_shown_once() -> None:
    other = replace(JUDGE, identity="id-2", card=None, notes=("", "old"))
    first, second = judge_cards([JUDGE, other, JUDGE])
    assert first.role == "made the numbers of this page"
    assert second.role.startswith("judged this run before")
    assert first.rows == (AGREEMENT,)
    assert (second.rows, second.notes) == ((), ("old",))


def test_rows_over_all_models_stand_apart_from_those_of_one() -> None:
    total = replace(AGREEMENT, model="all")
    card = AgreementCard("e", "id-1", (AGREEMENT, total), "make")
    (shown_card,) = judge_cards([replace(JUDGE, card=card)])
    assert shown_card.totals == (total,)
    assert shown_card.by_model == (AGREEMENT,)


def test_members_that_ship_bring_their_own_cards() -> None:
    shipped = shipped_cards()[0]
    judge = replace(JUDGE, members=(JudgeMember("phrases", shipped.identity), JudgeMember("mine", "no-card")))
    cards = judge_cards([judge])
    assert [card.name for card in cards] == ["ensemble", "phrases"]
    assert cards[1].role == "a part of ensemble"
    assert cards[1].rows == shipped.rows


def test_kappa_reads_as_people_write_it() -> None:
    assert kappa_of(AGREEMENT) == "0.90"
    assert kappa_of(replace(AGREEMENT, kappa_low=0.876, kappa_high=0.941)) == "0.90 (0.88\u20130.94)"
    assert kappa_of(replace(AGREEMENT, kappa=None)) == "unknown"
    assert (
        notes_of(replace(AGREEMENT, labels="two people", held_out="by prompt")) == "labelled by two people; by prompt"
    )
    assert notes_of(AGREEMENT) == ""
