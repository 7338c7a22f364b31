"""Counts of tokens come from the upstream, and what it does not count is an error, not zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.guard.gateway.upstreams import gateway, message, whole

pytestmark = pytest.mark.anyio
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "hi"}], "system": "be nice"},
    "/v1/responses/input_tokens": {"input": "hi", "instructions": "be nice", "max_output_tokens": 9},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("route", ROUTES)
async def test_the_upstream_counts_a_reply_of_one_token(tmp_path: Path, route: str) -> None:
    async with gateway(tmp_path, lambda body: whole(message("a"), usage={"prompt_tokens": 17})) as served:
        response = await served.client.post(route, json={"model": "m", **ROUTES[route]})
        assert response.json()["input_tokens"] == 17
        sent = served.fake.requests[0]
        assert (sent["max_tokens"], sent["messages"][0]["content"]) == (1, "be nice")
        assert not sent.get("stream")
        assert "max_completion_tokens" not in sent
        assert served.entries()[-1]["route"] == route


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0}, {"prompt_tokens": True}])
@pytest.mark.parametrize("route", ROUTES)
async def test_no_count_is_an_error(tmp_path: Path, route: str, usage: dict[str, Any] | None) -> None:
    async with gateway(tmp_path, lambda body: whole(message("a"), usage=usage)) as served:
        response = await served.client.post(route, json={"model": "m", **ROUTES[route]})
        assert response.status_code == 502
        assert "input_tokens" not in response.json()
