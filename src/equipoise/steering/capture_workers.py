"""Replies, activations and scores of `find_direction` over workers; all are the same to the last bit.

An item is one forward pass, or the score of one candidate. Sums are float64, and shards are added up in the order of
the batches, as in one process: floating-point addition depends on the order, and so would the direction.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from equipoise.errors import ModelError
from equipoise.execution.dispatch import WorkerGroup
from equipoise.execution.items import Parcel, WorkerTask, WorkItem, content_key
from equipoise.execution.shards import ShardStore
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel
from equipoise.steering.activation_sums import ActivationSums
from equipoise.steering.batch_work import SumPair, activation_sums, reply_rows
from equipoise.steering.candidates import BypassSweep, Candidate, CandidateScorer
from equipoise.steering.openers import RefusalOpeners
from equipoise.steering.steerable import Steerable
from equipoise.types import Judge, Prompt


@dataclass(frozen=True)
class CaptureOrder:
    """The message to a worker about a batch of prompts."""

    prompts: tuple[Prompt, ...]
    """The prompts."""
    indices: tuple[int, ...]
    """Their numbers in the class."""
    revision: str
    """Which weights the worker must have, in which number format; see `Steerable.exact_revision`."""
    positions: int | None
    """Tokens from the end whose activations are summed; None asks for replies."""
    reply_tokens: int
    """Length of the replies."""

    def item(self, judge: str) -> WorkItem:
        """The order as a work item."""
        inputs = [_content(prompt) for prompt in self.prompts]
        recipe = {
            "indices": list(self.indices),
            "revision": self.revision,
            "positions": self.positions,
            "reply_tokens": self.reply_tokens,
            "judge": judge,
        }
        name = f"prompts {self.indices[0]} to {self.indices[-1]}"
        return WorkItem(content_key("capture", inputs, recipe), name, partial(_pack, self))

    @property
    def size(self) -> int:
        """What it adds to the progress."""
        return len(self.prompts)


@dataclass(frozen=True)
class ScoreOrder:
    """The message to a worker about a candidate that it scores."""

    candidate: Candidate
    """The candidate."""
    vector: Tensor
    """`width`: what is ablated."""
    prompts: tuple[Prompt, ...]
    """Whose refusals are scored."""
    openers: RefusalOpeners
    """How the model refuses."""
    revision: str
    """Which weights the worker must have, in which number format; see `Steerable.exact_revision`."""
    size: int = 1
    """What it adds to the progress."""

    @classmethod
    def of(cls, sweep: BypassSweep, candidate: Candidate) -> ScoreOrder:
        """The order for one candidate of a sweep."""
        scorer = sweep.scorer
        # A copy: a slice would be pickled with the vectors of all layers and positions.
        vector = sweep.vector(candidate).clone()
        return cls(candidate, vector, tuple(sweep.prompts), scorer.openers, scorer.steerable.exact_revision)

    def item(self, judge: str) -> WorkItem:
        """The order as a work item; no judge has a part in it."""
        vector = hashlib.sha256(self.vector.float().cpu().numpy().tobytes()).hexdigest()
        recipe = {"candidate": self.candidate.to_dict(), "openers": self.openers.to_dict(), "revision": self.revision}
        name = f"candidate of layer {self.candidate.layer}, position {self.candidate.position}"
        inputs = [vector, *(_content(prompt) for prompt in self.prompts)]
        return WorkItem(content_key("score", inputs, recipe), name, partial(_pack, self))


Order = CaptureOrder | ScoreOrder
"""What an item of a search says."""


def _pack(order: Order) -> Parcel:
    return Parcel.of(pickle.dumps(order))


def _content(prompt: Prompt) -> str:
    """All of a prompt as text, its pictures as hashes of their pixels."""
    turns = [
        [turn.role, turn.text, *(hashlib.sha256(image.tobytes()).hexdigest() for image in turn.images)]
        for turn in prompt.messages
    ]
    return json.dumps([turns, prompt.system, prompt.prefill, prompt.templated])


@dataclass(frozen=True)
class CaptureTask(WorkerTask):
    """Replies (JSON) or sums of activations (safetensors) of a batch of prompts, or the score (JSON) of a candidate."""

    load_model: Callable[[], OpenModel]
    """Loads the model; can be pickled."""
    judge: Judge = field(default_factory=PhraseJudge)
    """Labels the replies."""

    def load(self) -> Steerable:
        """Load the model and test that it can be steered."""
        return Steerable.of(self.load_model())

    def run(self, state: Steerable, parcel: Parcel) -> Parcel:
        """Do one batch, or score one candidate."""
        order: Order = pickle.loads(parcel.parts[0])
        if state.exact_revision != order.revision:
            raise ModelError(
                f"expected revision {order.revision}, got {state.exact_revision} on a worker; "
                "try the same files on every machine"
            )
        if isinstance(order, ScoreOrder):
            scorer = CandidateScorer(state, order.openers, order.prompts, ())
            scored = scorer.bypass(order.candidate, order.vector, order.prompts)
            return Parcel.of(json.dumps(scored.to_dict()).encode())
        if order.positions is None:
            rows = reply_rows(state, self.judge, order.prompts, order.reply_tokens)
            return Parcel.of(json.dumps(rows).encode())
        even, odd = activation_sums(state, order.prompts, order.indices, order.positions)
        return Parcel.of(save_tensors(even.to_tensors("0") | odd.to_tensors("1")))


@dataclass(frozen=True)
class CaptureWorkers:
    """The workers of a search.

    Args:
        group: workers with a `CaptureTask`.
        store: of their shards, where results lie until their stage is complete.
        judge: identity of the task's.
    """

    group: WorkerGroup
    store: ShardStore
    judge: str = field(default_factory=lambda: PhraseJudge().identity)

    def replies(self, orders: Sequence[CaptureOrder], progress: Callable[[int], None]) -> list[list[dict[str, Any]]]:
        """The rows of each batch, in order."""
        return [json.loads(result.parts[0]) for result in self._results(orders, progress)]

    def sums(self, orders: Sequence[CaptureOrder], progress: Callable[[int], None]) -> Iterator[SumPair]:
        """The sums of each batch, in order, read from the shards one after the other."""
        for result in self._results(orders, progress):
            tensors = load_tensors(result.parts[0])
            yield ActivationSums.from_tensors(tensors, "0"), ActivationSums.from_tensors(tensors, "1")

    def scores(self, orders: Sequence[ScoreOrder], progress: Callable[[int], None]) -> Iterator[Candidate]:
        """The candidates with their bypass, in order."""
        for result in self._results(orders, progress):
            yield Candidate.from_dict(json.loads(result.parts[0]))

    def _results(self, orders: Sequence[Order], progress: Callable[[int], None]) -> Iterator[Parcel]:
        """The results in the order of the batches, once all of them are there.

        Raises:
            EquipoiseError: a batch failed; no prompt may be missing from a mean.
        """
        items = [order.item(self.judge) for order in orders]
        sizes = {item.key: order.size for item, order in zip(items, orders, strict=True)}
        done = 0
        for outcome in self.group.map(items):
            if outcome.result is None:
                raise outcome.error or ModelError("expected a result of each batch, got none; try again")
            done += sizes[outcome.item.key]
            progress(done)
        for item in items:
            result = self.store.read(item.key)
            if result is None:
                raise ModelError(f"expected the result of {item.name} in its shard, got none; try again")
            yield result

    def discard(self, orders: Sequence[Order]) -> None:
        """Remove results that are kept elsewhere."""
        for order in orders:
            self.store.discard(order.item(self.judge).key)
