"""A guarded stream: chunks of the upstream in, events for the client out, and nothing that was not judged."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from equipoise.guard.decision import Failure, GuardDecision
from equipoise.guard.gateway.content_parts import beside_choices
from equipoise.guard.gateway.errors import unchecked_problem
from equipoise.guard.gateway.streaming.choice_buffer import ChoiceBuffer
from equipoise.guard.gateway.streaming.events import DONE, UpstreamError, event
from equipoise.guard.policy import StreamPolicy

Review = Callable[[str, tuple[str, ...], bool, bool], Awaitable[GuardDecision]]
"""Text so far, its parts that are judged by themselves, too, whether it is all, whether a rewrite can still take its
place; it never raises."""


class WithheldError(Exception):
    """Nobody could look at a choice, and its rail fails closed: the stream ends in an error."""


@dataclass
class StreamStats:
    """What a stream did, for receipts, the record and metrics."""

    choices: dict[int, ChoiceBuffer] = field(default_factory=dict)
    """Each choice as it ended."""
    decisions: dict[int, GuardDecision] = field(default_factory=dict)
    """The last decision about each choice."""
    leaked: int = 0
    """Characters that had left or left after a check found harm in a text with them: 0 unless everything leaves."""
    first_heard: float | None = None
    """When the first word came, by the monotonic clock."""
    first_left: float | None = None
    """When the first word left."""
    problem: str | None = None
    """What the upstream did wrong."""
    withheld: Failure | None = None
    """Why nobody could look at it, where that ended it."""
    frame: dict[str, Any] = field(default_factory=dict)
    """What the upstream's chunks have in common: id, model and the like."""


@dataclass
class GuardedStream:
    """One stream on its way.

    Args:
        review: judges a text.
        settings: what is held back.
        watch: is told what happens.
        unseen: the decision about a text with a part that nobody can look at.
        blind: kinds of parts that nobody can look at.
    """

    review: Review
    settings: StreamPolicy
    watch: StreamStats
    unseen: Callable[[str], GuardDecision]
    blind: frozenset[str] = frozenset({"unsupported"})
    _tail: list[dict[str, Any]] = field(default_factory=list)

    async def run(
        self, upstream: AsyncIterator[dict[str, Any]], stop: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[bytes, None]:
        """Events for the client, ending in `[DONE]`.

        Args:
            upstream: its chunks.
            stop: ends the upstream's work; called once nothing more of it is needed, and at the end.
        """
        try:
            async for chunk in upstream:
                for part in await self._step(chunk):
                    yield part
                if self.watch.choices and all(held.over for held in self.watch.choices.values()) and self._hit():
                    await stop()
                    break
        except UpstreamError as error:
            self.watch.problem = str(error)
        except WithheldError:
            pass
        finally:
            await stop()
        if self.watch.withheld is None:
            try:
                async with aclosing(self._ends()) as ends:
                    async for part in ends:
                        yield part
            except WithheldError:
                pass
        if self.watch.withheld is not None:
            yield event(unchecked_problem(self.watch.withheld, "reply").body())
        yield DONE

    async def _ends(self) -> AsyncGenerator[bytes, None]:
        """What is left once the upstream has ended."""
        cut = [held for held in self.watch.choices.values() if not held.over and held.finished is None]
        if self.watch.problem is None and (cut or not self.watch.choices):
            self.watch.problem = "the upstream ended in the middle of its reply"
        for held in self.watch.choices.values():
            for part in await self._end(held):
                yield part
        if self.watch.problem is not None:
            yield event(
                {"error": {"message": self.watch.problem, "type": "api_error", "param": None, "code": "upstream"}}
            )
        elif not self._hit():
            for chunk in self._tail:
                yield event(chunk)

    def _hit(self) -> bool:
        return any(decision.changed for decision in self.watch.decisions.values())

    async def _step(self, chunk: dict[str, Any]) -> list[bytes]:
        choices = chunk.get("choices")
        beside = beside_choices(chunk)
        frame = {name: chunk[name] for name in chunk if name not in ("choices", "usage", *beside)}
        self.watch.frame = frame or self.watch.frame
        if not isinstance(choices, list) or not choices:
            if beside:
                raise UpstreamError("the upstream sent words that belong to no choice")
            # Usage and the like: after the words.
            self._tail.append(chunk)
            return []
        found: list[bytes] = []
        for choice in choices:
            if not isinstance(choice, dict):
                raise UpstreamError("the upstream sent a choice that is no object")
            told = choice.get("index")
            index = told if isinstance(told, int) else 0
            held = self.watch.choices.setdefault(index, ChoiceBuffer(index, self.settings.hold))
            if held.over:
                continue
            # Words beside the choices are judged with each.
            held.take({**beside, **choice}, {**chunk, "choices": [choice]} if len(choices) > 1 else chunk)
            if held.text and self.watch.first_heard is None:
                self.watch.first_heard = time.monotonic()
            found += await self._advance(held)
        return found

    async def _advance(self, held: ChoiceBuffer) -> list[bytes]:
        if self.settings.mode == "off":
            return self._sent(held, held.leave(final=True))
        if self.settings.mode == "observe":
            parts = self._sent(held, held.leave(final=True))
            if held.due(self.settings.every):
                await self._judge(held, final=False)
            return parts
        if not self.blind.isdisjoint(held.seen.values()) and (decision := self.unseen(held.text)).changed:
            return self._ended(held, decision)
        if self.settings.mode == "holdback" and held.due(self.settings.every) and held.finished is None:
            decision = await self._judge(held, final=False)
            if decision.changed:
                return self._ended(held, decision)
        return self._sent(held, held.leave(final=False)) if self.settings.mode == "holdback" else []

    async def _judge(self, held: ChoiceBuffer, *, final: bool) -> GuardDecision:
        decision = await self.review(held.text, held.apart, final, held.left == 0)
        self.watch.decisions[held.index] = decision
        if decision.action == "withhold":
            self._withhold(held, decision)
        if self.settings.mode == "observe":
            wanted = decision.observed or decision.action
            self.watch.leaked += len(held.text) - held.judged if wanted in ("rewrite", "refuse", "withhold") else 0
            held.judged = len(held.text)
        elif not decision.changed:
            held.allow(final=final)
        return decision

    async def _end(self, held: ChoiceBuffer) -> list[bytes]:
        """The last check of a choice, and what then leaves."""
        if held.over:
            return []
        held.over = True
        if self.settings.mode == "off":
            return []
        decision = await self._judge(held, final=True)
        if self.settings.mode == "observe":
            return []
        if decision.changed:
            return self._ended(held, decision)
        return self._sent(held, held.leave(final=True))

    def _sent(self, held: ChoiceBuffer, chunks: list[dict[str, Any]]) -> list[bytes]:
        if held.left and self.watch.first_left is None:
            self.watch.first_left = time.monotonic()
        return [event(chunk) for chunk in chunks]

    def _ended(self, held: ChoiceBuffer, decision: GuardDecision) -> list[bytes]:
        """A valid end of a choice in which harm was found: its rewrite, or a refusal."""
        self.watch.decisions[held.index] = decision
        if decision.action == "withhold":
            self._withhold(held, decision)
        held.over = True
        held.waiting.clear()
        rewritten = decision.action == "rewrite" and held.left == 0
        said = {"content": decision.response} if rewritten else {"refusal": decision.response}
        role = {} if held.began else {"role": "assistant"}
        finish = "stop" if rewritten else "content_filter"
        return [self._piece(held, {**role, **said}, None), self._piece(held, {}, finish)]

    def _withhold(self, held: ChoiceBuffer, decision: GuardDecision) -> None:
        """End the stream: no choice of it goes on after an error.

        Raises:
            WithheldError: always.
        """
        held.over = True
        self.watch.withheld = decision.failure or "failed"
        raise WithheldError

    def _piece(self, held: ChoiceBuffer, delta: dict[str, Any], finish: str | None) -> bytes:
        choice = {"index": held.index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**self.watch.frame, "choices": [choice]})
