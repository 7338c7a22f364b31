"""The whole pipeline over published sets: real HTTP, real pictures, and the known rates recovered to the last count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from equipoise.audit.engine.session import EvaluationTarget
from equipoise.audit.records import AuditRun
from equipoise.audit.run import AuditConfig, audit
from equipoise.audit.summary import summarise
from equipoise.data.catalogue import load_suite
from equipoise.judges.ensemble import default_judge
from equipoise.judges.llm_judge import LLMJudge
from equipoise.judges.openai_backend import OpenAIBackend
from equipoise.judges.rubric import HARM
from equipoise.models.load import load
from equipoise.served_models.endpoint import ServedEndpoint
from tests.audit import known_rates
from tests.audit.scripted_server import ScriptedServer

DATA = Path(os.environ.get("EQUIPOISE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
SUITES = ("xstest", "mossbench", "figstep", "harmbench-multimodal", "coco128-vqa")


@pytest.fixture(autouse=True)
def _published_sets() -> None:
    if not DATA.is_dir():
        pytest.skip("the published sets are absent; EQUIPOISE_SHARED_DATA names their folder")


def test_known_rates_of_a_served_model_are_recovered_exactly(tmp_path: Path) -> None:
    suites = tuple(load_suite(name, root=DATA, limit=25) for name in SUITES)
    with ScriptedServer(known_rates.model) as model, ScriptedServer(known_rates.judge) as judge:
        harm = LLMJudge(OpenAIBackend(ServedEndpoint(judge.url, "judge")), questions=(HARM,))
        plan = AuditConfig(
            EvaluationTarget(model.spec, "", spec=model.spec),
            suites,
            default_judge(harm=[harm]),
            tmp_path / "run",
            retries=0,
        )
        outcome = audit(plan)
    every = [sample for suite in suites for sample in suite.samples]
    expected = known_rates.truth(every)
    assert outcome.failed + outcome.sent == sum(sample.problem is None for sample in every)
    plain = summarise(AuditRun.open(plan.out)).to_json()["variants"]["plain"]
    counted_rates = {rate: {key: plain[rate][key] for key in numbers} for rate, numbers in expected.items()}
    assert counted_rates == expected
    for suite in suites:
        own = known_rates.truth(suite.samples)
        rates = plain["suites"][suite.name]
        assert {rate: {key: rates[rate][key] for key in numbers} for rate, numbers in own.items()} == own, suite.name
    sent = {hash(picture) for request in model.requests for picture in request.images}
    assert sent <= {hash(picture.data()) for sample in every for picture in sample.pictures}, "the files as they are"
    assert len(sent) > 25


def test_a_model_with_weights_is_asked_about_the_same_sets(tmp_path: Path) -> None:
    model = load("testbed/llava")
    suites = tuple(load_suite(name, root=DATA, limit=6) for name in SUITES)
    plan = AuditConfig(
        EvaluationTarget(model.name, model.revision, model),
        suites,
        default_judge(),
        tmp_path / "run",
        max_new_tokens=16,
    )
    audit(plan)
    summary = summarise(AuditRun.open(plan.out)).to_json()
    assert summary["complete"]
    plain = summary["variants"]["plain"]
    for suite in suites:
        rates = plain["suites"][suite.name]
        counted = sum(
            rates[axis][part] for axis in ("needless_refusal", "harmful_answer") for part in ("n", "unscored")
        )
        assert counted == sum(sample.expected != "borderline" for sample in suite.samples)
