"""The upstream: any OpenAI-compatible server, asked over one pool of connections."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

import httpx

from equipoise.errors import UsageError
from equipoise.guard.gateway.dialects import passed_back
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.json_depth import is_too_deep
from equipoise.guard.gateway.received_bytes import ReceivedBytes
from equipoise.guard.gateway.reply_json import reply_json, strict_reply_json
from equipoise.guard.gateway.upstream_errors import ReportedError, is_error, reported_error

LARGEST: Final = 64_000_000
"""Bytes of a reply that is not streamed."""
_REPLIED: Final = (200, 201, 203)
"""Statuses of a reply: some frameworks answer every POST with 201, and proxies that change something with 203."""
AZURE: Final = (".azure.com", ".azure-api.net")
"""Hosts whose servers take a key by the name `api-key`."""
_DECODINGS: Final = 4
"""Times that a name may be percent-encoded."""
PASSED_ON: Final = ("openai-organization", "openai-project", "x-request-id", "traceparent")
"""Headers of a client that the upstream sees."""


@dataclass(frozen=True)
class Upstream:
    """Where replies come from."""

    client: httpx.AsyncClient
    """With the base address; `connect` makes one."""
    key: str | None = None
    """The gateway's own key for it; None passes the client's on where the gateway has no keys of its own."""

    def headers(self, client: Mapping[str, str], *, pass_on: bool) -> dict[str, str]:
        """Headers of a request to it."""
        passed_on = {name: client[name] for name in PASSED_ON if name in client}
        if self.key is not None:
            passed_on["authorization"] = f"Bearer {self.key}"
            if str(self.client.base_url.host).endswith(AZURE):
                passed_on["api-key"] = self.key
        elif pass_on:
            passed_on |= {name: client[name] for name in ("authorization", "api-key") if name in client}
            given = client.get("api-key") or client.get("x-api-key")
            if given and "authorization" not in client:
                passed_on["authorization"] = f"Bearer {given}"
        return passed_on | {"content-type": "application/json"}

    async def send(
        self, body: bytes, headers: Mapping[str, str], *, stream: bool, path: str = "chat/completions"
    ) -> httpx.Response:
        """Its response to a request, whose body is not read yet if it streams.

        Args:
            body: JSON.
            headers: of the request.
            stream: whether a stream was asked for.
            path: of the route, a chat's or that of another API.

        Raises:
            Problem: no response, or one that is an error.
        """
        request = self.client.build_request("POST", path, content=body, headers=_encoded(headers))
        return await self._send(request, stream=stream)

    async def models(self, headers: Mapping[str, str]) -> httpx.Response:
        """Its list of models.

        Raises:
            Problem: no response, or one that is an error.
        """
        return await self._send(self.client.build_request("GET", "models", headers=_encoded(headers)), stream=False)

    async def model(self, name: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """The description of one model; of a server that describes none by its name, from its list.

        Raises:
            RequestProblem: no such model, no response, or one that is an error.
        """
        unknown = RequestProblem(
            404, f"expected the name of a model, got {name[:200]}", "model_not_found", param="model"
        )
        if not stays_below(name):
            raise unknown
        request = self.client.build_request("GET", f"models/{quote(name, safe='/:')}", headers=_encoded(headers))
        try:
            return parsed(await self._send(request, stream=False))
        except RequestProblem as problem:
            if problem.status not in (404, 405):
                raise
            models = listed(await self.models(headers)).get("data")
        for model in models if isinstance(models, list) else []:
            if isinstance(model, dict) and model.get("id") == name:
                return model
        raise unknown

    async def _send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        try:
            response = await self.client.send(request, stream=True)
            # Errors are read whole even where a stream was asked for: their body is one JSON document, and it decides
            # status and message of our own error. Some servers send it with status 200.
            is_json = "json" in response.headers.get("content-type", "").lower()
            if response.status_code not in _REPLIED or not stream or is_json:
                response = await _whole(response)
        except httpx.TimeoutException as error:
            raise RequestProblem(504, "the upstream did not answer in time", "upstream_timeout") from error
        except httpx.HTTPError as error:
            raise RequestProblem(
                502, "the upstream could not be reached, or broke off", "upstream_unreachable"
            ) from error
        if response.status_code not in _REPLIED:
            raise _refused(response)
        return response


def stays_below(name: str) -> bool:
    r"""Whether a name, as the end of a path, leads nowhere but below that path, on whichever server reads it.

    Servers and proxies decode a path once more, read `\` as `/`, or cut a segment at `;`: with any of that no segment
    may be `.`, `..` or empty.

    Args:
        name: the end of a path, decoded.
    """
    for _ in range(_DECODINGS):
        segments = name.replace("\\", "/").split("/")
        if not name.isprintable() or any(segment.partition(";")[0].strip() in ("", ".", "..") for segment in segments):
            return False
        decoded = unquote(name)
        if decoded == name:
            return True
        name = decoded
    return False


def _encoded(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    """Headers as they came: their values are bytes, which servers read as Latin-1."""
    return {name.encode("latin-1"): value.encode("latin-1", errors="replace") for name, value in headers.items()}


async def _whole(response: httpx.Response) -> httpx.Response:
    """A response that is read to its end.

    Raises:
        RequestProblem: it has none.
    """
    parts, size = [], 0
    try:
        async with aclosing(ReceivedBytes(response)) as received:
            async for part in received:
                parts.append(part)
                size += len(part)
                if size > LARGEST:
                    raise RequestProblem(502, "the upstream sent too long a reply", "upstream_invalid")
    finally:
        await response.aclose()
    headers = {"content-type": response.headers.get("content-type", "application/json")}
    headers |= passed_back(response.headers)
    return httpx.Response(response.status_code, headers=headers, content=b"".join(parts))


def connect(url: str, *, seconds: float = 120.0, key: str | None = None) -> Upstream:
    """An upstream by its address.

    Args:
        url: such as `http://localhost:8000/v1`.
        seconds: of silence until it counts as hanging.
        key: for it.

    Raises:
        UsageError: no http address.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"expected the upstream's address, got {url}; try http://localhost:8000/v1") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"expected the upstream's address, got {url}; try http://localhost:8000/v1")
    # Idle connections are left sooner than servers close them (uvicorn, and so vLLM: after 5 seconds): a request that
    # meets a connection as it closes is lost.
    limits = httpx.Limits(max_connections=512, max_keepalive_connections=128, keepalive_expiry=3.0)
    timeout = httpx.Timeout(seconds, connect=min(10.0, seconds))
    # Azure's addresses end in `?api-version=...`, which belongs behind the path of each request.
    base, params = parsed.copy_with(query=None, fragment=None), parsed.params
    # `trust_env=False`: a proxy in the environment would see every prompt and reply without anybody having configured
    # it.
    client = httpx.AsyncClient(base_url=base, params=params, timeout=timeout, limits=limits, trust_env=False)
    return Upstream(client, key)


def parsed(response: httpx.Response) -> dict[str, Any]:
    """A reply's JSON.

    Raises:
        RequestProblem: it is none.
    """
    try:
        document = strict_reply_json(response.content)
    except (ValueError, RecursionError) as error:
        raise RequestProblem(
            502, "the upstream sent no JSON, or a name twice in one object", "upstream_invalid"
        ) from error
    if not isinstance(document, dict) or is_too_deep(document):
        raise RequestProblem(502, "the upstream sent something that is no chat completion", "upstream_invalid")
    if is_error(document) and (reported := reported_error(document)) is not None:
        # OpenRouter and some gateways report errors with status 200.
        raise problem_of(reported, reported.status or 502, passed_back(response.headers))
    return document


def listed(response: httpx.Response) -> dict[str, Any]:
    """A list of models, in OpenAI's form where a server sends the list alone (Together).

    Raises:
        RequestProblem: it is none.
    """
    try:
        document = reply_json(response.content)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, list) and not is_too_deep(document):
        return {"object": "list", "data": document}
    return parsed(response)


def _refused(response: httpx.Response) -> RequestProblem:
    """An error of the upstream, in our form, with its status, code, type, message and headers."""
    status = response.status_code
    if 300 <= status < 400 or status < 200:
        return RequestProblem(502, "the upstream answered with a redirect", "upstream_invalid")
    try:
        reported = reported_error(reply_json(response.content))
    except (ValueError, RecursionError):
        is_text = response.headers.get("content-type", "").startswith("text/plain")
        reported = reported_error(response.text) if is_text else None
    headers = passed_back(response.headers)
    if reported is None:
        reported = ReportedError(f"the upstream answered with status {status}")
    return problem_of(reported, status if 400 <= status < 600 else 502, headers)


def problem_of(reported: ReportedError, status: int, headers: Mapping[str, str]) -> RequestProblem:
    """The error that a client gets for one that the upstream reported."""
    code = "upstream_error" if reported.code is None else reported.code
    # What the server says in its headers counts before what the body says.
    problem = RequestProblem(
        status, reported.message, code, {**reported.headers, **headers}, reported.param, reported.type
    )
    problem.reported = reported.words
    return problem
