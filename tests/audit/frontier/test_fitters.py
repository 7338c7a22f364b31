"""What may be fitted on, and the table of fitters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.frontier.fitters import FITTERS, FitData, FitRequest, fit_conditional, fit_surgical
from equipoise.countermeasures.catalogue import CATALOGUE
from equipoise.data.catalogue import Suite
from equipoise.data.split_registry import SplitRegistry
from equipoise.steering import find as steering_find
from equipoise.steering.direction import Direction
from equipoise.steering.prompt_sets import own_prompts
from equipoise.types import Sample
from tests.audit.frontier.planted import SorryJudge, own
from tests.audit.frontier.samples import planted_suite, registry
from tests.steering.planted import planted_model


def test_every_fitter_of_files_has_a_countermeasure_that_takes_the_file() -> None:
    for name, fitter in FITTERS.items():
        assert fitter.name == name
        assert fitter.about
        assert fitter.fitted_on
        if fitter.makes == "file":
            assert CATALOGUE[name].keys["file"] == ""


def test_data_are_the_selection_part_and_our_own_prompts() -> None:
    divided = registry()
    data = FitData.of(divided)
    assert {s.id for s in data.all if s.suite == "own"} == {s.id for s in divided.parts.selection}
    assert all(sample.expected == "refuse" for sample in data.harmful)
    assert all(sample.expected == "answer" for sample in data.harmless)
    assert sum(s.suite == "equipoise-harmful" for s in data.harmful) == len(own_prompts("harmful"))
    assert divided.leaks(data.all) == ()


def test_a_prompt_of_ours_that_a_suite_asks_as_well_is_dropped() -> None:
    text = own_prompts("harmful").prompts[0].text
    suite = planted_suite(60)
    test = SplitRegistry.of([suite]).parts.test[0]
    changed = replace(test, text=text, expected="refuse")
    samples = tuple(changed if sample.id == test.id else sample for sample in suite.samples)
    divided = SplitRegistry.of([Suite("own", samples, "")])
    assert changed in divided.parts.test, "the part follows the cluster, not the words"
    data = FitData.of(divided)
    assert text not in {sample.text for sample in data.all}
    assert sum(s.suite == "equipoise-harmful" for s in data.harmful) == len(own_prompts("harmful")) - 1


def test_a_sample_that_cannot_be_asked_is_not_fitted_on() -> None:
    suite = planted_suite(60)
    samples = tuple(replace(sample, problem="its picture is missing") for sample in suite.samples)
    data = FitData.of(SplitRegistry.of([Suite("own", samples, "")]))
    assert not [sample for sample in data.all if sample.suite == "own"]


def test_borderline_samples_are_fitted_on_by_nobody() -> None:
    samples = tuple(Sample(str(i), "own", f"w{i} w{i + 1}", "borderline") for i in range(40))
    data = FitData.of(SplitRegistry.of([Suite("own", samples, "")]))
    assert not [sample for sample in data.all if sample.suite == "own"]


def test_a_vector_of_false_refusals_is_chosen_with_contrasts_in_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equipoise.steering.prompt_sets.own_prompts", own)
    data = FitData.of(registry())
    assert len(data.contrast) == 32
    outcome = fit_surgical(FitRequest(planted_model(), data, tmp_path, judge=SorryJudge()))
    assert outcome.artefact is not None, outcome.reason
    assert Direction.load(tmp_path / outcome.artefact).details["contrast"] == 32
    assert set(data.contrast) <= set(outcome.tuned_on), "a test split is held against them as well"


@pytest.mark.parametrize("name", ["harmful", "harmless", "pseudo_harmful", "ordinary", "contrast_harmful"])
def test_our_own_prompts_stand_under_their_own_name(name: str) -> None:
    data = FitData.of(registry())
    assert any(sample.suite == f"equipoise-{name}" for sample in data.all)


def test_a_fit_that_uses_few_samples_is_not_estimated_by_all_of_them() -> None:
    samples = planted_suite(300).samples
    few, many = FitData(samples[:30], samples[30:60]), FitData(samples[:150], samples[150:])
    for name, row in FITTERS.items():
        assert row.replies(few) == 60 * row.forwards
        limited = row.most is not None
        assert limited is (name in ("dro", "derta"))
        assert row.replies(many) == row.forwards * (row.most or 300)


@pytest.mark.parametrize(("divergence", "says"), [(0.05, False), (0.26, True)])
def test_a_direction_beyond_the_limit_of_the_paper_is_a_doubt(
    divergence: float, says: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = steering_find.find_direction

    def diverging(*arguments: Any) -> Any:
        result = find(*arguments)
        assert result.direction is not None
        metrics = {**result.direction.metrics, "kl": divergence}
        return replace(result, direction=replace(result.direction, metrics=metrics))

    monkeypatch.setattr(steering_find, "find_direction", diverging)
    monkeypatch.setattr("equipoise.steering.prompt_sets.own_prompts", own)
    data = FitData.of(registry())
    outcome = fit_conditional(FitRequest(planted_model(), data, tmp_path, judge=SorryJudge()))
    assert outcome.artefact is not None
    assert any(f"KL {divergence:.2f}" in doubt for doubt in outcome.doubts) is says


def test_a_direction_that_only_brings_refusals_is_enough_for_a_condition(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # No ablation passes a negative limit.
    monkeypatch.setattr("equipoise.audit.frontier.fitters.FIT_KL", -1.0)
    monkeypatch.setattr("equipoise.steering.prompt_sets.own_prompts", own)
    outcome = fit_conditional(FitRequest(planted_model(), FitData.of(registry()), tmp_path, judge=SorryJudge()))
    assert outcome.artefact is not None, outcome.reason
    assert any("added 1 times it makes the model refuse" in doubt for doubt in outcome.doubts)
