"""The response of a chat call that is not streamed: the check of each choice, and the response to the client."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

import httpx
from starlette.responses import Response

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.blobs import LONG
from equipoise.guard.gateway.carried_event import CARRIED
from equipoise.guard.gateway.chat_call import ChatCall
from equipoise.guard.gateway.content_parts import ChatRequest
from equipoise.guard.gateway.errors import RequestProblem, as_json, unchecked_problem
from equipoise.guard.gateway.native.native_call import NativeCall
from equipoise.guard.gateway.replies import raise_if_withheld
from equipoise.guard.gateway.reply_choices import ReplyChoice, beside_choices, parse_reply, replaced
from equipoise.guard.gateway.reply_forms import as_whole
from equipoise.guard.gateway.request_pictures import RequestPictures
from equipoise.guard.gateway.upstream import parsed
from equipoise.guard.guard_input import GuardInput

_NEVER_OF_A_MODEL: Final = (401, 403, 404, 429)
"""Statuses of errors before a model is asked."""


def require_capacity(call: ChatCall, *, stream: bool) -> None:
    """Make sure that the upstream is not called for a reply that could not be checked.

    Raises:
        RequestProblem: checks hang, or too many wait.
    """
    policy = call.policy
    observes = policy.mode == "observe" or (stream and policy.stream.mode in ("off", "observe"))
    if policy.output.enabled and policy.output.fail == "closed" and not observes:
        refusal = call.service.guard.executor.refusal()
        if refusal is not None:
            raise unchecked_problem(refusal.kind, "reply")


async def answer_whole(call: ChatCall, request: ChatRequest, upstream: httpx.Response) -> Response:
    """The response to the client, recorded first: the upstream's bytes if every choice is allowed.

    Raises:
        RequestProblem: the upstream sent no chat completion, or a choice could not be checked.
        OutputError: the record could not be written.
    """
    if call.native is None:
        upstream = await as_whole(upstream)
        document = await asyncio.to_thread(parsed, upstream) if len(upstream.content) > LONG else parsed(upstream)
    else:
        document = await call.native.whole(upstream)
        reading = partial(_carried, call.native, document)
        document = await asyncio.to_thread(reading) if len(upstream.content) > LONG else reading()
    try:
        # Separating words from other bytes in a long reply would block the event loop.
        is_long = len(upstream.content) > LONG
        choices = await asyncio.to_thread(parse_reply, document) if is_long else parse_reply(document)
    except ValueError as error:
        raise RequestProblem(
            502, "the upstream sent something that is no chat completion", "upstream_invalid"
        ) from error
    changed = False
    call.receipts.expect((part.path, part.kind) for choice in choices for part in choice.parts)
    for choice in choices:
        decision = await check_choice(call, request, choice)
        if decision.changed:
            changed = True
            document.pop(CARRIED, None)
            # Fields beside the choices were judged with the first choice.
            for name in beside_choices(document) if choice.index == 0 else ():
                del document[name]
            refused = decision.action == "refuse"
            document["choices"][choice.index] = replaced(
                document["choices"][choice.index],
                None if refused else decision.response,
                decision.response if refused else None,
                call.policy.answer.finish if refused else "stop",
                choice.index,
                refusal_in=call.policy.answer.refusal_in,
            )
    moderation = await call.moderation_field(request, [choice.text for choice in choices])
    await call.write()
    if not changed and not moderation and call.native is None:
        # The bytes as they came, not the parsed document written again: that would change numbers, order and unknown
        # fields.
        return Response(upstream.content, media_type="application/json", headers=call.response_headers())
    return as_json({**document, **moderation}, headers=call.response_headers())


def _carried(native: NativeCall, document: dict[str, Any]) -> dict[str, Any]:
    """A reply of another API as a completion.

    Raises:
        RequestProblem: it is none.
    """
    try:
        return native.reader.completion(document)
    except (TypeError, AttributeError, KeyError, ValueError, RecursionError) as error:
        raise RequestProblem(502, "the upstream's reply has no form of this API", "upstream_invalid") from error


async def check_choice(call: ChatCall, request: ChatRequest, choice: ReplyChoice) -> GuardDecision:
    """The output rail's decision about one choice, and the receipts of its parts.

    Raises:
        RequestProblem: it could not be checked, and the rail fails closed.
    """
    policy = call.policy
    text, side_texts, of_pictures = choice.text, choice.side_texts, None
    uncheckable = not call.rules.uncheckable_kinds().isdisjoint(choice.kinds)
    if policy.pictures.replies == "look" and policy.output.enabled:
        pictures = RequestPictures(call.service, policy, call.receipts)
        for part in choice.parts:
            if part.kind == "picture":
                await pictures.read(part.path, part.url)
        uncheckable = uncheckable or bool(pictures.unchecked)
        of_pictures = await pictures.judge(text)
        if pictures.text:
            text, side_texts = f"{text}\n{pictures.text}", (*side_texts, pictures.text)
    # Order: what cannot be checked, then pictures, then text. The first decision that changes the reply ends it; a
    # later and milder one must not take its place.
    decision = call.rules.uncheckable_decision(choice.text) if uncheckable and policy.output.enabled else None
    if decision is None or not decision.changed:
        decision = of_pictures
    if decision is None or not decision.changed:
        item = request.guard_input(call.picture_text, text, side_texts)
        decision = await call.service.check("output", item, policy)
    call.decisions.append((decision, choice.text))
    still_open = set(call.receipts.open_paths())
    for part in choice.parts:
        if part.path in still_open:
            call.rules.close(call.receipts, part.path, part.kind, decision)
    raise_if_withheld(decision, "reply")
    return decision


async def judged(call: ChatCall, problem: RequestProblem) -> RequestProblem:
    """An error, without the upstream's words if they are harmful: some servers repeat in them what a model wrote."""
    policy = call.policy
    if not problem.reported or problem.status in _NEVER_OF_A_MODEL or not policy.output.enabled:
        return problem
    decision = await call.service.check("output", GuardInput(problem.reported, ""), policy, rewrite=False)
    if not decision.changed:
        return problem
    call.decisions.append((decision, problem.reported))
    message = f"the upstream answered with status {problem.status}"
    # Names stay: clients go by them.
    code = "upstream_error" if len(str(problem.code).split()) > 1 else problem.code
    return RequestProblem(problem.status, message, code, problem.headers)
