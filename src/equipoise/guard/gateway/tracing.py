"""OpenTelemetry spans: one for each request, one for each check; off unless an exporter's endpoint is set.

Attributes follow OpenTelemetry's conventions for HTTP and generative AI. No words of a request or a reply are in them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from equipoise.errors import MissingExtraError
from equipoise.guard.decision import GuardDecision

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Either turns tracing on; OpenTelemetry's other variables are its own."""


class Tracing:
    """Spans of one gateway.

    Args:
        provider: where they go; None makes none and costs nothing.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer: Any = provider.get_tracer("equipoise.gateway") if provider is not None else None

    @classmethod
    def from_environment(cls) -> Tracing:
        """Spans to where the environment says.

        Raises:
            MissingExtraError: it names an endpoint, and OpenTelemetry is not installed.
        """
        if not any(os.environ.get(name) for name in ENDPOINTS):
            return cls()
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise MissingExtraError("pip install 'equipoise[guard]'") from error
        name = os.environ.get("OTEL_SERVICE_NAME", "equipoise-gateway")
        provider = TracerProvider(resource=Resource.create({"service.name": name}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def begin(self, method: str, route: str, headers: Mapping[str, str]) -> Span | None:
        """A request's span, within the client's where it sent one; checks made in this context belong to it.

        Args:
            method: of HTTP.
            route: such as `/v1/chat/completions`.
            headers: of the request.
        """
        if self._tracer is None:
            return None
        from opentelemetry import context, trace
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # Into an empty context: the default would be the current one, which may hold the span of another request.
        within = TraceContextTextMapPropagator().extract(headers, Context())
        kind = trace.SpanKind.SERVER
        attributes = {"http.request.method": method, "http.route": route}
        if route.endswith("/chat/completions"):
            attributes["gen_ai.operation.name"] = "chat"
        span: Span = self._tracer.start_span(f"{method} {route}", within, kind, attributes)
        context.attach(trace.set_span_in_context(span))
        return span

    def model(self, name: str | None) -> None:
        """Say which model the current request asks for."""
        if self._tracer is not None and name is not None:
            from opentelemetry import trace

            trace.get_current_span().set_attribute("gen_ai.request.model", name.encode("utf-8", "replace").decode())

    @contextmanager
    def check(self, rail: str) -> Iterator[list[GuardDecision]]:
        """A check's span; the caller appends the decision to the list."""
        decisions: list[GuardDecision] = []
        if self._tracer is None:
            yield decisions
            return
        with self._tracer.start_as_current_span(f"guard {rail}") as span:
            yield decisions
            for decision in decisions:
                span.set_attribute("equipoise.rail", rail)
                span.set_attribute("equipoise.action", decision.observed or decision.action)
                span.set_attribute("equipoise.decided_by", decision.decided_by)
                span.set_attribute("equipoise.categories", list(decision.categories))
                span.set_attribute("equipoise.rounds", decision.rounds)
                if decision.harm is not None:
                    span.set_attribute("equipoise.harm", decision.harm)

    def answered(self, span: Span | None, status: int, headers: Mapping[str, str]) -> None:
        """Say how a request was answered."""
        if span is None:
            return
        span.set_attribute("http.response.status_code", status)
        for name in ("request-id", "decision", "receipts"):
            if f"x-equipoise-{name}" in headers:
                span.set_attribute(f"equipoise.{name.replace('-', '_')}", headers[f"x-equipoise-{name}"])
        if status >= 500:
            from opentelemetry.trace import StatusCode

            span.set_status(StatusCode.ERROR)

    def close(self) -> None:
        """Send what waits."""
        if self._provider is not None:
            self._provider.shutdown()


async def lasting(span: Span, parts: AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    """A stream whose span ends with it."""
    try:
        async for part in parts:
            yield part
    finally:
        span.end()
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()
