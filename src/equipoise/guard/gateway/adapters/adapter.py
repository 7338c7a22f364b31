"""`Adapter`: translates another API to a chat request and its reply back; the guarded chat call is between them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from equipoise.guard.gateway import chat
from equipoise.guard.gateway.adapters.server_tools import ServerToolPlan
from equipoise.guard.gateway.carried_event import CARRIED
from equipoise.guard.gateway.connection import while_connected
from equipoise.guard.gateway.errors import RequestProblem, as_json
from equipoise.guard.gateway.gateway_state import GatewayState
from equipoise.guard.gateway.keys import credential
from equipoise.guard.gateway.reply_json import reply_json
from equipoise.guard.gateway.request_body import read_json, worked_on
from equipoise.guard.gateway.upstream import problem_of
from equipoise.guard.gateway.upstream_errors import ReportedError, error_of_choice
from equipoise.guard.policy import ServerTools

AT_ONCE: Final = 4
"""Chat calls of one request at the same time."""
_MALFORMED: Final = (TypeError, AttributeError, KeyError, IndexError, ValueError, RecursionError)
"""What translating a document raises whose fields have other types than the API's."""


class StreamTranslator(Protocol):
    """The events of one streamed reply."""

    def chunk(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """The events for one chunk of a chat completion."""
        ...

    def error(self, error: Mapping[str, Any]) -> list[bytes]:
        """The events for the error that ends a stream."""
        ...

    def end(self) -> list[bytes]:
        """The events for the end of a stream."""
        ...


class Adapter(Protocol):
    """One API."""

    def chat_request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The chat request that a request of this API stands for.

        Raises:
            RequestProblem: it asks for something that no chat request can.
        """
        ...

    def reply(self, completion: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """A chat completion as a reply of this API; `body` is the request."""
        ...

    def stream(self, body: Mapping[str, Any]) -> StreamTranslator:
        """A translator of one stream; `body` is the request."""
        ...

    def problem(self, problem: RequestProblem) -> dict[str, Any]:
        """The body of an error."""
        ...


@runtime_checkable
class BatchAdapter(Protocol):
    """An API whose request may stand for several chat requests."""

    def split(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """One request for each; the request itself where it stands for one.

        Raises:
            RequestProblem: they cannot be answered together.
        """
        ...

    def joined(self, replies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The replies to all as one."""
        ...


@runtime_checkable
class ServerToolAdapter(Protocol):
    """An API that has tools which a chat request cannot hold."""

    def plan(self, body: Mapping[str, Any], setting: ServerTools) -> ServerToolPlan:
        """What is done with them.

        Raises:
            RequestProblem: they are refused.
        """
        ...

    def native_stream(self, body: Mapping[str, Any]) -> StreamTranslator:
        """A translator of a stream whose chunks carry the upstream's own events."""
        ...


def handler(adapter: Adapter, route: str) -> Callable[[GatewayState, Request], Awaitable[Response]]:
    """The handler of a route that speaks another API.

    Args:
        adapter: translates.
        route: its path, as the record names it.
    """

    async def handle(service: GatewayState, request: Request) -> Response:
        try:
            client = service.keys.client(credential(request.headers))
            body = await read_json(request, service.bodies)
            # All APIs become chat requests here, and everything that checks works on those. An adapter cannot forget a
            # check, because it never sees one.
            bodies = adapter.split(body) if isinstance(adapter, BatchAdapter) else [body]
            service.keys.count_more(client, len(bodies) - 1)
            headers = dict(request.headers)
            plan = None
            if isinstance(adapter, ServerToolAdapter):
                plan = await worked_on(headers, partial(adapter.plan, body, client.policy.requests.server_tools))
                bodies = [plan.body]
            chats = [await worked_on(headers, partial(_chat_request, adapter, part)) for part in bodies]
            if len(chats) > 1:
                calls = [chat.complete(service, client, headers, part, route) for part in chats]
                work = _all(calls, lambda responses: _joined(adapter, responses, bodies))
                return await while_connected(request, work)
            response = await while_connected(request, chat.complete(service, client, headers, chats[0], route, plan))
            native = adapter if plan is not None and plan.native is not None else None
            if chats[0].get("stream") is True:
                if isinstance(native, ServerToolAdapter):
                    return _translated_stream(response, native.native_stream(body))
                return _translated_stream(response, adapter.stream(body))
            reply = _reply(adapter, response, bodies[0] if native is None else body, native=native is not None)
            return as_json(reply, headers=_headers([response]))
        except RequestProblem as problem:
            return as_json(adapter.problem(problem), problem.status, problem.headers)

    return handle


async def _all(
    calls: Sequence[Coroutine[Any, Any, Response]], joined: Callable[[Sequence[Response]], Response]
) -> Response:
    """The response made of those of several chat calls; the first error is that of all."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(call: Coroutine[Any, Any, Response]) -> Response:
        try:
            async with room:
                return await call
        finally:
            # Does nothing after its end; a call that never began is not left to the garbage collector.
            call.close()

    tasks = [asyncio.create_task(one(call)) for call in calls]
    try:
        return joined(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A task that was cancelled before it ran has not entered `one`.
        for call in calls:
            call.close()
        raise


def _joined(adapter: Adapter, responses: Sequence[Response], bodies: Sequence[Mapping[str, Any]]) -> Response:
    assert isinstance(adapter, BatchAdapter)
    replies = [_reply(adapter, response, body) for response, body in zip(responses, bodies, strict=True)]
    return as_json(adapter.joined(replies), headers=_headers(responses))


def _headers(responses: Sequence[Response]) -> dict[str, str]:
    """The headers of a response, and of several those of the gateway one after the other."""
    headers = {name: value for name, value in responses[0].headers.items() if not name.startswith("content-")}
    for name in headers if len(responses) > 1 else ():
        if name.startswith("x-equipoise-"):
            headers[name] = ", ".join(response.headers.get(name, "") for response in responses)
    return headers


def _reply(adapter: Adapter, response: Response, body: Mapping[str, Any], *, native: bool = False) -> dict[str, Any]:
    """A response to a chat request in the form of this API.

    Args:
        adapter: of the API.
        response: of the chat call.
        body: the request.
        native: whether the upstream was asked in this API: its own document is in the response unless it was replaced.

    Raises:
        RequestProblem: it has none.
    """
    headers = _headers([response])
    try:
        completion = reply_json(bytes(response.body))
        if native and CARRIED in completion:
            return dict(completion[CARRIED])
        reported = _failure(completion)
        if reported is not None:
            # No other API has a place for it in a reply.
            raise problem_of(reported, reported.status or 502, headers)
        return adapter.reply(completion, body)
    except _MALFORMED as error:
        raise RequestProblem(
            502, "the upstream's reply has no form of this API", "upstream_invalid", headers
        ) from error


def _chat_request(adapter: Adapter, body: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return adapter.chat_request(body)
    except _MALFORMED as error:
        raise RequestProblem(
            400, "expected a request of this API, got fields of other types", "invalid_request"
        ) from error


def _translated_stream(response: Response, translator: StreamTranslator) -> Response:
    if isinstance(response, StreamingResponse):
        response.body_iterator = _translated(response.body_iterator, translator)
        return response
    # A refusal of the request is complete at once.
    events = b"".join(event for part in _events(bytes(response.body)) for event in _translate(part, translator))
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return Response(events, response.status_code, headers)


async def _translated(
    parts: AsyncIterable[str | bytes | memoryview], translator: StreamTranslator
) -> AsyncGenerator[bytes, None]:
    try:
        async for part in parts:
            events = _events(part.encode() if isinstance(part, str) else bytes(part))
            if translated := b"".join(piece for event in events for piece in _translate(event, translator)):
                yield translated
    finally:
        if isinstance(parts, AsyncGenerator):
            # The inner generator holds the upstream's connection and the request's entry in the record. Without this
            # line a client that leaves would keep both until the garbage collector comes by.
            await parts.aclose()


def _events(part: bytes) -> list[bytes]:
    return [event for event in part.split(b"\n\n") if event]


def _translate(event: bytes, translator: StreamTranslator) -> list[bytes]:
    if not event.startswith(b"data: "):
        # A comment keeps the connection open in every API.
        return [event + b"\n\n"]
    data = event.removeprefix(b"data: ")
    try:
        if data == b"[DONE]":
            return translator.end()
        document = reply_json(data)
        if "error" in document:
            return translator.error(document["error"])
        events = translator.chunk(document)
        failed = _failure(document)
        return events if failed is None else [*events, *translator.error(_as_error(failed))]
    except _MALFORMED:
        return translator.error(
            {"message": "the upstream sent a chunk that has no form of this API", "code": "upstream"}
        )


def _failure(document: Mapping[str, Any]) -> ReportedError | None:
    """The first error within a choice of a reply or a chunk."""
    return next(filter(None, map(error_of_choice, document.get("choices") or ())), None)


def _as_error(reported: ReportedError) -> dict[str, Any]:
    return {"message": reported.message, "type": reported.type or "api_error", "code": reported.code, "param": None}


def named_event(document: Mapping[str, Any]) -> bytes:
    """A server-sent event with the name that is its document's type."""
    data = json.dumps(document, ensure_ascii=True, separators=(",", ":"))
    return f"event: {document['type']}\ndata: {data}\n\n".encode()


def plain(parts: list[Any]) -> Any:
    """The text of content that is one text: some servers refuse a list where a text is enough."""
    only = parts[0] if len(parts) == 1 else None
    if isinstance(only, Mapping) and set(only) == {"type", "text"} and isinstance(only["text"], str):
        return only["text"]
    return parts


def refuse_fields(body: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Refuse what a chat request cannot do.

    Args:
        body: the request.
        fields: names of fields, with the value that changes nothing.

    Raises:
        RequestProblem: one of them has another value.
    """
    for name, harmless in fields.items():
        if body.get(name) is not None and body[name] != harmless:
            raise unsupported(f"expected no {name}, which this gateway cannot do", name)


def unsupported(message: str, param: str) -> RequestProblem:
    """The error for something that a chat request cannot hold."""
    return RequestProblem(400, message, "unsupported_parameter", param=param)


def tools_of(body: Mapping[str, Any]) -> list[Any]:
    """The tools of a request.

    Raises:
        RequestProblem: they are no list.
    """
    tools = body["tools"]
    if not isinstance(tools, list):
        raise RequestProblem(
            400, f"expected tools, a list, got {type(tools).__name__}", "invalid_request", param="tools"
        )
    return tools
