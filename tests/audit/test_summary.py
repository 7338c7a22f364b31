"""The summary: known counts recovered, both axes everywhere, unfinished runs told apart."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.audit.perturbed_picture import to_document
from equipoise.audit.records import AuditRun
from equipoise.audit.summary import AuditSummary, summarise
from equipoise.errors import UsageError
from equipoise.stats.estimates import Estimate
from tests.audit.factories import MODEL, PERTURBED, REVISION, Row, balanced, balanced_rows, recipe, rows, write_run

AXES = ("needless_refusal", "harmful_answer")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> AuditRun:
    return balanced(tmp_path_factory.mktemp("runs") / "balanced")


@pytest.fixture(scope="module")
def summary(finished: AuditRun) -> AuditSummary:
    return summarise(finished)


def counts(rate: Estimate) -> tuple[int, int, int]:
    return rate.k, rate.n, rate.unscored


def cells(summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for variant in summary["variants"].values():
        yield variant
        for suite in variant["suites"].values():
            yield suite
            yield from suite["categories"].values()


def test_known_counts_come_back(summary: AuditSummary) -> None:
    plain, perturbed = summary.variants["plain"], summary.variants["perturbed"]
    assert summary.complete is True
    assert counts(plain.rates.needless_refusal) == (6, 40, 2)
    assert counts(plain.rates.full_refusal) == (5, 40, 2)
    assert counts(plain.rates.accuracy) == (34, 42, 0)
    assert counts(plain.rates.harmful_answer) == (3, 30, 0)
    assert counts(plain.rates.borderline_refused) == (4, 10, 0)
    assert counts(plain.rates.borderline_harmful) == (1, 10, 0)
    assert plain.unscored_reasons == {"judge timed out": 2}
    assert plain.wire == {"text": 82}
    safe = plain.suites["safe"]
    assert counts(safe.categories["homonyms"].needless_refusal) == (5, 20, 0)
    assert counts(safe.categories["figures"].needless_refusal) == (1, 20, 2)
    assert counts(plain.suites["harmful"].categories["weapons"].harmful_answer) == (3, 15, 0)
    assert counts(perturbed.rates.needless_refusal) == (30, 42, 0)
    assert perturbed.by == {"model": 70, "guard": 2}


def test_every_cell_has_both_axes_and_an_empty_one_says_nothing(summary: AuditSummary) -> None:
    rates = list(cells(summary.to_json()))
    assert len(rates) == 2 + 5 + 9
    for cell in rates:
        for axis in AXES:
            assert {"n", "k", "rate", "low", "high", "unscored", "review"} <= set(cell[axis])
    empty = summary.variants["plain"].suites["safe"].rates.harmful_answer
    assert (empty.n, empty.rate, empty.low, empty.high) == (0, None, 0.0, 1.0)


def test_the_recipe_goes_along(finished: AuditRun, summary: AuditSummary) -> None:
    assert (summary.run["model"], summary.run["revision"]) == (MODEL, REVISION)
    assert {"command", "suites", "judge", "versions", "hardware"} <= set(summary.run)
    assert [judge.identity for judge in summary.judges] == [finished.judge]


def test_traces_of_an_attack_stay_out_of_the_summary(tmp_path: Path) -> None:
    run = balanced(tmp_path / "run", given=recipe(attack={"name": "refusal", "epsilon": 8 / 255}))
    (run.folder / "attack.json").write_text(to_document([replace(PERTURBED, losses=(1.0,) * 500)]))
    assert summarise(run).run["attack"] == {"name": "refusal", "epsilon": 8 / 255}


def test_a_summary_is_a_function_of_the_rows_alone(finished: AuditRun, summary: AuditSummary, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "copy")
    copy = AuditRun.open(tmp_path / "copy")
    path = summarise(copy).save(copy.folder)
    first = path.read_bytes()
    assert json.loads(first) == summary.to_json()
    assert summarise(copy).save(copy.folder).read_bytes() == first


def test_a_summary_is_read_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    run = balanced(tmp_path / "run")
    summary = summarise(run)
    assert AuditSummary.load(summary.save(run.folder)) == summary
    assert AuditSummary.from_json(summary.to_json()).to_json() == summary.to_json()


def fields(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all fields and items of a document."""
    children: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for name, child in children:
        yield (*path, name)
        yield from fields(child, (*path, name))


# Not read back: the recipe is free, and the rest follows from other fields.
FREE = ("run",)
DERIVED = ("least", "most", "rate_a", "rate_b", "same_judge", "reached")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_to_a_summary_is_one_error_that_names_the_place(summary: AuditSummary, data: st.DataObject) -> None:
    document = json.loads(json.dumps(summary.to_json()))
    paths = [path for path in fields(document) if path[0] not in FREE and path[-1] not in DERIVED]
    path = data.draw(st.sampled_from(paths))
    parent = document
    for name in path[:-1]:
        parent = parent[name]
    # An object of no known type is wrong everywhere; a list of lists is wrong even where any text would do.
    parent[path[-1]] = data.draw(st.sampled_from([[[]], {"": []}]))
    with pytest.raises(UsageError, match=r"^expected .* (at|in) summary\.json.*; try") as error:
        AuditSummary.from_json(document)
    assert str(path[0]) in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 99, "expected format 1 in summary.json, got 99"),
        (("complete",), 1, "expected true or false at summary.json: complete, got 1"),
        (("variants", "plain", "degenerate"), True, "an integer at summary.json: variants.plain.degenerate, got true"),
        (("variants", "plain", "degenerate"), 1.5, "an integer at summary.json: variants.plain.degenerate, got 1.5"),
        (
            ("variants", "plain", "needless_refusal", "low"),
            float("nan"),
            "a number at summary.json: variants.plain.needless_refusal.low, got NaN",
        ),
        (("comparisons", 0, "rates"), {"": []}, "comparisons[0].rates.needless_refusal, got no such field"),
        (("warnings",), [{"kind": "k", "text": "t", "about": {"variant": None, "suite": None, "rate": "x"}}], "one of"),
    ],
)
def test_a_field_of_another_type_is_named_with_what_it_holds(
    summary: AuditSummary, path: tuple[str | int, ...], value: object, message: str
) -> None:
    document = json.loads(json.dumps(summary.to_json()))
    parent = document
    for name in path[:-1]:
        parent = parent[name]
    parent[path[-1]] = value
    with pytest.raises(UsageError, match=re.escape(message)):
        AuditSummary.from_json(document)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_file_that_is_no_summary_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(UsageError, match=r"expected a file at .*summary\.json"):
        AuditSummary.load(path)
    path.write_text(text)
    with pytest.raises(UsageError, match=r"expected (JSON|an object) .*summary\.json"):
        AuditSummary.load(path)


outcomes = st.tuples(
    st.sampled_from(["answer", "refuse", "borderline"]),
    st.sampled_from(["none", "partial", "full", None]),
    st.sampled_from(["none", "some", "severe", None]),
    st.booleans(),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(outcomes, min_size=1, max_size=12))
def test_any_counts_come_back(tmp_path_factory: pytest.TempPathFactory, content: list[tuple[Any, ...]]) -> None:
    sample_rows = [
        Row(str(index), expected, refusal, harm, review=review)
        for index, (expected, refusal, harm, review) in enumerate(content)
    ]
    plain = summarise(write_run(tmp_path_factory.mktemp("run"), sample_rows)).variants["plain"]
    safe = [refusal for expected, refusal, _, _ in content if expected == "answer"]
    unsafe = [harm for expected, _, harm, _ in content if expected == "refuse"]
    assert counts(plain.rates.needless_refusal) == (
        safe.count("partial") + safe.count("full"),
        len(safe) - safe.count(None),
        safe.count(None),
    )
    assert counts(plain.rates.harmful_answer) == (
        unsafe.count("some") + unsafe.count("severe"),
        len(unsafe) - unsafe.count(None),
        unsafe.count(None),
    )
    # Adding up: the cases of every suite are those of the variant.
    assert sum(suite.rates.harmful_answer.n for suite in plain.suites.values()) == plain.rates.harmful_answer.n


@pytest.mark.parametrize(
    ("left", "why"),
    [
        (Row("x", sent=False), "not asked yet"),
        (Row("x", judged=False), "not judged yet"),
        (Row("x", error="HTTP 500"), "no reply: HTTP 500"),
    ],
)
def test_what_another_try_may_cure_leaves_a_run_unfinished(tmp_path: Path, left: Row, why: str) -> None:
    summary = summarise(write_run(tmp_path / "run", [*rows(3, "r"), left]))
    assert summary.complete is False
    assert summary.variants["plain"].unscored_reasons == {why: 1}
    assert counts(summary.variants["plain"].rates.needless_refusal) == (0, 3, 1)


@pytest.mark.parametrize(
    "left", [Row("x", problem="its picture is missing"), Row("x", refusal=None, unscored="the judge answered in prose")]
)
def test_what_no_try_can_cure_is_unscored_in_a_finished_run(tmp_path: Path, left: Row) -> None:
    summary = summarise(write_run(tmp_path / "run", [*rows(3, "r"), left]))
    assert summary.complete is True
    assert counts(summary.variants["plain"].rates.needless_refusal) == (0, 3, 1)


def test_samples_and_variants_of_the_recipe_that_are_not_there_leave_a_run_unfinished(tmp_path: Path) -> None:
    suites = [{"name": "safe", "source": "toy", "sha256": "0", "samples": 4}]
    assert summarise(write_run(tmp_path / "a", rows(3, "r"), given=recipe(suites=suites))).complete is False
    assert summarise(write_run(tmp_path / "b", rows(4, "r"), given=recipe(suites=suites))).complete is True
    variants = recipe(variants=["plain", "perturbed"])
    assert summarise(write_run(tmp_path / "c", rows(3, "r"), given=variants)).complete is False


def test_harm_is_never_not_refused(tmp_path: Path) -> None:
    content = rows(5, "r", expected="refuse", refusal="none", harm=None)
    plain = summarise(write_run(tmp_path / "run", content)).variants["plain"]
    assert counts(plain.rates.harmful_answer) == (0, 0, 5)
    assert plain.unscored_reasons == {"no judge gives this label": 5}


def test_many_reasons_are_counted_together(tmp_path: Path) -> None:
    content = [Row(str(index), refusal=None, unscored=f"request {index} failed") for index in range(50)]
    reasons = summarise(write_run(tmp_path / "run", content)).variants["plain"].unscored_reasons
    assert len(reasons) == 21
    assert sum(reasons.values()) == 50


def test_ids_of_different_suites_are_no_cluster_but_forms_of_one_suite_are(tmp_path: Path) -> None:
    strangers = [*rows(5, "", suite="one"), *rows(5, "", suite="two")]
    forms = [*rows(5, "", suite="mm/typo"), *rows(5, "", suite="mm/text")]
    for name, content, clusters in (("a", strangers, 10), ("b", forms, 5)):
        plain = summarise(write_run(tmp_path / name, content)).variants["plain"]
        assert plain.rates.needless_refusal.clusters == clusters


def test_an_edited_folder_is_one_clear_error(tmp_path: Path) -> None:
    run = balanced(tmp_path / "run")
    path = run.folder / "verdicts.jsonl"
    path.write_text(path.read_text().replace('"refusal": "full"', '"refusal": "none"', 1))
    with pytest.raises(UsageError, match=r"line 1 of .*verdicts\.jsonl as it was written"):
        summarise(run)


def test_the_fixture_is_what_it_says() -> None:
    assert len(balanced_rows()) == 154
