"""The gateway's routes: an OpenAI-compatible server whose replies were judged."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from equipoise.errors import OutputError
from equipoise.guard.gateway import chat, litellm
from equipoise.guard.gateway.adapters.adapter import Adapter, handler
from equipoise.guard.gateway.adapters.completions import CompletionsAdapter
from equipoise.guard.gateway.adapters.messages import MessagesAdapter
from equipoise.guard.gateway.adapters.responses import ResponsesAdapter
from equipoise.guard.gateway.adapters.token_count import MessageTokensAdapter, ResponseTokensAdapter
from equipoise.guard.gateway.chat_call import LEFT_OUT
from equipoise.guard.gateway.concurrency_limit import ConcurrencyLimit
from equipoise.guard.gateway.connection import while_connected
from equipoise.guard.gateway.errors import RequestProblem, as_json, unrecorded
from equipoise.guard.gateway.gateway_state import GatewayState
from equipoise.guard.gateway.keys import credential
from equipoise.guard.gateway.moderation import moderate
from equipoise.guard.gateway.openapi import document
from equipoise.guard.gateway.readiness import Readiness
from equipoise.guard.gateway.request_body import read_json
from equipoise.guard.gateway.tidy_paths import TidyPaths
from equipoise.guard.gateway.tracing import lasting
from equipoise.guard.gateway.upstream import listed

log = logging.getLogger("equipoise.gateway")
ADAPTERS: Final[Mapping[str, Adapter]] = {
    "/v1/completions": CompletionsAdapter(),
    "/v1/responses": ResponsesAdapter(),
    "/v1/messages": MessagesAdapter(),
    "/v1/responses/input_tokens": ResponseTokensAdapter(),
    "/v1/messages/count_tokens": MessageTokensAdapter(),
}
"""Other APIs by their routes."""
_ROUTES: Final = frozenset({*ADAPTERS, chat.ROUTE, "/v1/moderations", "/v1/models", litellm.ROUTE})
"""Routes that are counted by their path."""


def create(service: GatewayState) -> Starlette:
    """The application.

    Args:
        service: upstream, guard, keys, record and metrics.
    """
    routes = [
        Route("/v1/chat/completions", _guarded(service, chat.answer), methods=["POST"]),
        # What Azure's SDK calls; the deployment is the model, which is in the body as well.
        Route("/openai/deployments/{name}/chat/completions", _guarded(service, chat.answer), methods=["POST"]),
        *(
            Route(path, _guarded(service, handler(adapter, path)), methods=["POST"])
            for path, adapter in ADAPTERS.items()
        ),
        Route("/v1/moderations", _guarded(service, _moderations), methods=["POST"]),
        Route(litellm.ROUTE, _guarded(service, _guardrail), methods=["POST"]),
        Route("/v1/models", _guarded(service, _models), methods=["GET"]),
        Route("/v1/models/{name:path}", _guarded(service, _model), methods=["GET"]),
        Route("/openapi.json", _described, methods=["GET"]),
        Route("/health", _health(service), methods=["GET"]),
        Route("/ready", _ready(service), methods=["GET"]),
        Route("/metrics", _metrics(service), methods=["GET"]),
    ]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: _unknown},
        middleware=[
            Middleware(TidyPaths),
            *_cross_origin(service),
            Middleware(
                ConcurrencyLimit,
                who=service.client_of,
                answer=_problem_response,
                count=lambda path, status: service.metrics.requests.labels(_metric_path(path), status).inc(),
            ),
        ],
    )


def _cross_origin(service: GatewayState) -> list[Middleware]:
    """The headers that let pages of the listed origins call the gateway (CORS); none by default."""
    if not service.origins:
        return []
    exposed = ["x-equipoise-request-id", "x-equipoise-receipts", "x-equipoise-decision", LEFT_OUT, "retry-after"]
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(service.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=exposed,
        )
    ]


Handler = Callable[[GatewayState, Request], Awaitable[Response]]


def _guarded(service: GatewayState, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        span = service.tracing.begin(request.method, request.url.path, request.headers)
        try:
            response = await handler(service, request)
        except RequestProblem as error:
            response = _problem_response(request.url.path, error)
        except OutputError:
            log.exception("the record could not be written")
            service.metrics.unrecorded.inc()
            response = _problem_response(request.url.path, unrecorded())
        except ClientDisconnect:
            gone = RequestProblem(400, "the client went away", "client_closed_request")
            response = _problem_response(request.url.path, gone)
        except Exception:
            # A bug of ours must neither answer in another shape nor let anything pass.
            log.exception("a request could not be worked on")
            bug = RequestProblem(503, "the gateway could not work on this request", "internal")
            response = _problem_response(request.url.path, bug)
        except BaseException:
            # The client left, or the gateway ends.
            if span is not None:
                span.end()
            raise
        service.metrics.requests.labels(_metric_path(request.url.path), response.status_code).inc()
        service.tracing.answered(span, response.status_code, response.headers)
        if span is not None and isinstance(response, StreamingResponse):
            response.body_iterator = lasting(span, response.body_iterator)
        elif span is not None:
            span.end()
        return response

    return handle


def _metric_path(path: str) -> str:
    """The route as a label; paths that clients choose are not in it, so that they cannot add labels at will."""
    for prefix, suffix in (("/v1/models/", ""), ("/openai/deployments/", "/chat/completions")):
        if path.startswith(prefix) and path.endswith(suffix):
            return f"{prefix}{{name}}{suffix}"
    return path if path in _ROUTES else "other"


async def _moderations(service: GatewayState, request: Request) -> Response:
    client = service.keys.client(credential(request.headers))
    body = await read_json(request, service.bodies)

    async def work() -> Response:
        return as_json(await moderate(service, client, body))

    return await while_connected(request, work())


async def _guardrail(service: GatewayState, request: Request) -> Response:
    client = service.keys.client(credential(request.headers))
    body = await read_json(request, service.bodies)

    async def work() -> Response:
        return as_json(await litellm.guardrail(service, client, body))

    return await while_connected(request, work())


async def _models(service: GatewayState, request: Request) -> Response:
    service.keys.client(credential(request.headers))
    headers = service.upstream.headers(dict(request.headers), pass_on=not service.keys.are_needed)
    return as_json(listed(await service.upstream.models(headers)))


async def _model(service: GatewayState, request: Request) -> Response:
    service.keys.client(credential(request.headers))
    headers = service.upstream.headers(dict(request.headers), pass_on=not service.keys.are_needed)
    return as_json(await service.upstream.model(request.path_params["name"], headers))


async def _described(request: Request) -> Response:
    return as_json(document())


def _health(service: GatewayState) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        problems = service.stuck()
        status = "stuck" if problems else "ok"
        return as_json({"status": status, "problems": problems}, 503 if problems else 200)

    return handle


def _ready(service: GatewayState) -> Callable[[Request], Awaitable[Response]]:
    readiness = Readiness(service)

    async def handle(request: Request) -> Response:
        problems = await readiness.problems()
        status = "not ready" if problems else "ok"
        return as_json({"status": status, "problems": problems}, 503 if problems else 200)

    return handle


def _metrics(service: GatewayState) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    return handle


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    problem = RequestProblem(error.status_code, f"{request.method} {request.url.path}: {error.detail}", code)
    return _problem_response(request.url.path, problem)


def _problem_response(path: str, problem: RequestProblem) -> Response:
    """The response for a problem, in the form of the API that has this path or one above it."""
    for route, adapter in ADAPTERS.items():
        if path == route or path.startswith(f"{route}/"):
            return as_json(adapter.problem(problem), problem.status, problem.headers)
    return problem.response()
