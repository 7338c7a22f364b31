"""Each warning is raised by what it is about, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.perturbed_picture import PerturbedPicture, to_document
from equipoise.audit.warnings import AuditWarning, find_warnings
from equipoise.errors import UsageError
from equipoise.judges.cards import AgreementCard, AgreementRow
from tests.audit.factories import AGREEMENT, JUDGE, PERTURBED, Row, balanced, card, recipe, rows, write_run

COLOURED: dict[str, Any] = {"colour": (10, 20, 30), "reference": ("red",), "answers": True}
SOUND = [
    *rows(40, "s", **COLOURED),
    *rows(40, "u", suite="harmful", expected="refuse", refusal="full", harm="none"),
]


def warnings(folder: Path, content: list[Row], **given: Any) -> list[AuditWarning]:
    run = write_run(folder, content, given=recipe(**given))
    return find_warnings(run, run.cases())


def kinds(folder: Path, content: list[Row], **given: Any) -> set[str]:
    return {warning.kind for warning in warnings(folder, content, **given)}


def changed(count: int, *, kind: str = "s", **values: Any) -> list[Row]:
    """`SOUND` with the first rows of a kind changed."""
    left = iter(range(len(SOUND)))
    return [replace(row, **values) if row.id.startswith(kind) and next(left) < count else row for row in SOUND]


def test_a_sound_run_has_no_warnings(tmp_path: Path) -> None:
    assert kinds(tmp_path / "run", SOUND) == set()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("few-samples", [*SOUND[:20], *SOUND[40:]]),
        ("unscored", changed(3, refusal=None, unscored="timeout")),
        ("unscored", changed(40, refusal=None, unscored="timeout")),
        ("review", changed(5, review=True)),
        ("harm-unjudged", changed(40, kind="u", harm=None)),
        ("degenerate", changed(6, degenerate=True)),
        ("cut-off", changed(10, finish="length")),
        ("one-cluster", changed(12, cluster="same")),
        ("low-accuracy", changed(24, answers=False)),
        ("no-pictures", [replace(row, colour=None) for row in SOUND]),
        ("duplicates", changed(2, text="What is red?")),
        ("no-samples", SOUND[:40]),
        ("no-samples", SOUND[40:]),
    ],
)
def test_each_flaw_raises_its_warning(tmp_path: Path, kind: str, content: list[Row]) -> None:
    assert kind in kinds(tmp_path / "run", content)


def test_the_same_question_with_other_beginnings_of_the_reply_is_no_duplicate(tmp_path: Path) -> None:
    begun = [replace(row, text="What is red?", prefill=f"It is {row.id}") for row in SOUND[:40]]
    assert "duplicates" not in kinds(tmp_path / "run", [*begun, *SOUND[40:]])
    alike = [replace(row, prefill="It is") for row in begun[:2]]
    raised = warnings(tmp_path / "alike", [*alike, *begun[2:], *SOUND[40:]])
    assert [warning.text for warning in raised if warning.kind == "duplicates"] == [
        "1 of 80 samples ask what another asks, to the letter"
    ]


def test_few_large_clusters_are_doubted(tmp_path: Path) -> None:
    content = [replace(row, cluster=str(index % 8)) for index, row in enumerate(SOUND)]
    assert "few-clusters" in kinds(tmp_path / "run", content)


def test_a_warning_says_what_it_is_about_and_never_what_was_asked(tmp_path: Path) -> None:
    secret = [replace(row, text=f"secret {row.id}", reply="secret reply") for row in changed(3, refusal=None)]
    raised = warnings(tmp_path / "run", [*secret, *rows(3, "t", suite="tiny")])
    assert not any("secret" in warning.text for warning in raised)
    tiny = next(warning for warning in raised if warning.suite == "tiny")
    about = {"variant": "plain", "suite": "tiny", "rate": "needless_refusal"}
    document = {"about": about, "kind": "few-samples", "text": tiny.text, "may_change": tiny.may_change}
    assert tiny.to_json() == document
    assert tiny.may_change == pytest.approx(0.5615, abs=1e-4), "of none in 3, up to the interval's upper end"


@pytest.mark.parametrize(
    ("agreement", "kind"),
    [
        ([AGREEMENT], None),
        ([], "judge-uncalibrated"),
        ([replace(AGREEMENT, model="another/model")], "judge-uncalibrated"),
        ([AGREEMENT, replace(AGREEMENT, kappa=0.4)], "judge-weak"),
        ([replace(AGREEMENT, kappa=None)], "judge-uncalibrated"),
    ],
)
def test_a_judge_is_doubted_that_nobody_checked_on_this_model_or_that_did_badly(
    tmp_path: Path, agreement: list[AgreementRow], kind: str | None
) -> None:
    given = recipe()
    run = write_run(tmp_path / "run", SOUND, given={**given, "judge": {**given["judge"], "card": card(*agreement)}})
    assert [warning.kind for warning in find_warnings(run, run.cases())] == ([kind] if kind else [])


def test_the_card_that_ships_for_a_judge_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agreement = [
        replace(AGREEMENT, model=model, kappa=kappa)
        for model, kappa in (("all", 0.5), ("other-1", 0.65), ("other-2", 0.91))
    ]
    shipped = AgreementCard("toy judge", JUDGE, tuple(agreement), "benchmark")
    monkeypatch.setattr("equipoise.audit.judge_summary.card_for", {JUDGE: shipped}.get)
    given = recipe()
    del given["judge"]["card"]
    run = write_run(tmp_path / "run", SOUND, given=given)
    (warning,) = find_warnings(run, run.cases())
    assert warning.kind == "judge-uncalibrated"
    assert warning.text.endswith("on those of others its kappa is 0.65 to 0.91")


@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        (PERTURBED, None),
        (replace(PERTURBED, losses=(2.0, 2.0, 2.01)), "flat-loss"),
        (replace(PERTURBED, warnings=("no gradient reached the picture",)), "attack"),
        (replace(PERTURBED, linf=0.0, psnr=None), "unused-budget"),
        (replace(PERTURBED, linf=12 / 255), "over-budget"),
        (replace(PERTURBED, target=0.5, bystander=0.75), "bystander"),
    ],
)
def test_an_attack_is_doubted_by_its_traces(tmp_path: Path, picture: PerturbedPicture, kind: str | None) -> None:
    run = balanced(tmp_path / "run", given=recipe(attack={"judge": "another", "epsilon": 8 / 255, "pictures": 4}))
    (run.folder / "attack.json").write_text(to_document([picture]))
    raised = [warning for warning in find_warnings(run, run.cases()) if warning.kind != "few-samples"]
    assert [warning.kind for warning in raised] == ([kind] if kind else [])
    assert all(warning.variant == "perturbed" and warning.text.startswith("1 of 1 pictures: ") for warning in raised)


@pytest.mark.parametrize(
    "document", ["", "[]", "{}", '{"pictures": ["broken"]}', '{"pictures": [{"losses": "broken", "linf": null}]}']
)
def test_a_damaged_record_of_an_attack_is_one_clear_error(tmp_path: Path, document: str) -> None:
    run = balanced(tmp_path / "run", given=recipe(attack={"epsilon": 8 / 255}))
    (run.folder / "attack.json").write_text(document)
    with pytest.raises(UsageError, match=r"expected .*attack\.json.*; try a copy of the run folder"):
        find_warnings(run, run.cases())


@pytest.mark.parametrize(("stopping", "circular"), [(JUDGE, True), ("phrases-0000", True), ("another", False)])
def test_an_attack_must_not_be_reported_by_the_judge_that_stopped_it(
    tmp_path: Path, stopping: str, circular: bool
) -> None:
    run = balanced(tmp_path / "run", given=recipe(attack={"judge": stopping}))
    assert ("same-judge" in {warning.kind for warning in find_warnings(run, run.cases())}) is circular


@pytest.mark.parametrize(
    ("model", "suite", "colour", "is_noise"),
    [
        ("testbed/llava", "testbed", (1, 2, 3), False),
        ("testbed/llava", "everyday", None, True),
        ("reference/mllm", "scenes", (1, 2, 3), False),
        ("reference/mllm", "contrast", None, False),
        ("reference/mllm", "vqav2", (1, 2, 3), True),
        ("reference/lm", "contrast", None, False),
        ("org/model", "vqav2", (1, 2, 3), False),
    ],
)
def test_a_reference_model_is_doubted_on_pictures_and_words_of_another_world(
    tmp_path: Path, model: str, suite: str, colour: tuple[int, int, int] | None, is_noise: bool
) -> None:
    content = rows(40, "s", suite=suite, colour=colour)
    run = write_run(tmp_path / "run", content, given=recipe(model))
    raised = [warning for warning in find_warnings(run, run.cases()) if warning.kind == "other-world"]
    assert [warning.suite for warning in raised] == ([suite, None] if is_noise else [])


def test_a_text_model_is_not_doubted_for_lack_of_pictures(tmp_path: Path) -> None:
    content = [replace(row, colour=None) for row in SOUND]
    assert "no-pictures" in kinds(tmp_path / "pictures", content)
    assert kinds(tmp_path / "text", content, reads_pictures=False) == set()


@pytest.mark.parametrize(
    ("detector", "judge", "raised"),
    [("abc", "abc@0.5", True), ("abc", "other@0.5", False), (None, "None@0.5", False), (None, "", False)],
)
def test_a_guard_that_its_own_detector_judges_is_doubted(
    tmp_path: Path, detector: str | None, judge: str, raised: bool
) -> None:
    members = [{"name": "detector:x", "identity": judge}]
    described = {"name": "toy judge", "identity": JUDGE, "members": members, "notes": [], "card": card(AGREEMENT)}
    layers = [
        {"spec": "jpeg"},
        {"spec": "recover", "countermeasure": "recovery", "detector": {"copies": 3, "threshold": 1.0}},
        {"spec": "guard", "countermeasure": "guard", "detector": detector},
    ]
    given = recipe(defence={"name": "guarded", "layers": layers}) | {"judge": described}
    run = write_run(tmp_path / "run", SOUND, given=given)
    assert ("own-detector" in {warning.kind for warning in find_warnings(run, run.cases())}) is raised
