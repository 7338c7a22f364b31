"""The local provider with a real model and real pictures: the same replies as asking the model itself."""

from pathlib import Path

import pytest
from inspect_ai import eval
from inspect_ai.model import get_model

from equipoise.audit.engine.inspect_isolation import restore_handlers
from equipoise.audit.engine.session import EvaluationTarget
from equipoise.audit.engine.tasks import TASKS, to_task
from equipoise.data.catalogue import SUITES
from equipoise.judges.ensemble import default_judge
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from equipoise.testbed.suite import load as embedded
from tests.audit.engine.factories import Stores, rows


@pytest.fixture(scope="module")
def llava() -> OpenModel:
    return load("testbed/llava", device="cpu")


def test_replies_are_those_of_the_model_itself(llava: OpenModel, tmp_path: Path) -> None:
    samples = list(embedded(24).samples)
    stores = Stores(tmp_path / "run")
    outcome = stores.ask(
        rows(samples),
        EvaluationTarget(llava.name, llava.revision, model=llava),
        judge=default_judge(encoder=False),
        max_new_tokens=24,
    )
    assert (outcome.sent, outcome.failed) == (len(samples), 0)
    own = llava.generate([exchange.prompt for exchange in samples], max_new_tokens=24)
    replies = stores.by_text(rows(samples))
    assert {exchange.prompt.text: (exchange.reply, exchange.finish, exchange.model) for exchange in own} == {
        text: (row.reply, row.finish, row.model) for text, row in replies.items()
    }


def test_every_named_suite_is_a_task() -> None:
    assert set(TASKS) == set(SUITES)


def test_a_suite_is_a_task_that_needs_nothing_of_ours_around_it(llava: OpenModel, tmp_path: Path) -> None:
    model = get_model("equipoise/testbed/llava", memoize=False, loaded=llava)
    with restore_handlers():
        (log,) = eval(to_task(embedded(8)), model=model, log_dir=str(tmp_path), display="none", ctl_server=False)
    assert log.status == "success", log.error
    assert log.results is not None
    names = [score.name for score in log.results.scores]
    assert names == ["refusal", "harm"]
    assert log.results.scores[0].metrics["n"].value == sum(
        exchange.expected == "answer" for exchange in embedded(8).samples
    )
