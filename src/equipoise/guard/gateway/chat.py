"""The handler of `/v1/chat/completions`: check the request, ask the upstream, check its reply, record, answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import httpx
from starlette.requests import Request
from starlette.responses import Response

from equipoise.guard.gateway import chat_request
from equipoise.guard.gateway.adapters.server_tools import ServerToolPlan, refuse_server_tools
from equipoise.guard.gateway.chat_call import ChatCall
from equipoise.guard.gateway.chat_response import answer_whole, judged, require_capacity
from equipoise.guard.gateway.chat_stream import ChatStream
from equipoise.guard.gateway.connection import while_connected
from equipoise.guard.gateway.dialects import passed_back
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.gateway_state import GatewayState
from equipoise.guard.gateway.keys import Client, credential
from equipoise.guard.gateway.moderation import without_moderation_field
from equipoise.guard.gateway.request_body import read_json, worked_on

ROUTE: Final = "/v1/chat/completions"


async def answer(service: GatewayState, http_request: Request) -> Response:
    """The response to a chat request.

    Raises:
        RequestProblem: there is no answer; if the request could be read, that is recorded first.
        OutputError: the record could not be written.
        ClientDisconnect: the client left; that is recorded.
    """
    client = service.keys.client(credential(http_request.headers))
    body = await read_json(http_request, service.bodies)
    refuse_server_tools(body, client.policy.requests.server_tools)
    return await while_connected(http_request, complete(service, client, dict(http_request.headers), body))


async def complete(
    service: GatewayState,
    client: Client,
    headers: Mapping[str, str],
    body: dict[str, Any],
    route: str = ROUTE,
    plan: ServerToolPlan | None = None,
) -> Response:
    """The one chat call behind all routes that answer with a reply.

    Args:
        service: shared by all requests.
        client: who asks.
        headers: of the request.
        body: a chat request.
        route: the path that the client sent its request to.
        plan: what is done with the server's tools in a request of another API.

    Raises:
        RequestProblem: there is no answer; that is recorded first.
        OutputError: the record could not be written.
    """
    call = ChatCall(service, client, headers, route)
    try:
        if plan is not None:
            call.native, call.left_out = plan.native, plan.left_out
        body, call.wants_moderation = without_moderation_field(body)
        request = await chat_request.parse(call, body)
        if plan is not None:
            plan.receive(call.receipts)
        stream = body.get("stream") is True
        # Pictures before text: the input rail reads the text that stands in pictures as well, and has to wait for it.
        body, refusal = await chat_request.check_pictures(call, request, body)
        refusal = refusal or await chat_request.check_text(call, request)
        if refusal is not None:
            return await chat_request.refuse(call, request, refusal, stream=stream)
        # Asked before the upstream is: a reply that nobody can check costs a model's time and would be withheld
        # afterwards.
        require_capacity(call, stream=stream)
        # After the checks, so that the operator's own words are judged neither as the user's nor as a reason to refuse.
        body = chat_request.with_prompt(call, body)
        if stream:
            return await ChatStream(call, request, partial(_send, call, body, stream=True)).answer()
        return await answer_whole(call, request, await _send(call, body, stream=False))
    except RequestProblem as problem:
        if not call.written:
            problem = await judged(call, problem)
            call.log.status = problem.status
            await call.write()
        problem.headers = {**call.response_headers(), **problem.headers}
        raise problem from None
    except asyncio.CancelledError:
        # The client left. Its task ends here, so another one writes the entry.
        if not call.written:
            call.log.status = 499
            service.run_later(call.write())
        raise


async def _send(call: ChatCall, body: Mapping[str, Any], *, stream: bool) -> httpx.Response:
    """The upstream's response: to the chat request, or to the client's own where the upstream speaks its API.

    Raises:
        RequestProblem: no response, or one that is an error.
    """
    service = call.service
    headers = service.upstream.headers(call.headers, pass_on=not service.keys.are_needed)
    if call.native is None:
        content = await worked_on(call.headers, partial(_as_bytes, body))
        response = await service.upstream.send(content, headers, stream=stream)
    else:
        native = call.native
        content = await asyncio.to_thread(lambda: _as_bytes(native.sent(call.checked_pictures)))
        headers = native.headers(headers, call.headers, service.upstream)
        response = await service.upstream.send(content, headers, stream=stream, path=native.path)
    call.upstream_headers = passed_back(response.headers)
    return response


def _as_bytes(body: Mapping[str, Any]) -> bytes:
    """A request as JSON.

    Raises:
        RequestProblem: a number that JSON cannot say.
    """
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError as error:
        # 1e999 is JSON, and Python reads it as infinity.
        raise RequestProblem(400, "expected numbers that fit into 64 bits", "invalid_json") from error
