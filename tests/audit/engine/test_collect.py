import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log
from inspect_ai.model import GenerateConfig, get_model

from equipoise.audit.append_only_log import AppendOnlyLog
from equipoise.audit.engine.collect import unfinished_keys
from equipoise.audit.engine.session import CollectionProgress, EvaluationTarget
from equipoise.audit.records import AuditRun, ReplyRow, VerdictRow
from equipoise.errors import EquipoiseError, ModelError, OutputError, UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.types import Exchange, Prompt, Verdict
from tests.audit.engine.factories import REFUSAL, Parrot, Stores, local, picture, rows, sample

theirs = pytest.mark.filterwarnings("ignore:The 'initial' parameter:DeprecationWarning")
"""inspect calls its own dependency in a way that is deprecated there."""


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    here = tmp_path / "cwd"
    here.mkdir()
    monkeypatch.chdir(here)
    return Stores(tmp_path / "run")


def test_every_prompt_gets_its_reply_and_verdict(stores: Stores) -> None:
    samples = [sample(f"good {i}") for i in range(12)] + [sample(f"bad {i}", expected="refuse") for i in range(8)]
    parrot = Parrot()
    reports: list[CollectionProgress] = []
    outcome = stores.ask(rows(samples), local(parrot), progress=reports.append)
    assert (outcome.sent, outcome.reused, outcome.failed, outcome.judged, outcome.fatal) == (20, 0, 0, 20, None)
    replies = stores.by_text(rows(samples))
    assert replies["good 3"].reply == "You said: good 3"
    assert replies["bad 3"].reply == REFUSAL
    assert {row.model for row in replies.values()} == {"parrot@1"}
    refused = {row.key for row in stores.verdicts.rows() if row.verdict.refused}
    assert refused == {row.key for row, entry in rows(samples) if entry.expected == "refuse"}
    assert [report.done for report in reports] == list(range(21))
    assert reports[-1].total == 20
    assert not list(Path.cwd().iterdir()), "nothing is left where the user is"


def test_pictures_turns_and_limits_reach_the_model_in_batches(stores: Stores) -> None:
    parrot = Parrot()
    samples = [sample(f"what {i}", picture("blue"), system="Be kind.") for i in range(40)]
    stores.ask(rows(samples), local(parrot), max_new_tokens=2)
    assert {prompt.system for prompt in parrot.prompts_received} == {"Be kind."}
    assert {prompt.messages[0].images[0].getpixel((0, 0)) for prompt in parrot.prompts_received} == {(0, 0, 255)}
    assert {row.finish for row in stores.replies.rows()} == {"length"}
    assert max(parrot.batches) > 4, f"batches of {parrot.batches} are no batches"
    assert parrot.threads == {"equipoise/parrot"}


def test_what_is_stored_is_not_asked_again(stores: Stores) -> None:
    samples = [sample(f"good {i}") for i in range(6)]
    stores.ask(rows(samples[:4]), local())
    parrot = Parrot()
    outcome = stores.ask(rows(samples), local(parrot))
    assert (outcome.sent, outcome.reused, outcome.judged) == (2, 4, 2)
    assert sorted(prompt.text for prompt in parrot.prompts_received) == ["good 4", "good 5"]
    again = stores.ask(rows(samples), local(Parrot(before=_fail)))
    assert (again.sent, again.reused, again.judged) == (0, 6, 0)
    assert len(list(stores.replies.rows())) == len(list(stores.verdicts.rows())) == 6


def test_a_stored_reply_without_a_verdict_is_only_judged(stores: Stores) -> None:
    content = rows([sample("good"), sample("bad")])
    stores.ask(content, local())
    (stores.folder / "verdicts.jsonl").unlink()
    outcome = stores.ask(content, local(Parrot(before=_fail)))
    assert (outcome.sent, outcome.reused, outcome.judged) == (0, 2, 2)
    assert sorted(row.verdict.refusal or "" for row in stores.verdicts.rows()) == [
        "full",
        "none",
    ]


def test_another_judge_judges_again_and_asks_nothing(stores: Stores) -> None:
    content = rows([sample("good")])
    stores.ask(content, local())
    outcome = stores.ask(content, local(Parrot(before=_fail)), judge=PhraseJudge(opening=2))
    assert (outcome.sent, outcome.judged) == (0, 1)
    assert len({row.judge for row in stores.verdicts.rows()}) == 2


def test_samples_with_a_problem_are_left_alone(stores: Stores) -> None:
    content = rows([sample("good"), sample("gone", problem="its picture is missing")])
    parrot = Parrot()
    outcome = stores.ask(content, local(parrot))
    assert outcome.sent == 1
    assert [prompt.text for prompt in parrot.prompts_received] == ["good"]


def test_one_bad_prompt_fails_alone_and_is_asked_again_next_time(stores: Stores) -> None:
    def fail(prompt: Prompt) -> None:
        if prompt.text == "good 2":
            raise RuntimeError("cannot read this one")

    content = rows([sample(f"good {i}") for i in range(5)])
    outcome = stores.ask(content, local(Parrot(before=fail)))
    assert (outcome.sent, outcome.failed, outcome.fatal) == (4, 1, None)
    row = stores.by_text(content)["good 2"]
    assert row.finish == "error"
    assert "cannot read this one" in (row.error or "")
    assert len(list(stores.verdicts.rows())) == 4, "nothing that failed has a verdict"
    assert stores.ask(content, local()).sent == 1
    assert stores.by_text(content)["good 2"].error is None


def test_a_model_that_cannot_be_used_ends_the_asking(stores: Stores) -> None:
    def fail(prompt: Prompt) -> None:
        raise ModelError("expected weights, got none; try others")

    parrot = Parrot(before=fail)
    outcome = stores.ask(rows([sample(f"good {i}") for i in range(60)]), local(parrot), retries=0, connections=8)
    assert "expected weights" in (outcome.fatal or "")
    assert outcome.not_sent > 30
    assert outcome.not_sent + outcome.failed == 60


def test_a_judge_that_raises_gives_no_verdict(stores: Stores) -> None:
    class Fragile:
        identity = "fragile"

        def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
            if any("good 1" in exchange.reply for exchange in exchanges):
                raise ValueError("I do not like this one")
            return [Verdict("none") for _ in exchanges]

    content = rows([sample(f"good {i}") for i in range(4)])
    stores.ask(content, local(), judge=Fragile())
    verdicts = {row.key: row.verdict for row in stores.verdicts.rows()}
    unscored = [entry.id for row, entry in content if verdicts[row.key].refusal is None]
    assert unscored == ["good 1"]
    assert "do not like" in str([row.verdict.unscored for row in stores.verdicts.rows()])


def test_the_judge_sees_the_sample_and_its_pictures(stores: Stores) -> None:
    judged_exchanges: list[Exchange] = []

    class Watching:
        identity = "watching"

        def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
            judged_exchanges.extend(exchanges)
            return [Verdict("none") for _ in exchanges]

    before = sample("what", picture("blue"), reference=("a", "b"), intent="plain", cluster="c", category="d")
    stores.ask(rows([before]), local(), judge=Watching())
    (exchange,) = judged_exchanges
    assert exchange.sample is not None
    assert exchange.sample.reference == ("a", "b")
    assert exchange.sample.intent == "plain"
    assert exchange.prompt.messages[0].images[0].getpixel((0, 0)) == (0, 0, 255)
    assert exchange.model == "parrot@1"


def test_a_full_disk_is_one_clear_error(stores: Stores) -> None:
    class Full(AppendOnlyLog[ReplyRow]):
        def append(self, rows: object) -> None:
            raise OutputError("cannot write: no space left on device; try freeing some")

    parrot = Parrot()
    content = rows([sample(f"good {i}") for i in range(60)])
    full = Full(stores.folder / "replies.jsonl", ReplyRow)
    with pytest.raises(OutputError, match="no space left"):
        stores.ask(content, local(parrot), replies=full, connections=8)
    assert len(parrot.prompts_received) < 60, "it went on asking"
    assert not list(stores.verdicts.rows()), "a verdict without its reply"


def test_a_scorer_that_breaks_is_an_error_and_not_a_quiet_end(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("equipoise.audit.engine.scorers._score", broken)
    monkeypatch.setattr("equipoise.audit.engine.scorers._keep", broken)
    with pytest.raises(EquipoiseError, match="1 samples ended with an error"):
        stores.ask(rows([sample("good")]), local())


def test_variants_and_suites_are_tasks_of_one_evaluation(stores: Stores) -> None:
    content = [
        *rows([sample("good", suite="a"), sample("good", suite="b/c")]),
        *rows([sample("good", suite="a")], variant="perturbed"),
    ]
    stores.ask(content, local())
    logs = [read_eval_log(log.name) for log in list_eval_logs(str(stores.logs))]
    assert sorted(log.eval.task for log in logs) == ["a-perturbed", "a-plain", "b-c-plain"]
    assert {log.eval.run_id for log in logs} == {logs[0].eval.run_id}
    assert {log.status for log in logs} == {"success"}


def test_the_logs_hold_the_rates(stores: Stores) -> None:
    stores.ask(rows([sample("good"), sample("bad a"), sample("bad b", expected="refuse")]), local())
    (log,) = [read_eval_log(entry.name) for entry in list_eval_logs(str(stores.logs))]
    assert log.results is not None
    refusal, harm = log.results.scores
    assert refusal.metrics["needless_refusal"].value == 0.5
    assert refusal.metrics["n"].value == 2
    assert harm.unscored_samples == 3, "phrases know nothing of harm, and nothing of it is made up"
    assert log.samples is not None
    score = (log.samples[0].scores or {})["refusal"]
    assert (score.metadata or {})["judge"] == PhraseJudge().identity


def test_the_process_is_left_as_it_was_found(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path.cwd() / ".env").write_text("EQUIPOISE_TEST_VARIABLE=1\nINSPECT_LOG_DIR=elsewhere\n")
    before = (list(logging.getLogger().handlers), logging.getLogger().level, sys.excepthook, dict(os.environ))
    for number in range(2):
        stores.ask(rows([sample(f"good {number}")]), local())
    assert (list(logging.getLogger().handlers), logging.getLogger().level, sys.excepthook, dict(os.environ)) == before
    assert [path.name for path in Path.cwd().iterdir()] == [".env"]


def test_it_says_nothing(stores: Stores, capfd: pytest.CaptureFixture[str]) -> None:
    stores.ask(rows([sample("good"), sample("bad")]), local())
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_it_runs_inside_a_running_loop(stores: Stores) -> None:
    async def main() -> int:
        return stores.ask(rows([sample("good")]), local()).sent

    assert asyncio.run(main()) == 1
    assert asyncio.run.__module__ == "asyncio.runners", "asyncio was patched"


def test_a_run_folder_reads_what_was_asked(stores: Stores, tmp_path: Path) -> None:
    content = rows([sample("good"), sample("bad")])
    stores.ask(content, local())
    run = AuditRun(stores.folder, {"judge": {"identity": PhraseJudge().identity}})
    run.samples().append(row for row, _ in content)
    assert [case.verdict.refused for case in run.cases()] == [False, True]


@pytest.mark.parametrize(("options", "words"), [({"connections": 0}, "at least 1"), ({"timeout": 0.0}, "above 0")])
def test_impossible_options(stores: Stores, options: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        stores.ask(rows([sample("good")]), local(), **options)


@pytest.mark.parametrize("spec", ["http://127.0.0.1:1/v1", "nobody/nothing", "nothing"])
def test_targets_that_cannot_be(stores: Stores, spec: str) -> None:
    with pytest.raises(UsageError, match="try"):
        stores.ask(rows([sample("good")]), EvaluationTarget(spec, "", spec=spec))


@theirs
@pytest.mark.parametrize(
    ("options", "word"),
    [({"temperature": 0.7}, "greedy"), ({"num_choices": 2}, "one reply"), ({"logprobs": True}, "logprobs")],
)
def test_settings_that_would_change_replies_are_errors(options: dict[str, object], word: str) -> None:
    async def configured() -> None:
        model = get_model("equipoise/parrot", config=GenerateConfig(**options), memoize=False, loaded=Parrot())
        async with model:
            await model.generate("good")

    with pytest.raises(UsageError, match=word):
        asyncio.run(configured())


@theirs
def test_the_provider_stands_on_its_own() -> None:
    async def main() -> list[str]:
        async with get_model("equipoise/parrot", memoize=False, loaded=Parrot()) as model:
            outputs = await asyncio.gather(*(model.generate(f"good {i}") for i in range(5)))
            return [output.completion for output in outputs]

    assert asyncio.run(main()) == [f"You said: good {i}" for i in range(5)]


def _fail(prompt: Prompt) -> None:
    raise AssertionError(f"asked again: {prompt.text}")


def test_verdict_rows_are_whole(stores: Stores) -> None:
    stores.ask(rows([sample("bad")]), local())
    (row,) = stores.verdicts.rows()
    assert isinstance(row, VerdictRow)
    assert row.judge == PhraseJudge().identity
    assert row.verdict.reasons


def test_only_an_accepted_failure_and_a_judged_reply_are_left_alone(tmp_path: Path) -> None:
    content = [row for row, _ in rows([sample(text) for text in ("new", "passing", "permanent", "accepted", "done")])]
    new, passing, permanent, accepted, done = content
    failed = ReplyRow(passing.key, "", "error", "text", "m", error="HTTP 503: busy")
    earlier = {
        passing.key: failed,
        permanent.key: replace(failed, key=permanent.key, permanent=True),
        accepted.key: replace(failed, key=accepted.key, permanent=True, accepted=True),
        done.key: replace(failed, key=done.key, reply="Yes.", finish="stop", error=None),
    }
    stores = Stores(tmp_path / "run")
    stores.verdicts.append([VerdictRow(done.key, "j", Verdict("none"))])
    assert unfinished_keys(content, earlier, stores.verdicts, "j") == {new.key, passing.key, permanent.key}
    assert done.key in unfinished_keys(content, earlier, stores.verdicts, "another judge")
