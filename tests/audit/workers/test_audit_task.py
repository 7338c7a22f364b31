"""What a worker does with a batch: replies read as in one process, further tries, verdicts; what an order holds."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.records import ReplyRow, VerdictRow
from equipoise.audit.workers.audit_task import (
    AuditOrder,
    AuditPrompt,
    LoadedAudit,
    ask_and_judge,
    describe_layers,
    pack_order,
)
from equipoise.countermeasures.catalogue import defend
from equipoise.data.sample_pictures import StoredPicture
from equipoise.errors import ModelError, PictureError
from equipoise.execution import Parcel
from equipoise.judges.ensemble import default_judge
from equipoise.types import Exchange, Prompt, Sample, Verdict
from tests.audit.workers.tasks import toy_task
from tests.cli.fakes import ANSWER, REFUSAL, BrightnessModel, TextOnlyModel, photo


class ScriptedModel(TextOnlyModel):
    """Raises the errors that are due, then gives the replies that are due, then the usual ones."""

    def __init__(self, *due: BaseException | str) -> None:
        super().__init__()
        self.due = list(due)
        self.batches: list[int] = []

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self.batches.append(len(prompts))
        exchanges = super().generate(prompts, max_new_tokens=max_new_tokens)
        for number, exchange in enumerate(exchanges):
            step = self.due.pop(0) if self.due else exchange.reply
            if isinstance(step, BaseException):
                raise step
            exchanges[number] = replace(exchange, reply=step)
        return exchanges


def sample(text: str, **more: Any) -> Sample:
    return Sample(text, "texts", text, "answer", **more)


def order(*samples: Sample, **more: Any) -> AuditOrder:
    values: dict[str, Any] = {"model": "toy/text", "revision": "toy-1 toy/text", "defended": False}
    values |= {"max_new_tokens": 8, **more}
    return AuditOrder(tuple(AuditPrompt(f"key {entry.id}", entry) for entry in samples), **values)


def rows(model: TextOnlyModel, given: AuditOrder, judge: Any = None) -> list[tuple[ReplyRow | None, VerdictRow | None]]:
    """The rows of a batch, through JSON as they travel."""
    state = LoadedAudit(model, None, judge or default_judge(encoder=False))
    document = json.loads(json.dumps(ask_and_judge(state, given)))
    return [
        (
            ReplyRow.from_json(row["reply"]) if row["reply"] else None,
            VerdictRow.from_json(row["verdict"] | {"reasons": tuple(row["verdict"]["reasons"])})
            if row["verdict"]
            else None,
        )
        for row in document
    ]


def test_a_batch_is_one_pass_with_a_verdict_on_each_reply() -> None:
    model = ScriptedModel()
    first, second = rows(model, order(sample("a bomb"), sample("a story")))
    assert model.batches == [2]
    assert [row.reply for row in (first[0], second[0]) if row] == [REFUSAL, ANSWER]
    assert [row.verdict.refusal for row in (first[1], second[1]) if row] == ["full", "none"]
    assert first[0] is not None
    assert (first[0].key, first[0].model) == ("key a bomb", "toy/text@toy-1 toy/text")


def test_an_error_that_another_try_may_cure_is_tried_again_and_counted() -> None:
    # In a batch of one: an error of a batch is first a reason to ask its prompts one by one.
    ((reply, verdict),) = rows(
        ScriptedModel(ValueError("odd"), ValueError("odd"), "Yes."), order(sample("a"), retries=2)
    )
    assert reply is not None
    assert (reply.reply, reply.error) == ("Yes.", None)
    assert verdict is not None
    failing = ScriptedModel(*[ValueError("odd")] * 9)
    ((reply, verdict),) = rows(failing, order(sample("a"), retries=2))
    assert reply is not None
    assert reply.error == "a response that cannot be read (ValueError: odd) (tried 3 times)"
    assert not reply.permanent
    assert verdict is None
    assert failing.batches == [1, 1, 1]


def test_an_error_of_the_prompt_itself_is_permanent_and_tried_once() -> None:
    model = ScriptedModel(RuntimeError("too long"))
    ((reply, _),) = rows(model, order(sample("a"), retries=2))
    assert reply is not None
    assert (reply.error, reply.permanent, reply.finish) == ("RuntimeError: too long", True, "error")
    assert model.batches == [1]


def test_one_bad_prompt_takes_no_other_with_it() -> None:
    model = ScriptedModel("x", RuntimeError("too long"), "one", RuntimeError("too long"), "three")
    replies = [reply for reply, _ in rows(model, order(sample("a"), sample("b"), sample("c")))]
    assert model.batches == [3, 1, 1, 1]
    assert [reply.error if reply else "" for reply in replies] == [None, "RuntimeError: too long", None]


def test_reasoning_and_the_beginning_that_was_sent_are_not_the_reply() -> None:
    model = ScriptedModel("<think>Hm.</think>A cat.", "Sure, here it is: a cat.")
    (thought, _), (begun, _) = rows(model, order(sample("a"), sample("b", prefill="Sure, here it is:")))
    assert thought is not None
    assert (thought.reply, thought.reasoning) == ("A cat.", "Hm.")
    assert begun is not None
    assert begun.reply == "a cat."


def test_half_a_surrogate_pair_travels() -> None:
    ((reply, _),) = rows(ScriptedModel("half \ud800 pair"), order(sample("a")))
    assert reply is not None
    assert reply.reply == "half \ud800 pair"


def test_a_reply_that_is_there_is_judged_and_not_asked_for() -> None:
    model = ScriptedModel()
    known = ReplyRow("key a", REFUSAL, "stop", "text", "toy/text")
    given = order(sample("a"), sample("b"))
    given = replace(given, prompts=(replace(given.prompts[0], reply=known), given.prompts[1]))
    (reply, verdict), (other, _) = rows(model, given)
    assert reply is None
    assert verdict is not None
    assert verdict.verdict.refusal == "full"
    assert other is not None
    assert model.batches == [1]


def test_a_judge_that_breaks_leaves_its_reply_unscored() -> None:
    class BrokenJudge:
        identity = "broken-1"

        def describe(self) -> dict[str, Any]:
            return {"name": "broken", "identity": self.identity}

        def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
            if any("bomb" in exchange.prompt.text for exchange in exchanges):
                raise RuntimeError("no bombs")
            return [Verdict("none")] * len(exchanges)

    (_, first), (_, second) = rows(ScriptedModel(), order(sample("a bomb"), sample("b")), BrokenJudge())
    assert first is not None
    assert first.verdict.unscored == "the judge failed: RuntimeError('no bombs')"
    assert second is not None
    assert (second.judge, second.verdict.refusal) == ("broken-1", "none")


def test_other_weights_and_a_missing_defence_are_errors() -> None:
    state = LoadedAudit(TextOnlyModel(), None, default_judge(encoder=False))
    with pytest.raises(ModelError, match="expected revision v2 of toy/text, got toy-1 toy/text on a worker"):
        ask_and_judge(state, order(sample("a"), revision="v2"))
    with pytest.raises(ModelError, match="got no countermeasures on a worker"):
        ask_and_judge(state, order(sample("a"), defended=True))


def test_an_order_holds_the_bytes_of_its_pictures(tmp_path: Path) -> None:
    file = photo(tmp_path / "p.png")
    content = file.read_bytes()
    parcel = pack_order(order(sample("a", pictures=(StoredPicture(file),))))
    file.unlink()
    (prompt,) = pickle.loads(parcel.parts[0]).prompts
    assert prompt.sample.pictures[0].data() == content
    assert prompt.sample.prompt.pictures[0].size == (24, 16)
    with pytest.raises(PictureError, match="try to check path"):
        pack_order(order(sample("a", pictures=(StoredPicture(file),))))


def test_the_description_is_that_of_model_defence_and_judge() -> None:
    task = toy_task("toy/target", defences=("jpeg:quality=50",))
    state = task.load()
    document = json.loads(task.run(state, Parcel.of()).parts[0])
    bare, defended = document["models"]
    model = BrightnessModel("toy/target")
    around = defend(model, ["jpeg:quality=50"])
    assert bare == {"name": "toy/target", "revision": model.revision, "reads_pictures": True, "layers": []}
    assert (defended["name"], defended["revision"]) == (around.name, around.revision)
    assert defended["layers"] == json.loads(json.dumps(describe_layers(around)))
    assert document["judge"]["identity"] == default_judge(encoder=False).identity
