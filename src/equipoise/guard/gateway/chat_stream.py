"""The response of a chat call that is streamed: `ChatStream` ties the guarded stream to the call's record."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import httpx
from starlette.responses import Response

from equipoise.errors import OutputError
from equipoise.guard.decision import GuardDecision, sha256
from equipoise.guard.gateway.blobs import Blob, aread
from equipoise.guard.gateway.chat_call import LEFT_OUT, ChatCall
from equipoise.guard.gateway.chat_response import judged
from equipoise.guard.gateway.content_parts import ChatRequest
from equipoise.guard.gateway.errors import RequestProblem, unrecorded
from equipoise.guard.gateway.reply_forms import as_stream
from equipoise.guard.gateway.streaming.choice_buffer import ChoiceBuffer
from equipoise.guard.gateway.streaming.events import DONE, chunks, event, is_event_stream
from equipoise.guard.gateway.streaming.guarded_stream import GuardedStream
from equipoise.guard.gateway.streaming.stream_response import StartedStream, StartedStreamResponse
from equipoise.guard.gateway.streaming.stream_stats import StreamStats


class ChatStream:
    """One streamed reply.

    Args:
        call: the request's call.
        request: the request's parts.
        send: asks the upstream; its response is not read yet.
    """

    def __init__(self, call: ChatCall, request: ChatRequest, send: Callable[[], Awaitable[httpx.Response]]) -> None:
        self._call, self._request, self._send = call, request, send
        self._upstream: httpx.Response | None = None
        self._begun = False
        """Whether the response has begun before the upstream answered."""
        self._stats = StreamStats()
        self._settled = False
        self._closing = False

    async def answer(self) -> Response:
        """The response, once its first event is there.

        Raises:
            RequestProblem: no answer, or no stream, or its beginning could not be checked and nothing was sent.
        """
        opened = StartedStream(self._events(), self._settle)

        def close() -> None:
            # Called by the response's end and by errors before it; the first call counts.
            if not self._closing:
                self._closing = True
                self._call.service.run_later(opened.close())

        try:
            # Nothing has been sent yet. A failure until the first event can still be answered with a status of its own;
            # after it the status is 200 for good, and an error is an event.
            await opened.wait()
            self._begun = not opened.is_ready
            failure = opened.failure
            if failure is not None:
                # Whoever answers with a problem records it.
                self._settled = isinstance(failure, RequestProblem)
                raise failure
            problem = self._stats.unsent_problem()
            if problem is not None:
                await opened.rest()
                raise problem
        except BaseException:
            close()
            raise
        # The entry is written before the stream's end is sent, but after its headers, so these have only the id.
        headers = {
            **self._call.upstream_headers,
            "x-equipoise-request-id": self._call.log.id,
            "cache-control": "no-store",
            **({LEFT_OUT: ", ".join(self._call.left_out)} if self._call.left_out else {}),
        }
        return StartedStreamResponse(opened, headers, close, self._call.policy.stream.keepalive)

    async def _settle(self) -> None:
        """Record a stream that the client left before its end, and close the upstream's response."""
        if not self._settled and not self._call.written:
            self._settled = True
            self._call.log.status = 499
            await self._finish()
        if self._upstream is not None:
            await self._upstream.aclose()

    async def _opened(self) -> httpx.Response:
        """The upstream's stream, not read yet.

        Raises:
            RequestProblem: the upstream gave no answer, or sent no stream.
        """
        upstream = self._upstream = await self._send()
        if is_event_stream(upstream):
            return upstream
        await upstream.aclose()
        if not upstream.is_stream_consumed:
            raise RequestProblem(502, "the upstream sent something else than an event stream", "upstream_invalid")
        native = self._call.native
        return native.as_stream(upstream) if native else as_stream(upstream, usage=self._call.wants_usage)

    async def _events(self) -> AsyncGenerator[bytes, None]:
        """The events for the client, from the request to the upstream on; the entry is written before `[DONE]`.

        Raises:
            RequestProblem: the upstream gave no stream, and the response has not begun.
        """
        try:
            response = await self._opened()
        except RequestProblem as problem:
            if not self._begun:
                raise
            problem = await judged(self._call, problem)
            self._call.log.status = problem.status
            yield event(problem.body())
            yield await self._finish()
            return
        policy, rules = self._call.policy, self._call.rules
        # There is nothing to hold back if the rail is off, or if the policy only observes.
        mode = "off" if not policy.output.enabled else policy.stream.mode
        mode = "observe" if policy.mode == "observe" and mode != "off" else mode
        settings = policy.stream.model_copy(update={"mode": mode})
        kinds = rules.uncheckable_kinds(stream=True)
        read = chunks if self._call.native is None else self._call.native.chunks
        guarded = GuardedStream(
            self._review,
            settings,
            self._stats,
            rules.uncheckable_decision,
            kinds,
            wants_usage=self._call.wants_usage,
            choices=self._call.choices,
            answer=policy.answer,
        )
        # Both are closed here, in this order: a client may leave while either waits.
        async with (
            aclosing(read(response)) as upstream,
            aclosing(guarded.run(upstream, response.aclose)) as events,
        ):
            async for part in events:
                # The entry is on the disk before the client learns that the stream is complete: no reply exists that
                # the record does not know.
                yield await self._finish() if part == DONE else part

    async def _review(self, text: str, *, side_texts: tuple[str, ...], rewrite: bool) -> GuardDecision:
        """The output rail's decision about the text so far."""
        call = self._call
        content = await aread(text)
        kinds = {"embedded picture" if blob.kind == "picture" else blob.kind for blob in content.blobs}
        if not call.rules.uncheckable_kinds(stream=True).isdisjoint(kinds):
            decision = call.rules.uncheckable_decision(text)
            if decision.changed:
                return decision
        words = tuple([(await aread(side_text)).words for side_text in side_texts])
        item = self._request.guard_input(call.picture_text, content.words, words)
        decision = await call.service.check("output", item, call.policy, rewrite=rewrite)
        # The detector read the text without its bytes; what is recorded and sent is the text itself.
        decision = replace(decision, original=sha256(text))
        return decision if decision.changed else replace(decision, response=text)

    async def _finish(self) -> bytes:
        """Write the entry, and return the events that end the stream; if that fails, an error event."""
        call, stats = self._call, self._stats
        # All awaits of reading come first: a client that leaves must not find the receipts half closed.
        blobs = {index: (await aread(choice.text)).blobs for index, choice in stats.choices.items()}
        for index, choice in sorted(stats.choices.items()):
            self._close_receipts(choice, blobs[index])
        call.service.metrics.leaked.inc(stats.leaked)
        if stats.first_text_received is not None and stats.first_text_sent is not None:
            call.service.metrics.delay.observe(stats.first_text_sent - stats.first_text_received)
        if (problem := stats.ending()) is not None:
            call.log.status = problem.status
        try:
            await call.write()
        except OutputError:
            call.service.metrics.unrecorded.inc()
            return event(unrecorded().body()) + DONE
        texts = [choice.text for _, choice in sorted(stats.choices.items())]
        moderation = await call.moderation_field(self._request, texts)
        return (event({**stats.frame, "choices": [], **moderation}) if moderation else b"") + DONE

    def _close_receipts(self, choice: ChoiceBuffer, blobs: tuple[Blob, ...]) -> None:
        """Receipts of one choice: of its fields, and of the bytes inside its text."""
        call, index = self._call, choice.index
        parts = [(f"choices/{index}/{path}", kind) for path, kind in choice.kinds.items()]
        parts += [
            (f"choices/{index}/~{kind}", "embedded picture" if kind == "picture" else kind)
            for kind in sorted({blob.kind for blob in blobs})
            if kind == "opaque" or "picture" not in choice.kinds.values()
        ]
        call.receipts.expect(parts)
        decision = self._stats.decisions.get(index)
        if decision is not None:
            call.decisions.append((decision, choice.text))
            for path, kind in parts:
                call.rules.close(call.receipts, path, kind, decision)
        elif call.policy.stream.mode == "off" or not call.policy.output.enabled:
            for path, _ in parts:
                call.receipts.close(path, "skipped", "the policy does not judge streams")
