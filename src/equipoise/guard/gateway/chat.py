"""One chat request: look at it, ask the upstream, look at what it says, record, answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from equipoise.errors import OutputError
from equipoise.guard.decision import GuardDecision, sha256
from equipoise.guard.gateway.blobs import LONG, aread
from equipoise.guard.gateway.content_parts import (
    ChatRequest,
    ReplyChoice,
    beside_choices,
    parse_reply,
    parse_request,
    replaced,
)
from equipoise.guard.gateway.errors import RequestProblem, as_json, completion, unchecked_problem, unrecorded
from equipoise.guard.gateway.keys import Client
from equipoise.guard.gateway.moderation import moderation, wanted
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.gateway.replies import ReplyRules, withheld
from equipoise.guard.gateway.request_pictures import RequestPictures
from equipoise.guard.gateway.state import GatewayState, RequestLog
from equipoise.guard.gateway.streaming.events import DONE, chunks, event
from equipoise.guard.gateway.streaming.guarded_stream import GuardedStream, StreamStats
from equipoise.guard.gateway.streaming.opened import Opened, Streamed
from equipoise.guard.gateway.upstream import parsed


class ChatHandler:
    """One request.

    Args:
        service: what all requests share.
        client: who asks.
        headers: of the request.
    """

    def __init__(self, service: GatewayState, client: Client, headers: Mapping[str, str]) -> None:
        self.service = service
        self.policy = client.policy
        self.rules = ReplyRules(client.policy)
        self.headers = headers
        self.made = RequestLog(client, "/v1/chat/completions")
        self.receipts = Receipts()
        self.decisions: list[tuple[GuardDecision, str]] = []
        self.picture_text = ""
        self.looked: GuardDecision | None = None
        self.moderated = False
        self.written = False

    async def answer(self, body: dict[str, Any]) -> Response:
        """The response.

        Raises:
            Problem: no answer; it is recorded as such first.
            OutputError: the record could not be written.
        """
        try:
            body, self.moderated = wanted(body)
            request = self._parsed(body)
            body, refusal = await self._look(request, body)
            refusal = refusal or await self._screen(request)
            if refusal is not None:
                return await self._refused(request, body, refusal)
            return await self._ask(request, body)
        except RequestProblem as problem:
            if not self.written:
                self.made.status = problem.status
                await self._write()
            problem.headers.update(self._marks())
            raise
        except asyncio.CancelledError:
            # The client left; its receipts are written by a task that goes on without it.
            if not self.written:
                self.made.status = 499
                self.service.later(self._write())
            raise

    def _parsed(self, body: dict[str, Any]) -> ChatRequest:
        model = body.get("model")
        self.made.model = model if isinstance(model, str) else None
        self.service.tracing.model(self.made.model)
        try:
            request = parse_request(body)
        except ValueError as error:
            raise RequestProblem(400, str(error), "invalid_request") from error
        if not isinstance(body.get("stream"), bool | None):
            # Servers that take "yes" for true would stream where nobody expects it.
            raise RequestProblem(400, "expected stream: true or false", "invalid_request", param="stream")
        self.receipts.expect((each.place, each.kind) for each in request.surfaces)
        return request

    async def _look(self, request: ChatRequest, body: dict[str, Any]) -> tuple[dict[str, Any], GuardDecision | None]:
        """Look at the pictures; what nobody can look at takes the fail mode. A decision where one is refused."""
        limits = self.policy.pictures
        if len(request.pictures) > limits.max_count:
            raise RequestProblem(400, f"expected at most {limits.max_count} pictures", "too_many_pictures")
        gallery = RequestPictures(self.service, self.policy, self.receipts)
        for surface in request.surfaces:
            if surface.kind == "unsupported":
                gallery.leave(surface.place, "a part of this type cannot be looked at")
            elif surface.kind == "picture" and (url := await gallery.take(surface.place, surface.url)) is not None:
                body = with_picture(body, surface.place, url)
        self.picture_text = gallery.text
        self.looked = decision = await gallery.judge(request.evidence().question)
        if decision is not None:
            self.decisions.append((decision, ""))
            withheld(decision, "picture")
        if gallery.unseen and limits.fail == "closed" and self.policy.mode == "enforce":
            raise RequestProblem(
                400, f"a part of the request cannot be checked: {gallery.unseen[0]}", "unsupported_content"
            )
        return body, decision if decision is not None and decision.changed else None

    async def _screen(self, request: ChatRequest) -> GuardDecision | None:
        """The input rail; a decision where the request is refused."""
        rail = self.policy.input
        waiting = set(self.receipts.open())
        for surface in request.surfaces:
            if surface.place not in waiting:
                continue
            if surface.kind in ("instruction", "setting"):
                self.receipts.close(surface.place, "skipped", "the operator's own words")
            elif surface.kind in ("embedded picture", "opaque"):
                self.receipts.close(surface.place, "skipped", "bytes within a text that hold no words")
            elif not rail.enabled:
                self.receipts.close(
                    surface.place, "skipped", "the input rail is off; read with the reply where it is on"
                )
        if not rail.enabled:
            return None
        evidence = request.evidence(self.picture_text)
        decision = await self.service.screen(evidence, self.policy)
        for place in self.receipts.open():
            self.receipts.judged(place, decision)
        self.decisions.append((decision, evidence.asked))
        withheld(decision, "request")
        return decision if decision.changed else None

    async def _refused(self, request: ChatRequest, body: Mapping[str, Any], decision: GuardDecision) -> Response:
        """A refusal of the request in the reply's place."""
        choice = replaced({}, None, decision.response, "content_filter")
        told = await self._told(request, [])
        await self._write()
        whole = {**completion(self.made.id, self.made.model, [choice]), **told}
        if not body.get("stream"):
            return as_json(whole, headers=self._marks())
        frame = {name: value for name, value in whole.items() if name not in ("choices", "usage", *told)}
        frame["object"] = "chat.completion.chunk"
        pieces: list[tuple[dict[str, Any], str | None]] = [
            ({"role": "assistant", "refusal": decision.response}, None),
            ({}, "content_filter"),
        ]
        events = [
            event({**frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})
            for delta, finish in pieces
        ]
        events += [event({**frame, "choices": [], **told})] if told else []
        return Response(b"".join([*events, DONE]), media_type="text/event-stream", headers=self._marks())

    async def _ask(self, request: ChatRequest, body: dict[str, Any]) -> Response:
        service = self.service
        self._admit(stream=body.get("stream") is True)
        headers = service.upstream.headers(self.headers, pass_on=not service.keys.known)
        stream = body.get("stream") is True
        response = await service.upstream.send(json.dumps(body).encode(), headers, stream=stream)
        if stream:
            if "text/event-stream" not in response.headers.get("content-type", ""):
                await response.aclose()
                raise RequestProblem(502, "the upstream sent something else than an event stream", "upstream_invalid")
            return await self._streamed(request, response)
        whole = parsed(response)
        try:
            # Off the event loop where telling words from other bytes takes long.
            large = len(response.content) > LONG
            choices = await asyncio.to_thread(parse_reply, whole) if large else parse_reply(whole)
        except ValueError as error:
            raise RequestProblem(
                502, "the upstream sent something that is no chat completion", "upstream_invalid"
            ) from error
        changed = False
        self.receipts.expect((each.place, each.kind) for choice in choices for each in choice.surfaces)
        for choice in choices:
            decision = await self._review(request, choice)
            if decision.changed:
                changed = True
                for name in beside_choices(whole) if choice.index == 0 else ():
                    del whole[name]
                refused = decision.action == "refuse"
                whole["choices"][choice.index] = replaced(
                    whole["choices"][choice.index],
                    None if refused else decision.response,
                    decision.response if refused else None,
                    "content_filter" if refused else "stop",
                )
        told = await self._told(request, [choice.text for choice in choices])
        await self._write()
        if not changed and not told:
            # Byte for byte as it came.
            return Response(response.content, media_type="application/json", headers=self._marks())
        return as_json({**whole, **told}, headers=self._marks())

    def _admit(self, *, stream: bool) -> None:
        """Ask the upstream for nothing that could not be checked when it comes.

        Raises:
            Problem: checks hang, or too many wait.
        """
        policy = self.policy
        observes = policy.mode == "observe" or (stream and policy.stream.mode in ("off", "observe"))
        if policy.output.enabled and policy.output.fail == "closed" and not observes:
            refusal = self.service.worker.refusal()
            if refusal is not None:
                raise unchecked_problem(refusal.kind, "reply")

    async def _review(self, request: ChatRequest, choice: ReplyChoice) -> GuardDecision:
        """The output rail for one reply.

        Raises:
            Problem: nobody could look at it, and the rail fails closed.
        """
        policy = self.policy
        looks = policy.pictures.replies == "look" and policy.output.enabled
        text, apart, looked = choice.text, choice.apart, None
        unseen = not self.rules.blind().isdisjoint(choice.kinds)
        if looks:
            gallery = RequestPictures(self.service, policy, self.receipts)
            for each in choice.surfaces:
                if each.kind == "picture":
                    await gallery.take(each.place, each.url)
            unseen = unseen or bool(gallery.unseen)
            looked = await gallery.judge(text)
            if gallery.text:
                text, apart = f"{text}\n{gallery.text}", (*apart, gallery.text)
        if unseen and policy.output.enabled and (found := self.rules.unseen(choice.text)).changed:
            decision = found
        elif looked is not None and looked.changed:
            decision = looked
        else:
            decision = await self.service.review(request.evidence(self.picture_text, text, apart), policy)
        self.decisions.append((decision, choice.text))
        waiting = set(self.receipts.open())
        for each in choice.surfaces:
            if each.place in waiting:
                self.rules.close(self.receipts, each.place, each.kind, decision)
        withheld(decision, "reply")
        return decision

    async def _streamed(self, request: ChatRequest, response: Any) -> Response:
        """A stream's response, once its first event is there.

        Raises:
            Problem: nobody could look at its beginning, and nothing has left.
        """
        watch = StreamStats()
        settled = False

        async def settle() -> None:
            # The client went away before the end; what had left by then is recorded.
            nonlocal settled
            if not settled and not self.written:
                settled = True
                self.made.status = 499
                await self._stream_over(request, watch)
            await response.aclose()

        opened = Opened(self._stream(request, response, watch), settle)
        over = False

        def end() -> None:
            nonlocal over
            if not over:
                over = True
                self.service.later(opened.close())

        try:
            await opened.wait()
            if watch.withheld is not None and not any(held.began for held in watch.choices.values()):
                await opened.rest()
                raise unchecked_problem(watch.withheld, "reply")
        except BaseException:
            end()
            raise
        # The record's entry is written before the stream's end is acknowledged, so headers know the request alone.
        marks = {"x-equipoise-request-id": self.made.id, "cache-control": "no-store"}
        return Streamed(opened, marks, end)

    async def _stream(self, request: ChatRequest, response: Any, watch: StreamStats) -> AsyncGenerator[bytes, None]:
        policy = self.policy

        async def review(text: str, apart: tuple[str, ...], final: bool, rewrite: bool) -> GuardDecision:
            found = await aread(text)
            kinds = {"embedded picture" if blob.kind == "picture" else blob.kind for blob in found.blobs}
            if not self.rules.blind(stream=True).isdisjoint(kinds) and (unseen := self.rules.unseen(text)).changed:
                return unseen
            parts = tuple([(await aread(each)).words for each in apart])
            said = request.evidence(self.picture_text, found.words, parts)
            decision = await self.service.review(said, policy, rewrite=rewrite)
            # What passes is what came, not what was read of it.
            decision = replace(decision, original=sha256(text))
            return decision if decision.changed else replace(decision, response=text)

        # A policy that observes has nothing to hold back for, and a rail that is off looks at nothing.
        mode = "off" if not policy.output.enabled else policy.stream.mode
        mode = "observe" if policy.mode == "observe" and mode != "off" else mode
        settings = policy.stream.model_copy(update={"mode": mode})
        guarded = GuardedStream(review, settings, watch, self.rules.unseen, self.rules.blind(stream=True))
        async with aclosing(guarded.run(chunks(response), response.aclose)) as parts:
            async for part in parts:
                yield await self._stream_over(request, watch) if part == DONE else part

    async def _stream_over(self, request: ChatRequest, watch: StreamStats) -> bytes:
        """A stream's end, recorded before it is told; a record that fails is told instead."""
        # No await between these and the record: a client that leaves meanwhile must not find it half done.
        read = {index: (await aread(held.text)).blobs for index, held in watch.choices.items()}
        for index, held in sorted(watch.choices.items()):
            decision = watch.decisions.get(index)
            places = [(f"choices/{index}/{place}", kind) for place, kind in held.seen.items()]
            blobs = {blob.kind for blob in read[index]}
            places += [
                (f"choices/{index}/~{kind}", "embedded picture" if kind == "picture" else kind)
                for kind in sorted(blobs)
                if kind == "opaque" or "picture" not in held.seen.values()
            ]
            self.receipts.expect(places)
            if decision is not None:
                self.decisions.append((decision, held.text))
                for place, kind in places:
                    self.rules.close(self.receipts, place, kind, decision)
            elif self.policy.stream.mode == "off" or not self.policy.output.enabled:
                for place, _ in places:
                    self.receipts.close(place, "skipped", "the policy does not judge streams")
        self.service.metrics.leaked.inc(watch.leaked)
        if watch.first_heard is not None and watch.first_left is not None:
            self.service.metrics.delay.observe(watch.first_left - watch.first_heard)
        if watch.problem is not None:
            self.made.status = 502
        if watch.withheld is not None:
            self.made.status = unchecked_problem(watch.withheld, "reply").status
        try:
            await self._write()
        except OutputError:
            self.service.metrics.unrecorded.inc()
            return event(unrecorded().body()) + DONE
        told = await self._told(request, [held.text for _, held in sorted(watch.choices.items())])
        return (event({**watch.frame, "choices": [], **told}) if told else b"") + DONE

    async def _told(self, request: ChatRequest, replies: Sequence[str]) -> dict[str, Any]:
        """OpenAI's object `moderation`, where the client wants it."""
        if not self.moderated:
            return {}
        known = {text: decision for decision, text in self.decisions if decision.harm is not None and text}
        asked = request.evidence(self.picture_text).asked
        return {"moderation": await moderation(self.service, self.policy, asked, replies, known, self.looked)}

    async def _write(self) -> None:
        self.written = True
        self.made.decisions = tuple(self.decisions)
        await self.service.write(self.made, self.receipts)

    def _marks(self) -> dict[str, str]:
        """Headers that say what was looked at and what was decided."""
        actions = ",".join(decision.observed or decision.action for decision, _ in self.decisions)
        return {
            "x-equipoise-request-id": self.made.id,
            "x-equipoise-receipts": self.receipts.header(),
            "x-equipoise-decision": actions or "none",
        }


def with_picture(body: Mapping[str, Any], place: str, url: str) -> dict[str, Any]:
    """A request with the picture that was looked at in place of the one that came; the caller's body stays."""
    _, at, _, part = place.split("/")
    messages = list(body["messages"])
    message = dict(messages[int(at)])
    content = list(message["content"])
    old = content[int(part)]
    image = old["image_url"]
    new = {**image, "url": url} if isinstance(image, Mapping) else {"url": url}
    content[int(part)] = {**old, "image_url": new}
    messages[int(at)] = {**message, "content": content}
    return {**body, "messages": messages}
