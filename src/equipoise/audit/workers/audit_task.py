"""`AuditTask`: what a worker does with a batch of prompts that it was sent: ask the model, judge the replies."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from equipoise.audit.engine.batched_judge import BatchedJudge
from equipoise.audit.engine.batching import Batcher
from equipoise.audit.engine.inspect_solver import continuation, row_of_failure, row_of_reply
from equipoise.audit.engine.provider import to_output
from equipoise.audit.engine.received_reply import read_reply
from equipoise.audit.engine.session import ReportingJudge
from equipoise.audit.recorded_exchange import to_exchange
from equipoise.audit.records import ReplyRow, VerdictRow
from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.errors import ModelError
from equipoise.execution.items import Parcel, WorkerTask
from equipoise.served_models.failures import Failure, classify
from equipoise.types import Exchange, Sample

if TYPE_CHECKING:
    from equipoise.models.base import OpenModel


UNTIL_CLOSED: Final = 60.0
"""Seconds that a batch waits for more; it is closed when it has all, so that its members never depend on the time."""


@dataclass(frozen=True)
class AuditPrompt:
    """A prompt of an audit on its way to a worker."""

    key: str
    """Of its row."""
    sample: Sample
    """What is sent; its pictures hold their bytes, as a worker on another machine has no such files."""
    reply: ReplyRow | None = None
    """Its reply, where an earlier run has got it and only the verdict is missing."""

    def packed(self) -> AuditPrompt:
        """The same with the bytes of its pictures.

        Raises:
            PictureError: one cannot be read.
        """
        pictures = tuple(GeneratedPicture(picture.data()) for picture in self.sample.pictures)
        return replace(self, sample=replace(self.sample, pictures=pictures))


@dataclass(frozen=True)
class AuditOrder:
    """The message to a worker about a batch of prompts."""

    prompts: tuple[AuditPrompt, ...]
    """The prompts."""
    model: str
    """Name of the model, as replies record it."""
    revision: str
    """Which weights it must have: a worker on another machine may hold other files."""
    defended: bool
    """Whether the model in its countermeasures is asked."""
    max_new_tokens: int
    """Length of a reply at most."""
    retries: int = 0
    """How often a prompt is asked again whose error another try may cure."""

    @property
    def who(self) -> str:
        """Name and revision, as replies record them."""
        return f"{self.model}@{self.revision}" if self.revision else self.model


@dataclass(frozen=True)
class LoadedAudit:
    """What a worker of an audit keeps."""

    bare: OpenModel
    """The model without countermeasures."""
    defended: OpenModel | None
    """The model in its countermeasures; None without any."""
    judge: ReportingJudge
    """Whose verdicts make the numbers."""
    revision_ending: str = ""
    """What the run's revision has behind that of the model."""


@dataclass(frozen=True)
class AuditTask(WorkerTask):
    """Asks and judges batches of prompts.

    A parcel without parts asks for a description of models and judge. One with an `AuditOrder` gives a list of objects
    with `reply` and `verdict`, each a row as the run folder holds it, or null.
    """

    load_model: Callable[[], OpenModel]
    """Loads the model; can be pickled."""
    load_judge: Callable[[OpenModel], ReportingJudge]
    """Loads the judge for an audit of this model, which decides the suites where none is named; can be pickled."""
    defences: tuple[str, ...] = ()
    """Countermeasures for the defended variants."""
    revision_ending: str = ""
    """What the run's revision has behind that of the model, such as keys of what was fitted."""

    def load(self) -> LoadedAudit:
        """Load model and judge, once for each worker."""
        bare = self.load_model()
        defended = None
        if self.defences:
            from equipoise.countermeasures.catalogue import defend

            defended = defend(bare, self.defences)
        return LoadedAudit(bare, defended, self.load_judge(bare), self.revision_ending)

    def run(self, state: LoadedAudit, parcel: Parcel) -> Parcel:
        """Describe what was loaded, or ask and judge a batch."""
        document = ask_and_judge(state, pickle.loads(parcel.parts[0])) if parcel.parts else _describe(state)
        return Parcel.of(json.dumps(document).encode())


def pack_order(order: AuditOrder) -> Parcel:
    """What a worker gets.

    Raises:
        PictureError: a picture cannot be read.
    """
    return Parcel.of(pickle.dumps(replace(order, prompts=tuple(prompt.packed() for prompt in order.prompts))))


def describe_layers(model: OpenModel) -> tuple[dict[str, Any], ...]:
    """The countermeasures around a model, in the order in which a picture meets them."""
    from equipoise.countermeasures.base import Countermeasure

    layers = model.layers if isinstance(model, Countermeasure) else ()
    return tuple({"spec": layer.spec, **layer.describe()} for layer in layers)


def ask_and_judge(state: LoadedAudit, order: AuditOrder) -> list[dict[str, Any]]:
    """The rows of a batch: a reply for each prompt that has none, and a verdict for each reply.

    Raises:
        ModelError: these are other weights than the run is about.
    """
    model = state.defended if order.defended else state.bare
    revision = "no countermeasures" if model is None else f"{model.revision}{state.revision_ending}"
    if model is None or revision != order.revision:
        raise ModelError(
            f"expected revision {order.revision} of {order.model}, got {revision} on a worker; "
            "try the same files on every machine"
        )
    new = _ask(model, order)
    replies = [new.get(prompt.key) or prompt.reply for prompt in order.prompts]
    spoken = [
        (prompt, reply) for prompt, reply in zip(order.prompts, replies, strict=True) if reply and reply.error is None
    ]
    verdicts = _judge(state.judge, spoken)
    return [
        {
            "reply": new[prompt.key].to_json() if prompt.key in new else None,
            "verdict": verdicts[prompt.key].to_json() if prompt.key in verdicts else None,
        }
        for prompt in order.prompts
    ]


def _describe(state: LoadedAudit) -> dict[str, Any]:
    return {
        "models": [
            {
                "name": model.name,
                "revision": model.revision,
                "reads_pictures": model.reads_pictures,
                "layers": describe_layers(model),
            }
            for model in (state.bare, state.defended)
            if model is not None
        ],
        "judge": state.judge.describe(),
    }


def _ask(model: OpenModel, order: AuditOrder) -> Mapping[str, ReplyRow]:
    """The replies to the prompts that have none, by key.

    The batcher of the engine is what makes one bad prompt fail alone, and a batch that does not fit into memory two.
    """
    began, rows, tries = time.monotonic(), dict[str, ReplyRow](), 0
    left = [prompt for prompt in order.prompts if prompt.reply is None]
    while left:
        tries += 1
        batches: Batcher[AuditPrompt, Exchange] = Batcher(
            lambda batch: model.generate(
                [prompt.sample.prompt for prompt in batch], max_new_tokens=order.max_new_tokens
            ),
            size=len(left),
            window=UNTIL_CLOSED,
            name="audit",
        )
        futures = [(prompt, batches.submit(prompt)) for prompt in left]
        batches.close()
        seconds, left = time.monotonic() - began, []
        for prompt, future in futures:
            answer = _reply_row(prompt, future, order.who, seconds)
            if isinstance(answer, ReplyRow):
                rows[prompt.key] = answer
            elif answer.again and tries <= order.retries:
                left.append(prompt)
            else:
                rows[prompt.key] = row_of_failure(prompt.key, answer, order.who, seconds, tries)
    return rows


def _reply_row(prompt: AuditPrompt, future: Future[Exchange], who: str, seconds: float) -> ReplyRow | Failure:
    """The row of one prompt, read as from a model of the starting process; or why there is none."""
    try:
        output = to_output(future.result(), who)
        reply = continuation(read_reply(output), prompt.sample.prefill)
    except Exception as error:  # noqa: BLE001 - models raise whatever their libraries do
        return classify(error)
    return row_of_reply(prompt.key, reply, who, seconds, output)


def _judge(judge: ReportingJudge, spoken: Sequence[tuple[AuditPrompt, ReplyRow]]) -> Mapping[str, VerdictRow]:
    batches = BatchedJudge(judge, UNTIL_CLOSED)
    futures = {
        prompt.key: batches.verdict(prompt.key, partial(to_exchange, prompt.sample, reply)) for prompt, reply in spoken
    }
    batches.close()
    return {key: VerdictRow(key, judge.identity, future.result()) for key, future in futures.items()}
