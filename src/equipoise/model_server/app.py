"""The routes of the model server: OpenAI's chat completions, by greedy decoding, whole or as events."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from equipoise.errors import EquipoiseError, out_of_memory
from equipoise.guard.gateway.body_budget import BodyBudget
from equipoise.guard.gateway.connection import while_connected
from equipoise.guard.gateway.errors import RequestProblem, as_json
from equipoise.guard.gateway.request_body import read_json, worked_on
from equipoise.guard.gateway.streaming.events import DONE, KEEPALIVE, event
from equipoise.model_server.generation_queue import GenerationQueue, QueueClosed, QueueFull
from equipoise.model_server.prompt_room import PromptRoom
from equipoise.model_server.reply_request import ReplyRequest, cut_at_stop, read_request
from equipoise.types import Exchange

log = logging.getLogger("equipoise.model_server")
SILENCE: Final = 10.0
"""Seconds after which a silent stream sends a comment, so that no proxy closes it."""
BY: Final = "x-equipoise-by"
"""Header with the countermeasure that replaced the model's own reply."""


@dataclass(frozen=True)
class ModelServer:
    """One model and the limits of its requests."""

    queue: GenerationQueue
    """Generates."""
    room: PromptRoom
    """Counts."""
    name: str
    """As clients see it; a request may name any model, as there is only one."""
    most_tokens: int
    """Tokens of a reply, at most."""
    created: int
    """Unix time of the start."""
    bodies: BodyBudget = field(default_factory=BodyBudget)
    """The bytes of requests that are on their way."""

    def submit(self, wanted: ReplyRequest) -> Future[Exchange]:
        """Give a request its place among those that wait.

        Raises:
            RequestProblem: there is none.
        """
        try:
            return self.queue.submit(wanted.prompt, wanted.max_new_tokens)
        except QueueFull:
            raise RequestProblem(
                503, "too many requests wait already; try again later", "overloaded", {"retry-after": "2"}
            ) from None
        except QueueClosed:
            raise _stopping() from None

    async def exchange(self, future: Future[Exchange]) -> Exchange:
        """The reply to a request that was submitted.

        Raises:
            RequestProblem: the model cannot reply to it.
        """
        try:
            # Cancelled with the task of a client that leaves; a prompt that still waits is then dropped.
            exchange = await asyncio.wrap_future(future)
        except QueueClosed:
            raise _stopping() from None
        except EquipoiseError as error:
            if out_of_memory(error):
                raise _failed(str(error), "out_of_memory") from error
            raise RequestProblem(400, str(error), "invalid_request") from error
        except Exception as error:
            log.exception("the model raised an error")
            raise _failed(f"the model failed: {type(error).__name__}", "internal") from error
        if exchange.error is not None:
            raise _failed(exchange.error, "no_reply")
        return exchange

    def usage(self, wanted: ReplyRequest, exchange: Exchange) -> dict[str, int]:
        """Tokens of the prompt, and of the model's reply before it was cut."""
        prompt, reply = wanted.prompt_tokens, self.room.tokens(exchange.reply)
        return {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}


def create(server: ModelServer) -> Starlette:
    """The application.

    Args:
        server: the model. Who runs the application closes its queue, as `stopping_server.serve` does.
    """
    routes = [
        Route("/v1/chat/completions", _route(partial(_chat, server)), methods=["POST"]),
        Route("/v1/models", _route(partial(_models, server)), methods=["GET"]),
        Route("/v1/models/{name:path}", _route(partial(_model, server)), methods=["GET"]),
        Route("/health", _route(partial(_health, server)), methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _unknown})


def _route(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except RequestProblem as error:
            return error.response()
        except ClientDisconnect:
            return RequestProblem(400, "the client went away", "client_closed_request").response()
        except Exception:
            log.exception("a request could not be worked on")
            return RequestProblem(500, "the server could not work on this request", "internal").response()

    return handle


async def _chat(server: ModelServer, request: Request) -> Response:
    document = await read_json(request, server.bodies)

    def read() -> ReplyRequest:
        return server.room.fitted(read_request(document, server.most_tokens))

    wanted = await worked_on(request.headers, read)
    # Before the first byte of a stream, so that a client that has to come again gets a status that says so.
    future = server.submit(wanted)
    identity = f"chatcmpl-{uuid.uuid4().hex}"
    if wanted.stream:
        return _ReplyStream(future, _events(server, wanted, identity, future))

    async def work() -> Response:
        exchange = await server.exchange(future)
        reply, finish = _ended(wanted, exchange)
        message = {"role": "assistant", "content": reply, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        answer = _frame(server, identity, "chat.completion", [choice]) | {"usage": server.usage(wanted, exchange)}
        return as_json(answer, headers={} if exchange.by == "model" else {BY: exchange.by})

    return await while_connected(request, work())


class _ReplyStream(StreamingResponse):
    """Events that end with the request for their reply, even where the client leaves before the first of them."""

    def __init__(self, future: Future[Exchange], events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._future = future

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._future.cancel()


async def _events(
    server: ModelServer, wanted: ReplyRequest, identity: str, future: Future[Exchange]
) -> AsyncIterator[bytes]:
    """The reply as events: a countermeasure decides over whole replies, so that the text comes in one piece."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event(_frame(server, identity, "chat.completion.chunk", [choice]))

    yield chunk({"role": "assistant", "content": ""})
    task = asyncio.create_task(server.exchange(future))
    try:
        while not (await asyncio.wait({task}, timeout=SILENCE))[0]:
            yield KEEPALIVE
        try:
            exchange = task.result()
        except RequestProblem as error:
            yield event(error.body())
            return
        reply, finish = _ended(wanted, exchange)
        yield chunk({"content": reply})
        yield chunk({}, finish)
        if wanted.include_usage:
            last = _frame(server, identity, "chat.completion.chunk", []) | {"usage": server.usage(wanted, exchange)}
            yield event(last)
        yield DONE
    finally:
        # A client that leaves ends this generator, and its prompt must not be generated for nobody.
        task.cancel()


def _frame(server: ModelServer, identity: str, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": identity, "object": kind, "created": int(time.time()), "model": server.name, "choices": choices}


def _ended(wanted: ReplyRequest, exchange: Exchange) -> tuple[str, str]:
    """The reply up to the request's stop texts, and why it ends."""
    reply = cut_at_stop(exchange.reply, wanted.stop)
    return reply, "stop" if reply != exchange.reply else exchange.finish


def _stopping() -> RequestProblem:
    return RequestProblem(503, "the server stops; try again later", "overloaded", {"retry-after": "5"})


def _failed(message: str, code: str) -> RequestProblem:
    return RequestProblem(500, message, code)


def _card(server: ModelServer) -> dict[str, Any]:
    return {"id": server.name, "object": "model", "created": server.created, "owned_by": "equipoise"}


async def _models(server: ModelServer, request: Request) -> Response:
    return as_json({"object": "list", "data": [_card(server)]})


async def _model(server: ModelServer, request: Request) -> Response:
    if request.path_params["name"] != server.name:
        raise RequestProblem(404, f"this server has {server.name} alone", "model_not_found")
    return as_json(_card(server))


async def _health(server: ModelServer, request: Request) -> Response:
    alive = server.queue.is_alive
    return as_json(
        {"status": "ok" if alive else "stuck", "waiting": server.queue.waiting, "model": server.name},
        200 if alive else 503,
    )


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    return RequestProblem(error.status_code, f"{request.method} {request.url.path}: {error.detail}", code).response()
