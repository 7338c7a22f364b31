"""The upstream's models, also of servers that send the list alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.gateway.upstream import stays_below
from tests.guard.gateway.upstreams import gateway, says

pytestmark = pytest.mark.anyio
MODEL = {"id": "org/m", "object": "model"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("body", [[MODEL], {"object": "list", "data": [MODEL]}])
async def test_the_list_has_openais_form(tmp_path: Path, body: Any) -> None:
    async with gateway(tmp_path, says("fine")) as served:
        served.fake.models = httpx.Response(200, json=body)
        assert (await served.client.get("/v1/models")).json() == {"object": "list", "data": [MODEL]}


@pytest.mark.parametrize("body", ["<html>", "7", "[" * 50_000])
async def test_what_is_no_list_is_an_error(tmp_path: Path, body: str) -> None:
    async with gateway(tmp_path, says("fine")) as served:
        served.fake.models = httpx.Response(200, text=body)
        assert (await served.client.get("/v1/models")).status_code == 502


@pytest.mark.parametrize(
    "name",
    [
        *("%2e%2e/files", "..%2ffiles", "../files", "m/%2e%2e/%2e%2e/files", ".%2e/files", "%2E/m", "%252e%252e/files"),
        *("%25252e%25252e/files", "..%5cfiles", "..%255cfiles", "..;a=b/files", "%2e%2e", "%20..%20/files", "m%00"),
        *("a%0d%0ab", "m%2f..%2f..%2ffiles"),
    ],
)
async def test_a_name_that_leaves_the_path_of_models_is_no_model(tmp_path: Path, name: str) -> None:
    async with gateway(tmp_path, says("fine")) as served:
        # As bytes: a client's library would put the path in order itself.
        url = httpx.URL("http://gateway", raw_path=f"/v1/models/{name}".encode())
        response = await served.client.get(url)
        assert response.status_code == 404, response.text
        assert not served.fake.heard, "the upstream was asked"


@pytest.mark.parametrize("name", ["org/m", "m:7b", "ft:gpt-4o:org::x", "a b", "m...", "..m", "50%", "modèle", "a%2fb"])
def test_names_of_models_stay_below(name: str) -> None:
    assert stays_below(name)


async def test_the_upstream_is_asked_for_a_name_with_a_slash(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("fine")) as served:
        served.fake.models = httpx.Response(200, json=MODEL)
        assert (await served.client.get("/v1/models/org%2Fm")).json() == MODEL
        assert len(served.fake.heard) == 1
