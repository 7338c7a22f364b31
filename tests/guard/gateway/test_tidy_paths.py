"""Slashes that a base URL leaves in a path neither redirect a request nor lose it, and open no other route."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.guard.policy import Policy, Rail
from tests.guard.gateway.upstreams import gateway, says

pytestmark = pytest.mark.anyio
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "//v1/chat/completions", "/v1//chat/completions//"])
async def test_the_request_is_answered_and_judged(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path, says("a bomb"), policy=Policy(output=Rail(action="refuse"))) as served:
        response = await served.client.post(f"http://gateway{path}", json=BODY)
        assert response.json()["choices"][0]["finish_reason"] == "content_filter"
        assert served.entries()[-1]["route"] == "/v1/chat/completions"


async def test_errors_keep_the_form_of_their_api(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("fine")) as served:
        assert (await served.client.post("/v1/messages/", json={})).json()["type"] == "error"
        assert (await served.client.get("/v1/models/")).json()["object"] == "list"
        assert (await served.client.get("/")).status_code == 404
        assert (await served.client.post("/v1/files/", json={})).status_code == 404
