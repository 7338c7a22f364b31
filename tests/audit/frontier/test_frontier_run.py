"""A whole frontier of a tiny model: fits on the selection split, resumption, leaks, budget, seeds, adapters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.engine.session import EvaluationTarget
from equipoise.audit.frontier import fitters
from equipoise.audit.frontier.advice import advise
from equipoise.audit.frontier.config import FrontierConfig
from equipoise.audit.frontier.document import NAME, Frontier, read_names
from equipoise.audit.frontier.fitters import FitOutcome, FitRequest, Fitter
from equipoise.audit.frontier.run import run_frontier
from equipoise.audit.frontier.variant import parse_variant
from equipoise.errors import UsageError
from equipoise.files import write_json
from equipoise.types import Prompt
from tests.audit.frontier.planted import own, planted_config
from tests.audit.frontier.samples import registry
from tests.steering.planted import planted_model

Config = Callable[..., FrontierConfig]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A frontier of the planted model in a folder of its own."""
    monkeypatch.setattr("equipoise.steering.prompt_sets.own_prompts", own)
    return lambda *texts, **fields: planted_config(tmp_path / "frontier", *texts, **fields)


def replies(folder: Path) -> int:
    """Replies in all runs."""
    return sum(len(file.read_text().splitlines()) for file in folder.rglob("replies.jsonl"))


def register(
    monkeypatch: pytest.MonkeyPatch, name: str, fit: Callable[[FitRequest], FitOutcome], **fields: Any
) -> None:
    monkeypatch.setitem(fitters.FITTERS, name, Fitter(name, "a test", "nothing real", fit, **fields))


def test_a_fitted_mitigation_removes_needless_refusals_alone(config: Config) -> None:
    folder = run_frontier(config("surgical"))
    frontier = Frontier.read(folder)
    plain, surgical = frontier.rows
    assert plain.needless.rate is not None
    assert plain.needless.rate > 0.3, "the planted model refuses every `shoot`"
    assert surgical.needless.rate == 0.0
    assert surgical.harmful.rate == plain.harmful.rate == 0.0
    change = surgical.changes["needless_refusal"]
    assert change.only_b == 0
    assert change.p_adjusted is not None
    assert change.p_adjusted >= change.p
    assert surgical.membership is not None
    assert surgical.membership.share == 1.0
    assert plain.membership is not None
    assert plain.membership.dominated_by == (1,)
    # Few planted prompts exclude no small rise.
    assert advise(frontier).ship == "plain"
    advice = advise(frontier, margin=0.5)
    assert advice.ship == "surgical"
    assert "without a measurable rise of harmful answers" in advice.headline
    assert "--defend" in advice.command
    write_json(frontier.folder / NAME, frontier.to_json())
    assert read_names(folder) == {"plain": ("runs/plain",), "surgical": ("runs/surgical",)}


def test_a_folder_that_no_spec_can_name_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    folder = tmp_path / "a,b"
    with pytest.raises(UsageError, match="expected file of surgical without a comma"):
        planted_config(folder, "surgical")
    assert not folder.exists()
    assert planted_config(folder, "guard").variants, "nothing is fitted"


def test_fits_use_no_test_sample_and_say_what_they_used(config: Config) -> None:
    settings = config("surgical", "conditional")
    folder = run_frontier(settings)
    documents = [json.loads(file.read_text()) for file in folder.glob("fits/*/fit.json")]
    assert {document["fitter"] for document in documents} == {"surgical", "conditional"}
    selection = len(settings.registry.parts.selection)
    for document in documents:
        assert document["refused"] is None
        assert document["tuned_on"]["own"] == selection
    row = Frontier.read(folder).rows[1]
    assert row.tuned_on["own"] == selection
    assert row.cost["fit_seconds"] > 0


def test_the_same_command_again_neither_fits_nor_asks(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config("surgical")
    folder = run_frontier(settings)
    before = replies(folder)
    row = fitters.FITTERS["surgical"]
    monkeypatch.setitem(fitters.FITTERS, "surgical", replace(row, fit=lambda request: pytest.fail("fitted twice")))
    run_frontier(config("surgical"))
    assert replies(folder) == before
    # A further mitigation joins the folder; the first row stays, and so does the fit.
    run_frontier(config("surgical then conditional"))
    assert [row.name for row in Frontier.read(folder).rows] == ["plain", "surgical", "surgical then conditional"]


def test_a_fit_on_test_samples_is_refused_and_never_measured(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    test = registry().parts.test

    def leaking(request: FitRequest) -> FitOutcome:
        (request.folder / "x.safetensors").write_bytes(b"")
        return FitOutcome("x.safetensors", (*request.data.harmless, test[0]))

    register(monkeypatch, "surgical", leaking)
    folder = run_frontier(config("surgical"))
    frontier = Frontier.read(folder)
    assert [row.name for row in frontier.rows] == ["plain"]
    assert len(frontier.left_out) == 1
    assert frontier.left_out[0]["reason"].startswith("refused: fitted on 1 samples that are related to the test split")
    assert not (folder / "runs" / "surgical").exists()


def test_declared_tuning_data_that_leak_are_refused_before_anything_is_asked(config: Config, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"")
    spec = f"surgical:{tmp_path / 'mine.safetensors'}"
    with pytest.raises(UsageError, match="apart from the test split"):
        config(spec, declared={spec: registry().parts.test[:1]})
    assert config(spec, declared={spec: registry().parts.selection[:1]}).declared
    with pytest.raises(UsageError, match="expected a mitigation of --with for --tuned-on"):
        config("surgical", declared={spec: ()})


def test_a_mitigation_that_cannot_be_fitted_or_built_costs_the_others_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register(monkeypatch, "conditional", lambda request: FitOutcome(None, (), "no valid direction"))
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    broken = f"surgical:{tmp_path / 'broken.safetensors'}"
    folder = run_frontier(config("conditional", broken, "median", "surgical"))
    frontier = Frontier.read(folder)
    assert [row.name for row in frontier.rows] == ["plain", "surgical"]
    reasons = {item["name"]: item["reason"] for item in frontier.left_out}
    assert reasons["conditional"] == "nothing fitted: no valid direction"
    assert "expected" in reasons[broken]
    assert reasons["median"] == "planted reads no pictures"


def test_a_budget_leaves_out_what_does_not_fit_and_says_so(config: Config) -> None:
    folder = run_frontier(config("surgical", budget=0.001))
    frontier = Frontier.read(folder)
    assert [row.name for row in frontier.rows] == ["plain"]
    assert frontier.left_out[0]["reason"].startswith("budget: needs about")
    assert not list(folder.glob("fits/*/fit.json"))
    # With more time the same folder gets the row, and the note goes.
    run_frontier(config("surgical", budget=3600.0))
    again = Frontier.read(folder)
    assert [row.name for row in again.rows] == ["plain", "surgical"]
    assert again.left_out == ()


def test_several_seeds_are_one_row_whose_prompts_are_clusters(config: Config) -> None:
    folder = run_frontier(config("surgical", seeds=2))
    plain, row = Frontier.read(folder).rows
    assert row.folders == ("runs/surgical", "runs/surgical-seed1")
    assert row.needless.n == 2 * plain.needless.n
    assert row.needless.clusters == plain.needless.clusters
    assert row.changes["needless_refusal"].clusters == plain.needless.clusters
    assert len(list(folder.glob("fits/surgical-*"))) == 2


def test_a_fitter_of_adapters_loads_what_it_made(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interface for trained mitigations: the adapter is loaded over the model that it was fitted to."""
    loaded: list[str] = []

    def train(request: FitRequest) -> FitOutcome:
        (request.folder / "adapter").mkdir()
        return FitOutcome("adapter", request.data.harmful)

    def load(name: str) -> Any:
        loaded.append(name)
        return planted_model(1)

    register(monkeypatch, "tuned", train, makes="adapter")
    folder = run_frontier(config("tuned", load=load))
    (key,) = folder.glob("fits/tuned-*")
    assert loaded == [f"planted+{key / 'adapter'}"]
    row = Frontier.read(folder).rows[1]
    assert row.model == loaded[0]
    assert row.specs == ()


def test_another_model_split_or_judge_needs_another_folder(config: Config) -> None:
    settings = config("guard")
    run_frontier(replace(settings, variants=()))
    other = EvaluationTarget("planted", "planted-1", planted_model(1))
    with pytest.raises(UsageError, match="got another model; try another --out"):
        run_frontier(replace(settings, target=other))
    with pytest.raises(UsageError, match="got another split; try another --out"):
        run_frontier(replace(settings, registry=registry(60)))


def test_a_mitigation_is_named_once(config: Config) -> None:
    with pytest.raises(UsageError, match="expected every mitigation once"):
        config("surgical", "surgical")


def test_a_killed_frontier_goes_on_without_fitting_twice(tmp_path: Path) -> None:
    """The process kills itself after the first fit, in the middle of the audit that follows."""
    folder = tmp_path / "frontier"
    words = [sys.executable, "-m", "tests.audit.frontier.planted", str(folder)]
    killed = subprocess.run([*words, "kill"], cwd=Path(__file__).parents[3], env=os.environ, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    (fit,) = folder.glob("fits/surgical-*/fit.json")
    before, asked_before = fit.read_bytes(), replies(folder)
    assert asked_before > 0
    done = subprocess.run([*words, "refuse-to-fit"], cwd=Path(__file__).parents[3], env=os.environ, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert fit.read_bytes() == before
    frontier = Frontier.read(folder)
    assert [row.name for row in frontier.rows] == ["plain", "surgical"]
    assert all(row.complete for row in frontier.rows)
    keys = [json.loads(line)["key"] for file in folder.rglob("replies.jsonl") for line in file.read_text().splitlines()]
    assert len(keys) == len(set(keys)), "no prompt is asked twice"


def test_a_fit_that_was_killed_keeps_its_finished_stages(tmp_path: Path) -> None:
    """The process kills itself within the fit, after its replies and before its activations are finished."""
    folder = tmp_path / "frontier"
    words = [sys.executable, "-m", "tests.audit.frontier.planted", str(folder)]
    killed = subprocess.run([*words, "kill-in-fit"], cwd=Path(__file__).parents[3], env=os.environ, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not list(folder.glob("fits/*/fit.json"))
    # A batch of replies that is made again is written again.
    stages = {file: file.stat().st_mtime_ns for file in folder.glob("fits/shared/*/replies-harm*.json")}
    assert len(stages) == 4, "harmful and harmless, to fit on and to choose on"
    before = replies(folder)
    done = subprocess.run([*words, "go-on"], cwd=Path(__file__).parents[3], env=os.environ, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert {file: file.stat().st_mtime_ns for file in stages} == stages
    frontier = Frontier.read(folder)
    assert [row.name for row in frontier.rows] == ["plain", "surgical"]
    assert replies(folder) == 2 * before, "the plain prompts once, those of the mitigation once"
    (fit,) = folder.glob("fits/surgical-*/fit.json")
    assert json.loads(fit.read_text())["seconds"] > 0


def test_a_variant_is_asked_exactly_the_test_samples(config: Config) -> None:
    settings = config("guard")
    folder = run_frontier(replace(settings, variants=(parse_variant("surgical", "planted"),)))
    texts = {
        json.loads(line)["text"] for line in (folder / "runs" / "surgical" / "samples.jsonl").read_text().splitlines()
    }
    assert texts == {sample.text for sample in settings.registry.parts.test}
    assert Prompt.ask(next(iter(texts))).text in texts


def test_numbers_of_another_policy_are_not_taken_for_those_of_this_one(config: Config, tmp_path: Path) -> None:
    text = 'name = "mine"\n\n[[steps]]\nkind = "system"\ntext = "Answer {}."\n'
    policy = tmp_path / "pol_a.toml"
    policy.write_text(text.format("shortly"))
    run_frontier(config(f"prompt:{policy}"))
    other = tmp_path / "pol-a.toml"
    other.write_text(policy.read_text())
    with pytest.raises(UsageError, match="first 80 letters and digits differ"):
        run_frontier(config(f"prompt:{other}"))
    with pytest.raises(UsageError, match="first 80 letters and digits differ"):
        config(f"prompt:{policy}", f"prompt:{other}")
    run_frontier(config(f"prompt:{policy}"))
    policy.write_text(text.format("at length"))
    with pytest.raises(UsageError, match=r"as it was when 'prompt:.*' was measured, got other content"):
        run_frontier(config(f"prompt:{policy}"))
