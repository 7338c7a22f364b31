"""`NativeCall`: a request in an API that the upstream speaks itself, beside the chat request that is judged for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import httpx

from equipoise.guard.gateway.blobs import LONG
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.native.checked_pictures import with_checked_pictures
from equipoise.guard.gateway.native.text_walk import texts_in
from equipoise.guard.gateway.native.whole_reply import message_events, response_events, response_of
from equipoise.guard.gateway.reply_forms import has_events
from equipoise.guard.gateway.streaming.events import FINISHED, UpstreamError, chunks, event
from equipoise.guard.gateway.upstream import Upstream, parsed, problem_of

ANTHROPIC: Final = (".anthropic.com",)
"""Hosts whose servers take a key by the name `x-api-key` alone."""
VERSION: Final = "2023-06-01"
"""Anthropic's version of the API where a client names none."""


class ReplyReader(Protocol):
    """Reads one reply of another API."""

    def completion(self, document: dict[str, Any]) -> dict[str, Any]:
        """A whole reply as the completion of a chat that carries it.

        Raises:
            RequestProblem: it is none, or it failed.
        """
        ...

    def chunk(self, document: dict[str, Any]) -> dict[str, Any]:
        """An event as the chunk of a chat that carries it.

        Raises:
            UpstreamError: it is none, or it is an error.
        """
        ...


def _stream(content: bytes) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=content)


@dataclass(frozen=True)
class NativeCall:
    """One request."""

    path: str
    """Of the upstream's route, such as `responses`."""
    body: Mapping[str, Any]
    """As the client sent it."""
    reader: ReplyReader
    """Reads the reply."""

    def sent(self, pictures: Mapping[str, str]) -> dict[str, Any]:
        """The request as the upstream gets it.

        Args:
            pictures: the checked ones by the addresses of those that the client sent.
        """
        # The chat's field: the gateway itself answers it.
        body = {name: value for name, value in self.body.items() if name != "moderation"}
        sent = with_checked_pictures(body, pictures) if pictures else body
        assert isinstance(sent, dict)
        return sent

    def headers(self, headers: Mapping[str, str], client: Mapping[str, str], upstream: Upstream) -> dict[str, str]:
        """The headers of the request.

        Args:
            headers: of a chat request to this upstream.
            client: of the client's request.
            upstream: that they are for.
        """
        if self.path != "messages":
            return dict(headers)
        own = dict(headers)
        key = own.get("authorization", "").removeprefix("Bearer ")
        # What a client itself calls a bearer's token stays one.
        if key and (upstream.key is not None or "authorization" not in client):
            own["x-api-key"] = key
            if str(upstream.client.base_url.host).endswith(ANTHROPIC):
                del own["authorization"]
        own["anthropic-version"] = client.get("anthropic-version", VERSION)
        return own | ({"anthropic-beta": client["anthropic-beta"]} if "anthropic-beta" in client else {})

    async def whole(self, response: httpx.Response) -> dict[str, Any]:
        """The document of a reply that was read to its end; of a response also where it came as events.

        Raises:
            RequestProblem: it is none, or it is an error.
        """
        if self.path != "responses" or not has_events(response.content):
            return parsed(response)
        try:
            async with aclosing(chunks(_stream(response.content))) as documents:
                return response_of([document async for document in documents if document])
        except UpstreamError as error:
            if error.reported is not None:
                raise problem_of(error.reported, error.reported.status or 502, {}) from error
            raise RequestProblem(502, str(error), "upstream_invalid") from error

    def as_stream(self, response: httpx.Response) -> httpx.Response:
        """A reply that was read to its end as an event stream.

        Raises:
            RequestProblem: it is none, or it is an error.
        """
        if has_events(response.content):
            return _stream(response.content)
        document = parsed(response)
        events = response_events(document) if self.path == "responses" else message_events(document)
        return _stream(b"".join(map(event, events)))

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[dict[str, Any] | None, None]:
        """The chunks of a stream that carry its events; `FINISHED` and None as for a chat.

        Raises:
            UpstreamError: an error, no event of this API, or a connection that broke.
        """
        async with aclosing(chunks(response)) as documents:
            async for document in documents:
                if document is None or document is FINISHED:
                    yield document
                    continue
                try:
                    # Results of searches have megabytes of encrypted bytes, whose reading would hold up all streams.
                    is_long = sum(map(len, texts_in(document, free=True))) > LONG
                    reading = partial(self.reader.chunk, document)
                    chunk = await asyncio.to_thread(reading) if is_long else reading()
                except (TypeError, AttributeError, KeyError, ValueError, RecursionError) as error:
                    raise UpstreamError("the upstream sent an event that has no form of this API") from error
                yield chunk
