"""Who may ask, by which policy, and how often."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from equipoise.guard.gateway.keys import ClientKey, ClientKeys
from equipoise.guard.policy import Policy, Rail
from tests.guard.gateway.upstreams import gateway, says

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def keyed(**more: Any) -> ClientKeys:
    key = ClientKey(sha256=hashlib.sha256(b"secret").hexdigest(), **more)
    return ClientKeys({"team": key}, {"team": Policy(name="team", output=Rail(action="refuse"))}, Policy())


async def test_keys_let_in_their_owners_with_their_own_policy(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("a bomb"), keys=keyed()) as found:
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret-"}):
            refused = await found.client.post("/v1/chat/completions", json={}, headers=header)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        found.client.headers["authorization"] = "Bearer secret"
        assert "policy team" in (await found.chat()).text
        assert found.entries()[-1]["key"] == "team"
        assert "authorization" not in found.fake.heard[-1]


async def test_without_keys_the_clients_own_goes_on(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("hi")) as found:
        found.client.headers["authorization"] = "Bearer theirs"
        await found.chat()
        assert found.fake.heard[-1]["authorization"] == "Bearer theirs"


async def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("hi"), keys=keyed(requests_per_minute=2)) as found:
        found.client.headers["authorization"] = "Bearer secret"
        statuses = [(await found.chat()).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert int((await found.chat()).headers["retry-after"]) > 0
