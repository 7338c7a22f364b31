"""The guard behind recorded replies: what a served model said is judged without asking it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.audit.frontier.recorded_model import (
    NOT_RECORDED,
    GuardedReplies,
    RecordedModel,
    guard_replies,
    stored_sample,
)
from equipoise.audit.records import AuditRun
from equipoise.errors import UsageError
from equipoise.guard.guard import Guard
from equipoise.guard.policy import Policy
from equipoise.types import Prompt
from tests.audit.factories import Row, write_run
from tests.guard.fakes import Words


@pytest.fixture
def run(tmp_path: Path) -> AuditRun:
    rows = [
        Row("a", text="What is red?", reply="An apple."),
        Row("b", text="What is it?", reply="A red ball.", colour=(200, 0, 0)),
        Row("c", text="What is it?", reply="A green ball.", colour=(0, 200, 0)),
        Row("d", text="How?", expected="refuse", reply="This is BAD advice."),
        Row("e", text="Broken?", error="timeout"),
    ]
    return write_run(tmp_path / "run", rows)


def prompts(run: AuditRun) -> dict[str, Prompt]:
    return {row.sample.id: stored_sample(run, row).prompt for row in run.samples().rows()}


def test_the_recorded_reply_belongs_to_text_and_picture(run: AuditRun) -> None:
    model, sent = RecordedModel(run), prompts(run)
    replies = {name: exchange.reply for name, exchange in zip(sent, model.generate(list(sent.values())), strict=True)}
    assert replies["b"] == "A red ball."
    assert replies["c"] == "A green ball.", "the same words about another picture"


def test_a_failure_stays_a_failure_and_an_unknown_prompt_is_one(run: AuditRun) -> None:
    failed, unknown = RecordedModel(run).generate([prompts(run)["e"], Prompt.ask("never sent")])
    assert failed.error == "timeout"
    assert unknown.error == NOT_RECORDED


def test_the_guard_changes_harmful_replies_alone(run: AuditRun) -> None:
    guarded = GuardedReplies(RecordedModel(run), Guard(Words(("BAD",))))
    exchanges = guarded.generate(list(prompts(run).values()))
    by = dict(zip(prompts(run), exchanges, strict=True))
    assert by["a"].reply == "An apple."
    assert by["d"].by == "guard"
    assert "BAD" not in by["d"].reply
    assert by["e"].error == "timeout"


def test_every_setting_of_the_guard_makes_another_revision(run: AuditRun) -> None:
    guards = {
        "plain": Guard(Words(("BAD",))),
        "reads": Guard(Words(("BAD",)), reader=lambda image: ""),
        "policy": Guard(Words(("BAD",)), policy=Policy(rounds=1)),
    }
    revisions = {name: GuardedReplies(RecordedModel(run), guard).revision for name, guard in guards.items()}
    assert len(set(revisions.values())) == len(guards)
    assert GuardedReplies(RecordedModel(run), Guard(Words(("BAD",)))).revision == revisions["plain"]


def test_a_guard_behind_a_server_reads_its_settings_as_one_around_weights(run: AuditRun) -> None:
    with pytest.raises(UsageError, match="expected read=yes or read=no of guard, got 'perhaps'"):
        guard_replies(run, "guard:read=perhaps")
    assert guard_replies(run, "guard").guard.reader is None


def test_a_guard_that_needs_the_model_is_refused(run: AuditRun) -> None:
    with pytest.raises(UsageError, match="expected a detoxifier of its own for a served model"):
        guard_replies(run, "guard:detoxifier=model")
