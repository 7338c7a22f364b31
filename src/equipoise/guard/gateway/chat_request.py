"""The request of a chat call: parsing, the checks of pictures and of the input rail, and the refusal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.chat_call import ChatCall
from equipoise.guard.gateway.content_parts import FIELDS, ChatRequest, parse_request
from equipoise.guard.gateway.errors import RequestProblem, as_json, completion
from equipoise.guard.gateway.replies import raise_if_withheld
from equipoise.guard.gateway.reply_choices import replaced
from equipoise.guard.gateway.request_body import worked_on
from equipoise.guard.gateway.request_pictures import RequestPictures
from equipoise.guard.gateway.streaming.events import DONE, event
from equipoise.prompts.chat_messages import apply_to_messages

LONGEST_MODEL: Final = 256
"""Characters of a model's name that are kept."""


async def parse(call: ChatCall, body: Mapping[str, Any]) -> ChatRequest:
    """The parts of a request, each with an open receipt.

    Raises:
        RequestProblem: the body is no chat request.
    """
    model = body.get("model")
    call.log.model = shortened(model) if isinstance(model, str) else None
    call.service.tracing.model(call.log.model)
    try:
        request = await worked_on(call.headers, partial(parse_request, body))
    except ValueError as error:
        raise RequestProblem(400, str(error), "invalid_request") from error
    if not isinstance(body.get("stream"), bool | None):
        # Servers that accept "yes" as true would send a stream that this gateway does not expect.
        raise RequestProblem(400, "expected stream: true or false", "invalid_request", param="stream")
    options = body.get("stream_options")
    call.wants_usage = isinstance(options, Mapping) and options.get("include_usage") is True
    call.choices = body["n"] if isinstance(body.get("n"), int) else 1
    call.receipts.expect((part.path, part.kind) for part in request.parts)
    return request


def shortened(model: str) -> str:
    """The name of a model as record, spans and refusals have it; a long one ends in a mark."""
    return model if len(model) <= LONGEST_MODEL else f"{model[:LONGEST_MODEL]}..."


async def check_pictures(
    call: ChatCall, request: ChatRequest, body: dict[str, Any]
) -> tuple[dict[str, Any], GuardDecision | None]:
    """The body with the pictures as they were checked, and the picture guard's decision if it refuses.

    Raises:
        RequestProblem: too many pictures, or a part that cannot be checked, if the policy fails closed.
    """
    limits = call.policy.pictures
    if len(request.pictures) > limits.max_count:
        raise RequestProblem(400, f"expected at most {limits.max_count} pictures", "too_many_pictures")
    pictures = RequestPictures(call.service, call.policy, call.receipts)
    for part in request.parts:
        if part.kind == "unsupported":
            pictures.mark_unsupported(part.path, "a part of this type cannot be looked at")
        elif part.kind == "file":
            pictures.take_file(part.path)
        elif part.kind == "picture" and (url := await pictures.read(part.path, part.url)) is not None:
            body = with_picture(body, part.path, url)
            call.checked_pictures[part.url] = url
    call.picture_text = pictures.text
    decision = call.picture_decision = await pictures.judge(request.guard_input().question)
    if decision is not None:
        call.decisions.append((decision, ""))
        raise_if_withheld(decision, "picture")
    if pictures.unchecked and limits.fail == "closed" and call.policy.mode == "enforce":
        raise RequestProblem(
            400, f"a part of the request cannot be checked: {pictures.unchecked[0]}", "unsupported_content"
        )
    return body, decision if decision is not None and decision.changed else None


async def check_text(call: ChatCall, request: ChatRequest) -> GuardDecision | None:
    """The input rail's decision if it refuses the request.

    Raises:
        RequestProblem: the check failed, and the rail fails closed.
    """
    rail = call.policy.input
    # Pictures have closed theirs before; what is left is text, and parts that are skipped for a stated reason.
    still_open = set(call.receipts.open_paths())
    for part in request.parts:
        if part.path not in still_open:
            continue
        if part.kind in ("instruction", "setting"):
            call.receipts.close(part.path, "skipped", "the operator's own words")
        elif part.kind in ("embedded picture", "opaque"):
            call.receipts.close(part.path, "skipped", "bytes within a text that hold no words")
        elif not rail.enabled:
            call.receipts.close(part.path, "skipped", "the input rail is off; read with the reply where it is on")
    if not rail.enabled:
        return None
    item = request.guard_input(call.picture_text)
    decision = await call.service.check("input", item, call.policy)
    for path in call.receipts.open_paths():
        call.receipts.close_by_decision(path, decision)
    call.decisions.append((decision, item.request_text))
    raise_if_withheld(decision, "request")
    return decision if decision.changed else None


def with_prompt(call: ChatCall, body: dict[str, Any]) -> dict[str, Any]:
    """The body as the upstream gets it: with the policy's prompt, and a receipt that says so.

    Checks read the request as the client sent it, and the reply is judged with that: what the operator adds must change
    neither.
    """
    section = call.policy.prompt
    policy = section.policy
    if policy is None:
        return body
    call.receipts.expect([("prompt", "prompt policy")])
    what = f"{section.use or 'steps of the policy'}, revision {policy.revision}"
    if call.policy.mode == "observe":
        call.receipts.close("prompt", "skipped", f"not added, as the policy observes: {what}")
        return body
    call.receipts.close("prompt", "skipped", f"the operator's own words, added: {what}")
    return {**body, "messages": apply_to_messages(policy, body["messages"])}


async def refuse(call: ChatCall, request: ChatRequest, decision: GuardDecision, *, stream: bool) -> Response:
    """A refusal in the form of a reply; the upstream is not called."""
    field, finish_reason = call.policy.answer.refusal_in, call.policy.answer.finish
    choice = replaced({}, None, decision.response, finish_reason, refusal_in=field)
    moderation = await call.moderation_field(request, [])
    await call.write()
    document = {**completion(call.log.id, call.log.model, [choice]), **moderation}
    if not stream:
        return as_json(document, headers=call.response_headers())
    frame = {name: value for name, value in document.items() if name not in ("choices", "usage", *moderation)}
    frame["object"] = "chat.completion.chunk"
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", field: decision.response}, None),
        ({}, finish_reason),
    ]
    events = [
        event({**frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})
        for delta, finish in deltas
    ]
    events += [event({**frame, "choices": [], **moderation})] if moderation else []
    return Response(b"".join([*events, DONE]), media_type="text/event-stream", headers=call.response_headers())


def with_picture(body: Mapping[str, Any], path: str, url: str) -> dict[str, Any]:
    """A copy of a request in which a picture is replaced by the one that was checked.

    Args:
        body: the request; it stays as it is.
        path: of the picture, `messages/N/content/M`, `messages/N/images/M` or `request/images/M`.
        url: the data URL of the checked picture.
    """
    *owner, name, part_index = path.split("/")
    if owner == [FIELDS]:
        return _with_part(body, name, int(part_index), url)
    messages = list(body["messages"])
    messages[int(owner[1])] = _with_part(messages[int(owner[1])], name, int(part_index), url)
    return {**body, "messages": messages}


def _with_part(owner: Mapping[str, Any], name: str, index: int, url: str) -> dict[str, Any]:
    """A copy of a message, or of a request, with a checked picture in one of its lists."""
    parts = list(owner[name])
    old = parts[index]
    if isinstance(old, str):
        parts[index] = url if ":" in old else url.partition(",")[2]
    else:
        image = old["image_url"]
        parts[index] = {**old, "image_url": {**image, "url": url} if isinstance(image, Mapping) else {"url": url}}
    return {**owner, name: parts}
