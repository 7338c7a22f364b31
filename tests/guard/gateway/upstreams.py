"""An upstream that does what a test says, and a gateway before it; nothing leaves the process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from equipoise.guard.async_guard import AsyncGuard
from equipoise.guard.decision import Detector, Detoxifier
from equipoise.guard.gateway.app import create
from equipoise.guard.gateway.gateway_state import GatewayState
from equipoise.guard.gateway.keys import ClientKeys
from equipoise.guard.gateway.upstream import Upstream
from equipoise.guard.pipeline import GuardPipeline
from equipoise.guard.policy import Policy
from equipoise.guard.record.store import AuditRecord
from tests.guard.fakes import Words


class Pieces(httpx.AsyncByteStream):
    """A body in pieces; an exception among them is raised, a float is a pause in seconds."""

    def __init__(self, pieces: Sequence[bytes | Exception | float]) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            else:
                # What comes in one piece is judged at once; between two the gateway can act.
                await asyncio.sleep(0)
                yield piece

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Fake(httpx.AsyncBaseTransport):
    """Answers every request as `answer` says, and remembers what it was asked."""

    answer: Callable[[dict[str, Any]], httpx.Response]
    requests: list[dict[str, Any]] = field(default_factory=list)
    heard: list[httpx.Headers] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    models: httpx.Response = field(
        default_factory=lambda: httpx.Response(200, json={"object": "list", "data": [{"id": "m", "object": "model"}]})
    )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.heard.append(request.headers)
        content = await request.aread()
        if not content:
            return self.models
        body = json.loads(content)
        self.requests.append(body)
        self.paths.append(request.url.path)
        return self.answer(body)


def message(content: Any, index: int = 0, **more: Any) -> dict[str, Any]:
    body = {"role": "assistant", "content": content, **more}
    return {"index": index, "message": body, "finish_reason": "stop"}


def whole(*choices: dict[str, Any], **more: Any) -> httpx.Response:
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": list(choices), **more}
    return httpx.Response(200, json=body)


def says(text: str) -> Callable[[dict[str, Any]], httpx.Response]:
    return lambda body: whole(message(text))


def pieces(*parts: bytes | Exception | float, kind: str = "text/event-stream", status: int = 200) -> httpx.Response:
    return httpx.Response(status, headers={"content-type": kind}, stream=Pieces(parts))


def delta(text: str | None, index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    fields = {**({} if text is None else {"content": text}), **more}
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@dataclass
class Gateway:
    """A gateway with its client."""

    client: httpx.AsyncClient
    service: GatewayState
    fake: Fake
    record: AuditRecord

    async def chat(self, content: Any = "hello", **more: Any) -> httpx.Response:
        body = {"model": "m", "messages": [{"role": "user", "content": content}], **more}
        return await self.client.post("/v1/chat/completions", json=body)

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(entry) for _, entry, _ in self.record.rows()]


@asynccontextmanager
async def gateway(
    folder: Path,
    answer: Callable[[dict[str, Any]], httpx.Response],
    *,
    policy: Policy | None = None,
    detector: Detector | None = None,
    detoxifiers: Sequence[Detoxifier] = (),
    keys: ClientKeys | None = None,
    reader: Callable[[Any], str] | None = None,
    seconds: float = 5.0,
) -> AsyncIterator[Gateway]:
    fake = Fake(answer)
    policy = policy or Policy()
    upstream = Upstream(httpx.AsyncClient(transport=fake, base_url="http://upstream/v1"))
    worker = AsyncGuard(GuardPipeline(detector or Words(), detoxifiers, policy), seconds=seconds)
    record = AuditRecord(str(folder / "record.db"))
    service = GatewayState(upstream, worker, keys or ClientKeys(None, {}, policy), record, reader)
    transport = httpx.ASGITransport(app=create(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield Gateway(client, service, fake, record)
    await service.close()


def outcomes(served: Gateway) -> dict[str, str]:
    """The outcome of each part of the last request, by its path."""
    return {receipt["path"]: receipt["outcome"] for receipt in served.entries()[-1]["receipts"]}
