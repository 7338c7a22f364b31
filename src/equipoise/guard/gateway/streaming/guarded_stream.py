"""`GuardedStream`: turns the upstream's chunks into events for the client, and sends only text that was checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.dialects import is_frame
from equipoise.guard.gateway.errors import unchecked_problem
from equipoise.guard.gateway.reply_choices import beside_choices, choice_number
from equipoise.guard.gateway.streaming.choice_buffer import ChoiceBuffer
from equipoise.guard.gateway.streaming.events import DONE, FINISHED, KEEPALIVE, UpstreamError, event, in_pieces
from equipoise.guard.gateway.streaming.read_ahead import MOST, ReadAhead
from equipoise.guard.gateway.streaming.stream_stats import StreamStats
from equipoise.guard.gateway.upstream_errors import ReportedError
from equipoise.guard.policy import AnswerPolicy, StreamPolicy

DRAIN: Final = 2.0
"""Seconds that a stream is read on after a block, for the usage that the client asked for."""
GATHERED: Final = MOST
"""Chunks that are taken at most before a check, where the next one is always there: so text goes on leaving."""


class Review(Protocol):
    """Checks the text of a choice; never raises."""

    async def __call__(self, text: str, *, side_texts: tuple[str, ...], rewrite: bool) -> GuardDecision:
        """The decision about the text so far.

        Args:
            text: all text of the choice.
            side_texts: parts of it that are also scored separately.
            rewrite: whether a rewrite can still replace it, because nothing was sent.
        """
        ...


class WithheldError(Exception):
    """A choice could not be checked, and its rail fails closed: the stream ends with an error."""


@dataclass
class GuardedStream:
    """One stream between upstream and client.

    Args:
        review: checks the text of a choice.
        settings: mode, `hold` and `every`.
        stats: is filled with what happens.
        uncheckable: the decision about a text with a part that cannot be checked.
        uncheckable_kinds: kinds of parts that cannot be checked.
        wants_usage: whether the client asked for token counts.
        choices: how many the client asked for.
        answer: the field of a delta that holds a refusal, and its finish reason.
    """

    review: Review
    settings: StreamPolicy
    stats: StreamStats
    uncheckable: Callable[[str], GuardDecision]
    uncheckable_kinds: frozenset[str] = frozenset({"unsupported", "file"})
    wants_usage: bool = False
    choices: int = 1
    answer: AnswerPolicy = field(default_factory=AnswerPolicy)
    _head: list[dict[str, Any]] = field(default_factory=list)
    """Chunks without a choice that came before the first choice."""
    _tail: list[dict[str, Any]] = field(default_factory=list)
    """Chunks without a choice that came later, or that hold words."""
    _finished: bool = False
    """Whether the upstream said that its stream is complete."""
    _beside: list[dict[str, Any]] = field(default_factory=list)
    """Words of each chunk without a choice; they are judged with every choice."""

    async def run(
        self, upstream: AsyncIterator[dict[str, Any] | None], stop: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[bytes, None]:
        """Events for the client, ending in `[DONE]`.

        Args:
            upstream: its chunks.
            stop: closes the upstream's response; called when nothing more of it is needed, and at the end.
        """
        try:
            async with ReadAhead(upstream) as ahead:
                gathered = 0
                async for chunk in ahead:
                    if chunk is FINISHED:
                        self._finished = True
                        break
                    if chunk is None:
                        yield KEEPALIVE
                    else:
                        self._take(chunk)
                    # What is there already is judged and sent at once: under load a check waits its turn for seconds,
                    # and the text of all that has come meanwhile costs no more than that of the first chunk.
                    gathered += 1
                    if ahead.waiting and gathered < GATHERED:
                        continue
                    gathered = 0
                    for part in in_pieces(await self._advance_all()):
                        yield part
                    if self.stats.failure is not None:
                        break
                    # The upstream need not compute what nobody will be sent.
                    if self._all_ended() and self._flagged():
                        await self._read_usage(ahead)
                        break
        except UpstreamError as error:
            # What came before is still checked and sent by `_finish`; the error follows it.
            self.stats.problem = str(error)
            self.stats.reported = error.reported
        except WithheldError:
            # `_withhold` has noted the failure, which is sent below.
            pass
        finally:
            # The upstream is stopped before the last checks, which may take seconds: it need not wait for them.
            await stop()
        if self.stats.failure is None:
            try:
                # Closed also where the client leaves between two events.
                async with aclosing(self._finish()) as events:
                    async for part in events:
                        yield part
            except WithheldError:
                pass
        if self.stats.failure is not None:
            yield event(unchecked_problem(self.stats.failure, "reply").body())
        yield DONE

    async def _finish(self) -> AsyncGenerator[bytes, None]:
        """The last check of each choice after the upstream's end, and what may then be sent."""
        unfinished = [buffer for buffer in self.stats.choices.values() if not buffer.ended and buffer.finished is None]
        # Some servers give no finish reason: then `[DONE]` tells a whole reply from one that broke off.
        if self.stats.problem is None and ((unfinished and not self._finished) or not self.stats.choices):
            self.stats.problem = "the upstream ended in the middle of its reply"
        for buffer in self.stats.choices.values():
            for part in in_pieces(self._with_head(await self._end(buffer))):
                yield part
        if self.stats.problem is not None:
            self.stats.error = await self._problem(self.stats.problem)
            yield event({"error": self.stats.error})
        elif not self._flagged():
            for chunk in (*self._head, *self._tail):
                yield event(chunk)
        elif self.stats.usage is not None and is_frame("usage", self.stats.usage):
            # Token counts are kept, and nothing else that was judged with a blocked choice.
            yield event({**self.stats.frame, "choices": [], "usage": self.stats.usage})

    async def _problem(self, message: str) -> dict[str, Any]:
        """The error object that ends a broken stream; the upstream's own words are judged like those of a reply."""
        reported = self.stats.reported
        if reported is None:
            return {"message": message, "type": "api_error", "param": None, "code": "upstream"}
        if self.settings.mode not in ("off", "observe"):
            decision = await self.review(reported.words, side_texts=(), rewrite=False)
            if decision.changed:
                reported = ReportedError(message)
        code = "upstream" if reported.code is None else reported.code
        kind = reported.type or "api_error"
        return {"message": reported.message, "type": kind, "param": reported.param, "code": code}

    def _flagged(self) -> bool:
        return any(decision.changed for decision in self.stats.decisions.values())

    def _all_ended(self) -> bool:
        """Whether every choice that the client wants has begun and ended; some servers send one after the other."""
        choices = self.stats.choices
        return len(choices) >= max(1, self.choices) and all(buffer.ended for buffer in choices.values())

    async def _read_usage(self, upstream: AsyncIterator[dict[str, Any] | None]) -> None:
        """Read on for the token counts, if the client asked for them; nothing else of it is used."""
        if not self.wants_usage:
            return
        with suppress(TimeoutError, UpstreamError):
            async with asyncio.timeout(DRAIN):
                async for chunk in upstream:
                    if chunk is not None and chunk.get("usage"):
                        self.stats.usage = chunk["usage"]
                        if not chunk.get("choices"):
                            break

    async def _advance_all(self) -> list[bytes]:
        """The events to send after some chunks of the upstream, or after a comment; a withheld choice is the last."""
        events: list[bytes] = []
        # What other choices may send leaves before the error: their buffers count it as sent.
        with suppress(WithheldError):
            for buffer in self.stats.choices.values():
                if not buffer.ended:
                    events += await self._advance(buffer)
        return self._with_head(events)

    def _take(self, chunk: dict[str, Any]) -> None:
        """Put a chunk into the buffers of its choices.

        Raises:
            UpstreamError: it is no chunk.
        """
        choices = chunk.get("choices")
        if choices and not isinstance(choices, list):
            # Passed on as a chunk without a choice, its words would be judged by nobody.
            raise UpstreamError("the upstream sent choices that are no list")
        beside = beside_choices(chunk)
        self.stats.usage = chunk.get("usage") or self.stats.usage
        if not choices:
            self._take_frame(chunk, beside)
            # Usage and the like are sent after all choices have been released.
            (self._tail if beside or self.stats.choices else self._head).append(chunk)
            return
        self.stats.framed = chunk
        choices = [choice for choice in choices if choice is not None]
        last = choices[-1] if choices else None
        for choice in choices:
            if not isinstance(choice, dict):
                raise UpstreamError("the upstream sent a choice that is no object")
            index = choice_number(choice, 0)
            buffer = self.stats.choices.get(index)
            if buffer is None:
                buffer = self.stats.choices[index] = ChoiceBuffer(index, self.settings.hold)
                for beside_before in self._beside:
                    buffer.add_beside(beside_before)
            if buffer.ended:
                # Replaced by a refusal or a rewrite already; the upstream goes on because of its other choices.
                continue
            # Text beside the choices is judged with every choice, since it belongs to none.
            buffer.add(choice, _alone(chunk, choice, index, is_last=choice is last), beside)
            if buffer.text and self.stats.first_text_received is None:
                self.stats.first_text_received = time.monotonic()

    def _with_head(self, events: list[bytes]) -> list[bytes]:
        """Events behind the chunks that came before the first choice, which are sent once."""
        if not events or not self._head:
            return events
        head, self._head = [event(chunk) for chunk in self._head], []
        return [*head, *events]

    def _take_frame(self, chunk: dict[str, Any], beside: dict[str, Any]) -> None:
        """Take a chunk without a choice: Azure's first one, token counts, or words that every choice is judged with."""
        if not self.stats.frame:
            self.stats.framed = chunk
        if beside:
            self._beside.append(beside)
        for buffer in self.stats.choices.values():
            if not buffer.ended:
                buffer.add_beside(beside)

    async def _advance(self, buffer: ChoiceBuffer) -> list[bytes]:
        """The events of a choice that may be sent now, after a check if one is due."""
        due = buffer.due(self.settings.every)
        if self.settings.mode == "off":
            return self._release(buffer, buffer.release(final=True))
        if self.settings.mode == "observe":
            # In this mode nothing is held back. The check comes after `release`, so that what it flags has been sent
            # and counts as leaked.
            parts = self._release(buffer, buffer.release(final=True))
            if due:
                await self._judge(buffer, final=False)
            return parts
        if (unchecked := self._uncheckable(buffer)) is not None:
            return self._replace(buffer, unchecked)
        if self.settings.mode == "holdback" and due:
            decision = await self._judge(buffer, final=False)
            if decision.changed:
                return self._replace(buffer, decision)
        return self._release(buffer, buffer.release(final=False)) if self.settings.mode == "holdback" else []

    def _uncheckable(self, buffer: ChoiceBuffer) -> GuardDecision | None:
        """The decision about a choice with a part that nobody can check (a picture, sound), if it changes the choice.

        It is due at once, since more text would not change it.
        """
        if self.uncheckable_kinds.isdisjoint(buffer.kinds.values()):
            return None
        decision = self.uncheckable(buffer.text)
        return decision if decision.changed else None

    async def _judge(self, buffer: ChoiceBuffer, *, final: bool) -> GuardDecision:
        """Check the text of a choice, and mark in its buffer what is allowed.

        Raises:
            WithheldError: the check failed, and the rail fails closed.
        """
        shown = buffer.text, buffer.side_texts
        decision = self.stats.decisions.get(buffer.index)
        # After the finish reason the text may have been checked whole; its end brings nothing new.
        if decision is None or buffer.checked != shown:
            # Once text was sent, a rewrite of the whole reply can no longer replace it: the client would see both.
            decision = await self.review(shown[0], side_texts=shown[1], rewrite=buffer.sent == 0)
            buffer.checked = shown if decision.harm is not None and not decision.changed else None
        self.stats.decisions[buffer.index] = decision
        buffer.reread = decision.reread
        if decision.action == "withhold":
            self._withhold(buffer, decision)
        if self.settings.mode == "observe":
            if (decision.observed or decision.action) in ("rewrite", "refuse", "withhold"):
                self.stats.leaked += len(buffer.text) - buffer.judged
            buffer.judged = len(buffer.text)
        elif not decision.changed:
            buffer.allow(final=final)
        return decision

    async def _end(self, buffer: ChoiceBuffer) -> list[bytes]:
        """The last check of a choice, and the events that it allows."""
        if buffer.ended:
            return []
        buffer.ended = True
        if self.settings.mode in ("off", "observe"):
            parts = self._release(buffer, buffer.release(final=True))
            if self.settings.mode == "observe":
                await self._judge(buffer, final=True)
            return parts
        # The part may have come with the end.
        if (unchecked := self._uncheckable(buffer)) is not None:
            return self._replace(buffer, unchecked)
        decision = await self._judge(buffer, final=True)
        if decision.changed:
            return self._replace(buffer, decision)
        return self._release(buffer, buffer.release(final=True))

    def _release(self, buffer: ChoiceBuffer, chunks: list[dict[str, Any]]) -> list[bytes]:
        if buffer.sent and self.stats.first_text_sent is None:
            self.stats.first_text_sent = time.monotonic()
        return [event(chunk) for chunk in chunks]

    def _replace(self, buffer: ChoiceBuffer, decision: GuardDecision) -> list[bytes]:
        """The events that end a harmful choice: its rewrite if nothing was sent, otherwise a refusal.

        Raises:
            WithheldError: the choice could not be checked, and the rail fails closed.
        """
        self.stats.decisions[buffer.index] = decision
        if decision.action == "withhold":
            self._withhold(buffer, decision)
        buffer.ended = True
        # What was held back is never sent, from here on by no path.
        buffer.pending.clear()
        rewritten = decision.action == "rewrite" and buffer.sent == 0
        words = decision.response
        if not rewritten and self.answer.refusal_in == "content" and buffer.sent:
            # The client shows it behind the text that was sent.
            words = f"\n\n{words}"
        content: dict[str, Any] = {"content" if rewritten else self.answer.refusal_in: words}
        # OpenAI's clients expect the role in the first chunk of a choice and a finish reason in the last.
        role = {} if buffer.started else {"role": "assistant"}
        finish = "stop" if rewritten else self.answer.finish
        return [self._piece(buffer, {**role, **content}, None), self._piece(buffer, {}, finish)]

    def _withhold(self, buffer: ChoiceBuffer, decision: GuardDecision) -> None:
        """End the stream with an error: no choice goes on after it.

        Raises:
            WithheldError: always.
        """
        buffer.ended = True
        self.stats.failure = decision.failure or "failed"
        raise WithheldError

    def _piece(self, buffer: ChoiceBuffer, delta: dict[str, Any], finish: str | None) -> bytes:
        choice = {"index": buffer.index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**self.stats.frame, "choices": [choice]})


def _alone(chunk: dict[str, Any], choice: dict[str, Any], index: int, *, is_last: bool) -> dict[str, Any]:
    """A chunk with one of its choices, which is held back for a time of its own.

    Args:
        chunk: as the upstream sent it.
        choice: of the chunk.
        index: its number, which goes out whatever the upstream wrote in its place.
        is_last: whether it is the chunk's last choice: that one takes the token counts, which clients add up.
    """
    is_numbered = choice.get("index") is None or choice_number(choice, -1) == index
    numbered = choice if is_numbered else {**choice, "index": index}
    if len(chunk["choices"]) == 1 and numbered is choice:
        return chunk
    piece = {**chunk, "choices": [numbered]}
    if not is_last:
        piece.pop("usage", None)
    return piece
