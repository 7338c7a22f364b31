"""The document is true: whatever it allows, and much that it forbids, is answered as it says."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from starlette.applications import Starlette

from equipoise.guard.async_guard import AsyncGuard
from equipoise.guard.gateway.app import create
from equipoise.guard.gateway.content_parts import parse_request
from equipoise.guard.gateway.gateway_state import GatewayState
from equipoise.guard.gateway.keys import ClientKeys
from equipoise.guard.gateway.openapi import document
from equipoise.guard.gateway.upstream import Upstream
from equipoise.guard.pipeline import GuardPipeline
from equipoise.guard.policy import PicturePolicy, Policy, Rail
from equipoise.guard.record.store import AuditRecord
from tests.guard.fakes import Words
from tests.guard.gateway.upstreams import Fake, delta, message, pieces, whole

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
OPERATIONS = [(path, method.upper()) for path, methods in document()["paths"].items() for method in methods]


def lasting(app: Starlette) -> Any:
    """The application without its end: a client of schemathesis ends it after each call."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for name in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{name}.complete"})

    return called


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Any, AuditRecord]]:
    policy = Policy(input=Rail(action="refuse"), pictures=PicturePolicy(fail="open", max_count=10_000))

    def answer(body: dict[str, Any]) -> httpx.Response:
        if body.get("stream") is True:
            return pieces(delta("fine"), delta(None, finish="stop"), b"data: [DONE]\n\n")
        return whole(message("fine"))

    with tempfile.TemporaryDirectory() as folder, AuditRecord(str(Path(folder) / "record.db")) as record:
        upstream = Upstream(httpx.AsyncClient(transport=Fake(answer), base_url="http://upstream/v1"))
        worker = AsyncGuard(GuardPipeline(Words(), (), policy))
        service = GatewayState(upstream, worker, ClientKeys(None, {}, policy), record, lambda image: "words")
        yield lasting(create(service)), record
        worker.close()


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_does_what_the_document_says(served: tuple[Any, AuditRecord], path: str, method: str) -> None:
    app, record = served
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_asgi("/openapi.json", app)

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy())
    def check(case: Any) -> None:
        before = record.head().number
        response = case.call()
        # Not every text is a picture: that one is refused is in the document, but in no schema.
        unless = [positive_data_acceptance] if path == "/v1/moderations" else []
        case.validate_response(response, excluded_checks=unless)
        assert response.status_code < 500
        if path != "/v1/chat/completions" or not isinstance(case.body, dict):
            return
        try:
            surfaces = parse_request(case.body).parts
        except ValueError:
            return
        *_, (number, entry, _) = record.rows(before + 1)
        assert number == before + 1
        assert {item.path for item in surfaces} <= {item["path"] for item in json.loads(entry)["receipts"]}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check()
