"""Spans: one a request, one a check, within the client's, and no words in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from equipoise.guard.gateway.tracing import Tracing
from equipoise.guard.policy import Policy, Rail
from tests.guard.gateway.upstreams import delta, gateway, pieces, whole
from tests.guard.gateway.upstreams import message as reply

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not installed")
pytestmark = pytest.mark.anyio
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_and_its_checks(tmp_path: Path, stream: bool) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def answer(body: Any) -> Any:
        return pieces(delta("a bomb"), delta(None, finish="stop")) if stream else whole(reply("a bomb"))

    async with gateway(tmp_path, answer, policy=Policy(input=Rail(action="refuse"))) as served:
        served.service.tracing = Tracing(provider)
        served.client.headers["traceparent"] = PARENT
        await served.chat("secret words", **({"stream": True} if stream else {}))
        spans = {span.name: span for span in exporter.get_finished_spans()}
        assert set(spans) == {"guard input", "guard output", "POST /v1/chat/completions"}
        request = spans.pop("POST /v1/chat/completions")
        assert f"{request.context.trace_id:032x}" == PARENT.split("-")[1]
        assert request.attributes is not None
        assert request.attributes["gen_ai.request.model"] == "m"
        assert request.attributes["http.response.status_code"] == 200
        for span in spans.values():
            assert span.parent is not None
            assert span.parent.span_id == request.context.span_id
        assert spans["guard output"].attributes["equipoise.action"] == "refuse"  # type: ignore[index]
        spans = "".join(span.to_json() for span in exporter.get_finished_spans())
        assert "secret" not in spans
        assert "bomb" not in spans


def test_off_unless_an_endpoint_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert Tracing.from_environment().begin("GET", "/", {}) is None
