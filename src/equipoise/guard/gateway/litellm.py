"""LiteLLM's generic guardrail API: its proxy sends the parts of a request or of replies here and does what is said.

Request: `input_type` (`request` or `response`), `texts`, `images`, `tools`, `tool_calls`, `structured_messages`.
Response: `action` (`NONE`, `BLOCKED` with `blocked_reason`, or `GUARDRAIL_INTERVENED` with other `texts`); see
https://docs.litellm.ai/docs/adding_provider/generic_guardrail_api.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.blobs import Read, aread
from equipoise.guard.gateway.content_parts import ChatRequest, parse_request, words_in
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.keys import Client
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.gateway.replies import withheld
from equipoise.guard.gateway.request_pictures import RequestPictures
from equipoise.guard.gateway.state import GatewayState, RequestLog
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.policy import Policy

ROUTE: Final = "/beta/litellm_basic_guardrail_api"


async def guardrail(service: GatewayState, client: Client, body: Mapping[str, Any]) -> dict[str, Any]:
    """What LiteLLM shall do.

    Raises:
        Problem: no request of this API.
        OutputError: the record could not be written.
    """
    call = _GuardrailCall(service, client, body)
    try:
        return await call.answer()
    except RequestProblem as problem:
        call.made.status = problem.status
        await call.write()
        raise
    except asyncio.CancelledError:
        call.made.status = 499
        service.later(call.write())
        raise


class _GuardrailCall:
    """One call: what was sent, what was looked at, what was decided."""

    def __init__(self, service: GatewayState, client: Client, body: Mapping[str, Any]) -> None:
        self.service = service
        self.made, self.receipts = RequestLog(client, ROUTE), Receipts()
        self.decisions: list[tuple[GuardDecision, str]] = []
        self._written = False
        # Asked for, so judged, whatever the rails do with chats.
        told = client.policy
        self.policy: Policy = told.model_copy(
            update={
                "input": told.input.model_copy(update={"enabled": True}),
                "output": told.output.model_copy(update={"enabled": True}),
            }
        )
        self.gallery = RequestPictures(service, self.policy, self.receipts)
        kind = body.get("input_type")
        if kind not in ("request", "response"):
            raise RequestProblem(400, "expected input_type: request or response", "invalid_request")
        self.kind = str(kind)
        self.texts, self.images = _strings(body, "texts"), _strings(body, "images")
        self.calls = _listed(body, "tool_calls")
        self.messages = _messages(body.get("structured_messages"))
        self.receipts.expect((f"texts/{at}", "text") for at in range(len(self.texts)))
        self.receipts.expect((f"images/{at}", "picture") for at in range(len(self.images)))
        self.receipts.expect((f"tool_calls/{at}", "tool call") for at in range(len(self.calls)))
        if _listed(body, "tools"):
            self.receipts.expect([("tools", "setting")])
            self.receipts.close("tools", "skipped", "definitions, not words of the user or the model")

    async def answer(self) -> dict[str, Any]:
        picture_text, seen = await self._look()
        found = await (self._request(picture_text) if self.kind == "request" else self._response(picture_text))
        if seen is not None and seen.changed:
            found = _blocked(seen.response)
        if self.gallery.unseen and self.policy.pictures.fail == "closed" and self.policy.mode == "enforce":
            found = _blocked(f"a part of the {self.kind} cannot be checked: {self.gallery.unseen[0]}")
        await self.write()
        return found

    async def write(self) -> None:
        """Record the call, once."""
        if not self._written:
            self._written = True
            self.made.decisions = tuple(self.decisions)
            await self.service.write(self.made, self.receipts)

    async def _look(self) -> tuple[str, GuardDecision | None]:
        """The text in the pictures, and the picture guard's decision where there is one."""
        for at, url in enumerate(self.images):
            await self.gallery.take(f"images/{at}", url)
        decision = await self.gallery.judge("\n".join(self.texts) if self.kind == "request" else "")
        if decision is not None:
            self.decisions.append((decision, ""))
            withheld(decision, "picture")
        return self.gallery.text, decision

    async def _request(self, picture_text: str) -> dict[str, Any]:
        self._hear_messages()
        calls = [words_in(each) for each in self.calls]
        said = [(await aread(text)).words for text in (*calls, *self.texts)]
        *earlier, last = [*self._more_words(), *said] or [""]
        evidence = GuardInput("", last, picture_text, tuple(earlier))
        decision = await self.service.screen(evidence, self.policy)
        self.decisions.append((decision, evidence.asked))
        for place in self.receipts.open():
            self.receipts.judged(place, decision)
        withheld(decision, "request")
        return _blocked(decision.response) if decision.changed else _nothing()

    async def _response(self, picture_text: str) -> dict[str, Any]:
        asked = self.messages.evidence(picture_text) if self.messages is not None else GuardInput("", "", picture_text)
        told = [(f"texts/{at}", text) for at, text in enumerate(self.texts)]
        told += [(f"tool_calls/{at}", words_in(call)) for at, call in enumerate(self.calls)]
        texts = list(self.texts)
        blocked: GuardDecision | None = None
        for at, (place, text) in enumerate(told):
            is_call = at >= len(texts)
            said = await aread(text)
            evidence = replace(asked, response=said.words)
            decision = await self.service.review(evidence, self.policy, rewrite=not is_call)
            self.decisions.append((decision, text))
            self.receipts.judged(place, decision)
            self._bytes(place, said)
            withheld(decision, "reply")
            if decision.action == "refuse":
                blocked = blocked or decision
            elif decision.action == "rewrite":
                texts[at] = decision.response
        if blocked is not None:
            return _blocked(blocked.response)
        return _nothing() if texts == self.texts else {**_nothing(), "action": "GUARDRAIL_INTERVENED", "texts": texts}

    def _bytes(self, place: str, said: Read) -> None:
        """Receipts of what stands in a text and holds no words."""
        for kind in sorted({blob.kind for blob in said.blobs}):
            self.receipts.expect([(f"{place}~{kind}", kind)])
            if kind == "picture" and self.policy.pictures.replies != "skip":
                self.gallery.leave(f"{place}~{kind}", "a picture in the middle of a text")
            else:
                self.receipts.close(f"{place}~{kind}", "skipped", "bytes within a text that hold no words")

    def _hear_messages(self) -> None:
        """Receipts of the messages: LiteLLM's `texts` need not hold all their words."""
        if self.messages is None:
            return
        surfaces = self.messages.surfaces
        self.receipts.expect((f"structured_{each.place}", each.kind) for each in surfaces)
        for each in surfaces:
            place = f"structured_{each.place}"
            if each.kind == "unsupported":
                self.gallery.leave(place, "a part of this type cannot be looked at")
            elif each.kind == "instruction":
                self.receipts.close(place, "skipped", "the operator's own words")
            elif each.kind in ("embedded picture", "opaque"):
                self.receipts.close(place, "skipped", "bytes within a text that hold no words")
            elif each.kind == "picture" and each.url in self.images:
                self.receipts.close(place, "skipped", "looked at among images")
            elif each.kind == "picture":
                self.gallery.leave(place, "a picture that is not among images")

    def _more_words(self) -> list[str]:
        if self.messages is None:
            return []
        heard = [each.text for each in self.messages.surfaces if each.kind != "instruction" and each.text]
        return [text for text in heard if text not in self.texts]


def _nothing() -> dict[str, Any]:
    return {"action": "NONE", "blocked_reason": None, "texts": None, "images": None}


def _blocked(why: str) -> dict[str, Any]:
    return {**_nothing(), "action": "BLOCKED", "blocked_reason": why}


def _listed(body: Mapping[str, Any], name: str) -> list[Any]:
    found = body.get(name)
    if found is not None and not isinstance(found, list):
        raise RequestProblem(400, f"expected {name}: a list, got {type(found).__name__}", "invalid_request", param=name)
    return found or []


def _strings(body: Mapping[str, Any], name: str) -> list[str]:
    found = _listed(body, name)
    if not all(isinstance(each, str) for each in found):
        raise RequestProblem(400, f"expected {name}: a list of texts", "invalid_request", param=name)
    return found


def _messages(value: Any) -> ChatRequest | None:
    if not value:
        return None
    try:
        return parse_request({"messages": value})
    except ValueError as error:
        raise RequestProblem(
            400, f"structured_messages: {error}", "invalid_request", param="structured_messages"
        ) from error
