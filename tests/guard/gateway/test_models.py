"""The upstream's models, also of servers that send the list alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

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
