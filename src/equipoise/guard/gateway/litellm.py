"""LiteLLM's generic guardrail API: its proxy sends the parts of a request or of replies and applies the answer.

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
from equipoise.guard.gateway.content_parts import MOST_PARTS, ChatRequest, parse_request, words_in_call
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.gateway_state import GatewayState, RequestLog
from equipoise.guard.gateway.keys import Client
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.gateway.replies import ReplyRules, raise_if_withheld
from equipoise.guard.gateway.request_pictures import RequestPictures
from equipoise.guard.guard_input import GuardInput
from equipoise.prompts.chat_messages import apply_to_texts

ROUTE: Final = "/beta/litellm_basic_guardrail_api"


async def guardrail(service: GatewayState, client: Client, body: Mapping[str, Any]) -> dict[str, Any]:
    """The action that LiteLLM shall take.

    Raises:
        RequestProblem: the body is no request of this API, or a check failed; the latter is recorded first.
        OutputError: the record could not be written.
    """
    # Reading long messages would block the event loop.
    call = await asyncio.to_thread(_GuardrailCall, service, client, body)
    try:
        return await call.answer()
    except RequestProblem as problem:
        call.log.status = problem.status
        await call.write()
        raise
    except asyncio.CancelledError:
        call.log.status = 499
        service.run_later(call.write())
        raise


class _GuardrailCall:
    """One call: its parts, receipts and decisions."""

    def __init__(self, service: GatewayState, client: Client, body: Mapping[str, Any]) -> None:
        self.service, self.policy = service, client.policy
        self.rules = ReplyRules(client.policy)
        self.log, self.receipts = RequestLog(client, ROUTE), Receipts()
        self.decisions: list[tuple[GuardDecision, str]] = []
        self._written = False
        self.pictures = RequestPictures(service, self.policy, self.receipts)
        kind = body.get("input_type")
        if kind not in ("request", "response"):
            raise RequestProblem(400, "expected input_type: request or response", "invalid_request")
        self.kind = str(kind)
        self.texts, self.images = _strings(body, "texts"), _strings(body, "images")
        self.calls = _list(body, "tool_calls")
        self.spoken = _list(body, "structured_messages")
        if len(self.texts) + len(self.images) + len(self.calls) > MOST_PARTS:
            message = f"expected at most {MOST_PARTS} texts, images and tool_calls"
            raise RequestProblem(400, message, "invalid_request")
        self.messages = _messages(self.spoken)
        self.receipts.expect((f"texts/{index}", "text") for index in range(len(self.texts)))
        self.receipts.expect((f"images/{index}", "picture") for index in range(len(self.images)))
        self.receipts.expect((f"tool_calls/{index}", "tool call") for index in range(len(self.calls)))
        if _list(body, "tools"):
            self.receipts.expect([("tools", "setting")])
            self.receipts.close("tools", "skipped", "definitions, not words of the user or the model")

    async def answer(self) -> dict[str, Any]:
        picture_text, of_pictures = await self._check_pictures()
        answer = await (self._request(picture_text) if self.kind == "request" else self._response(picture_text))
        if of_pictures is not None and of_pictures.changed:
            answer = _blocked(of_pictures.response)
        if self.pictures.unchecked and self.policy.pictures.fail == "closed" and self.policy.mode == "enforce":
            answer = _blocked(f"a part of the {self.kind} cannot be checked: {self.pictures.unchecked[0]}")
        await self.write()
        return answer

    async def write(self) -> None:
        """Record the call, once."""
        if not self._written:
            self._written = True
            self.log.decisions = tuple(self.decisions)
            await self.service.write(self.log, self.receipts)

    async def _check_pictures(self) -> tuple[str, GuardDecision | None]:
        """The text in the pictures, and the picture guard's decision if there is such a guard."""
        for index, url in enumerate(self.images):
            await self.pictures.read(f"images/{index}", url)
        decision = await self.pictures.judge("\n".join(self.texts) if self.kind == "request" else "")
        if decision is not None:
            self.decisions.append((decision, ""))
            raise_if_withheld(decision, "picture")
        return self.pictures.text, decision

    async def _request(self, picture_text: str) -> dict[str, Any]:
        self._add_messages()
        calls = [words_in_call(call) for call in self.calls]
        texts = [(await aread(text)).words for text in (*calls, *self.texts)]
        # LiteLLM says in no field which text is the question. The last one is taken as that; everything before it is
        # context, and all of it is judged.
        *earlier, last = [*self._message_texts(), *texts] or [""]
        item = GuardInput("", last, picture_text, tuple(earlier))
        # LiteLLM asked for this check, so it runs even if the policy turns the rail off for chats.
        decision = await self.service.check("input", item, self.policy, always=True)
        self.decisions.append((decision, item.request_text))
        for path in self.receipts.open_paths():
            self.receipts.close_by_decision(path, decision)
        raise_if_withheld(decision, "request")
        return _blocked(decision.response) if decision.changed else self._with_prompt()

    def _with_prompt(self) -> dict[str, Any]:
        """The texts under the policy's prompt, and a receipt that says so; checks read them as they came.

        The API changes texts in their places and adds none, so exemplars, which are turns of their own, are not added.
        """
        section = self.policy.prompt
        policy = section.policy
        if policy is None:
            return _nothing()
        self.receipts.expect([("prompt", "prompt policy")])
        what = f"{section.use or 'steps of the policy'}, revision {policy.revision}"
        if self.policy.mode == "observe":
            self.receipts.close("prompt", "skipped", f"not added, as the policy observes: {what}")
            return _nothing()
        roles = self._roles()
        texts = apply_to_texts(policy, self.texts, roles, pictured=bool(self.images))
        if texts is None:
            self.receipts.close("prompt", "skipped", f"not added, as texts cannot hold it: {what}")
            return _nothing()
        self.receipts.close("prompt", "skipped", f"the operator's own words, added: {what}")
        return {**_nothing(), "action": "GUARDRAIL_INTERVENED", "texts": texts}

    def _roles(self) -> list[str]:
        """Whose texts they are; the user's where the messages do not say."""
        roles: dict[str, str] = {}
        for part in () if self.messages is None else self.messages.parts:
            # A part's path begins with its message: messages/2/content.
            role = str(self.spoken[int(part.path.split("/")[1])].get("role"))
            roles[part.text] = role if role == "user" else roles.get(part.text, role)
        return [roles.get(text, "user") for text in self.texts]

    async def _response(self, picture_text: str) -> dict[str, Any]:
        request = GuardInput("", "", picture_text)
        if self.messages is not None:
            request = self.messages.guard_input(picture_text)
        replies = [(f"texts/{index}", text) for index, text in enumerate(self.texts)]
        replies += [(f"tool_calls/{index}", words_in_call(call)) for index, call in enumerate(self.calls)]
        texts = list(self.texts)
        blocked: GuardDecision | None = None
        for index, (path, text) in enumerate(replies):
            is_call = index >= len(texts)
            content = await aread(text)
            decision = None
            # A picture blocks the answer by itself.
            if any(blob.kind == "opaque" for blob in content.blobs) and "opaque" in self.rules.uncheckable_kinds():
                decision = self.rules.uncheckable_decision(text)
            if decision is None or not decision.changed:
                item = replace(request, response=content.words)
                decision = await self.service.check("output", item, self.policy, always=True, rewrite=not is_call)
            self.decisions.append((decision, text))
            self.receipts.close_by_decision(path, decision)
            self._close_blobs(path, content)
            raise_if_withheld(decision, "reply")
            # The loop goes on after a refusal: the API has one answer for all texts, but each of them needs its
            # receipt.
            if decision.action == "refuse":
                blocked = blocked or decision
            elif decision.action == "rewrite":
                texts[index] = decision.response
        if blocked is not None:
            return _blocked(blocked.response)
        return _nothing() if texts == self.texts else {**_nothing(), "action": "GUARDRAIL_INTERVENED", "texts": texts}

    def _close_blobs(self, path: str, content: Read) -> None:
        """Receipts of the bytes inside a text that hold no words."""
        for kind in sorted({blob.kind for blob in content.blobs}):
            self.receipts.expect([(f"{path}~{kind}", kind)])
            if kind == "picture" and self.policy.pictures.replies != "skip":
                self.pictures.mark_unsupported(f"{path}~{kind}", "a picture in the middle of a text")
            elif kind == "opaque" and "opaque" in self.rules.uncheckable_kinds():
                self.receipts.close(f"{path}~{kind}", "unsupported", "bytes within a text that nobody can read")
            else:
                self.receipts.close(f"{path}~{kind}", "skipped", "bytes within a text that hold no words")

    def _add_messages(self) -> None:
        """Receipts of the messages: LiteLLM's `texts` need not hold all their words."""
        if self.messages is None:
            return
        parts, images = self.messages.parts, set(self.images)
        self.receipts.expect((f"structured_{part.path}", part.kind) for part in parts)
        for part in parts:
            path = f"structured_{part.path}"
            if part.kind == "unsupported":
                self.pictures.mark_unsupported(path, "a part of this type cannot be looked at")
            elif part.kind == "file":
                self.pictures.take_file(path)
            elif part.kind == "instruction":
                self.receipts.close(path, "skipped", "the operator's own words")
            elif part.kind in ("embedded picture", "opaque"):
                self.receipts.close(path, "skipped", "bytes within a text that hold no words")
            elif part.kind == "picture" and part.url in images:
                self.receipts.close(path, "skipped", "looked at among images")
            elif part.kind == "picture":
                self.pictures.mark_unsupported(path, "a picture that is not among images")

    def _message_texts(self) -> list[str]:
        """Texts of the messages that `texts` does not have."""
        if self.messages is None:
            return []
        known = {"", *self.texts}
        return [part.text for part in self.messages.parts if part.kind != "instruction" and part.text not in known]


def _nothing() -> dict[str, Any]:
    return {"action": "NONE", "blocked_reason": None, "texts": None, "images": None}


def _blocked(why: str) -> dict[str, Any]:
    return {**_nothing(), "action": "BLOCKED", "blocked_reason": why}


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    values = body.get(name)
    if values is not None and not isinstance(values, list):
        raise RequestProblem(
            400, f"expected {name}: a list, got {type(values).__name__}", "invalid_request", param=name
        )
    return values or []


def _strings(body: Mapping[str, Any], name: str) -> list[str]:
    values = _list(body, name)
    if not all(isinstance(value, str) for value in values):
        raise RequestProblem(400, f"expected {name}: a list of texts", "invalid_request", param=name)
    return values


def _messages(value: Any) -> ChatRequest | None:
    if not value:
        return None
    try:
        return parse_request({"messages": value})
    except ValueError as error:
        raise RequestProblem(
            400, f"structured_messages: {error}", "invalid_request", param="structured_messages"
        ) from error
