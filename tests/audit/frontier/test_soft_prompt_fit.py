"""The fitter of soft prompts: on the selection split, states read once for all seeds, and refused where it leaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.frontier import soft_prompt_fit
from equipoise.audit.frontier.document import Frontier
from equipoise.audit.frontier.fit_cache import FitCache
from equipoise.audit.frontier.fitters import FITTERS, FitData, FitRequest
from equipoise.audit.frontier.run import run_frontier
from equipoise.audit.frontier.soft_prompt_fit import ANCHORS, fit_soft_prompt
from equipoise.prompts import anchor_file
from equipoise.prompts.dro import DroSettings
from equipoise.prompts.soft_prompt import SoftPrompt
from tests.audit.frontier.planted import SorryJudge, own, planted_config
from tests.audit.frontier.samples import registry
from tests.steering.planted import planted_model

SETTINGS = DroSettings(epochs=4, batch=16, learning_rate=0.02, reply_tokens=2, components=3)


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of our own, and the text to start from, in the words of the planted model."""
    monkeypatch.setattr("equipoise.steering.prompt_sets.own_prompts", own)
    monkeypatch.setattr("equipoise.prompts.safety_texts.safety_text", lambda: "w30 w31 shoot w32 w33")
    monkeypatch.setattr(soft_prompt_fit, "fit_soft_prompt", lambda request: fit_soft_prompt(request, SETTINGS))


def request(folder: Path, **more: Any) -> FitRequest:
    return FitRequest(planted_model(), FitData.of(registry()), folder, judge=SorryJudge(), **more)


def test_it_fits_on_the_selection_split_and_our_own_prompts_alone(tmp_path: Path) -> None:
    divided = registry()
    outcome = fit_soft_prompt(request(tmp_path), SETTINGS)
    assert outcome.artefact == "soft.safetensors"
    assert divided.leaks(outcome.tuned_on) == ()
    suites = {sample.suite for sample in outcome.tuned_on}
    assert suites == {"own", "equipoise-harmful", "equipoise-harmless", "equipoise-pseudo_harmful"}
    assert len(outcome.tuned_on) == 3 * ANCHORS
    prompt = SoftPrompt.load(tmp_path / "soft.safetensors")
    texts = {text for _, text in prompt.details["requests"]}
    assert texts == {sample.text for sample in outcome.tuned_on}, "it says everything that it used"


def test_states_are_read_once_for_all_seeds_and_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    read = anchor_file.anchor_data
    monkeypatch.setattr(anchor_file, "anchor_data", lambda *a, **k: calls.append(1) or read(*a, **k))
    digests = set()
    for seed in (0, 1, 0):
        folder = tmp_path / str(len(digests))
        fit_soft_prompt(request(folder, seed=seed, shared=tmp_path / "shared"), SETTINGS)
        digests.add(SoftPrompt.load(folder / "soft.safetensors").digest)
    assert len(calls) == 1
    assert len(digests) == 2
    for file in (tmp_path / "shared").glob("anchors-*.safetensors"):
        file.write_bytes(b"half")
    fit_soft_prompt(request(tmp_path / "again", shared=tmp_path / "shared"), SETTINGS)
    assert len(calls) == 2


def test_a_model_that_answers_everything_gets_no_soft_prompt(tmp_path: Path) -> None:
    class Never(SorryJudge):
        identity = "never"

        @staticmethod
        def __call__(exchanges: Any) -> Any:
            from equipoise.types import Verdict

            return [Verdict("none", harm="severe") for _ in exchanges]

    outcome = fit_soft_prompt(replace(request(tmp_path), judge=Never()), SETTINGS)
    assert outcome.artefact is None
    assert outcome.reason
    assert outcome.reason.startswith("expected")


def test_the_frontier_measures_it_under_its_name(tmp_path: Path) -> None:
    folder = run_frontier(planted_config(tmp_path / "frontier", "dro"))
    plain, dro = Frontier.read(folder).rows
    assert (plain.name, dro.name) == ("plain", "dro")
    assert dro.specs[0].startswith("dro:file=")
    assert dro.tuned_on["own"] > 0
    assert any("loss on anchors kept back" in doubt for doubt in dro.doubts)


def test_one_that_leaks_is_refused(tmp_path: Path) -> None:
    """The fitter is handed nothing of the test split; were it so, the cache would see it."""
    divided = registry()
    leaking = replace(FitData.of(divided), harmful=divided.test[:40])
    cache = FitCache(tmp_path, divided, leaking, judge=SorryJudge())
    result = cache.fit(FITTERS["dro"], planted_model(), 0)
    assert result.refused is not None
    assert "related to the test split" in result.refused
