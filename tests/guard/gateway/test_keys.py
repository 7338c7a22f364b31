"""Who may ask, by which policy, and how often."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from equipoise.errors import UsageError
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
    async with gateway(tmp_path, says("a bomb"), keys=keyed()) as served:
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret-"}):
            refused = await served.client.post("/v1/chat/completions", json={}, headers=header)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        served.client.headers["authorization"] = "Bearer secret"
        assert "policy team" in (await served.chat()).text
        assert served.entries()[-1]["key"] == "team"
        assert "authorization" not in served.fake.heard[-1]


@pytest.mark.parametrize("name", ["authorization", "x-request-id", "openai-organization", "traceparent"])
async def test_headers_of_other_letters_are_passed_on_as_they_came(tmp_path: Path, name: str) -> None:
    async with gateway(tmp_path, says("fine")) as served:
        served.client.headers[name] = "k\xe9\xff"
        assert (await served.chat()).status_code == 200
        passed = [value for field, value in served.fake.heard[-1].raw if field.lower().decode() == name]
        assert passed == ["k\xe9\xff".encode()]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer secret"},
        {"authorization": "bearer secret"},
        {"authorization": "BEARER  secret "},
        {"authorization": "secret"},
        {"api-key": "secret"},
        {"x-api-key": "secret"},
    ],
)
async def test_a_key_is_taken_in_every_header_and_case_of_its_scheme(tmp_path: Path, headers: dict[str, str]) -> None:
    keys = keyed()
    async with gateway(tmp_path, says("hi"), keys=keys) as served:
        served.client.headers.update(headers)
        assert (await served.chat()).status_code == 200
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        assert served.service.client_of({"headers": raw, "client": ("10.0.0.1", 1)}) == "key team"


@pytest.mark.parametrize("header", ["Basic secret", "Bearersecret", "bearer", "bearer bearer secret", ""])
def test_another_scheme_is_nobodys_key(header: str) -> None:
    assert keyed().name(header) is None


async def test_without_keys_the_clients_own_goes_on(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("hi")) as served:
        served.client.headers["authorization"] = "Bearer theirs"
        await served.chat()
        assert served.fake.heard[-1]["authorization"] == "Bearer theirs"


async def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("hi"), keys=keyed(requests_per_minute=2)) as served:
        served.client.headers["authorization"] = "Bearer secret"
        statuses = [(await served.chat()).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert int((await served.chat()).headers["retry-after"]) > 0


@pytest.mark.parametrize("text", ["", "\n", "# [keys.team]\n", "\ufeff"])
def test_a_file_without_keys_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"expected a file of keys, got .*keys: it is missing; try .*guard key NAME"):
        ClientKeys.load(file, Policy())


async def test_a_file_whose_table_of_keys_is_empty_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text("[keys]\n")
    async with gateway(tmp_path, says("hi"), keys=ClientKeys.load(file, Policy())) as served:
        for headers in ({}, {"authorization": "Bearer anything"}):
            served.client.headers.update(headers)
            assert (await served.chat()).status_code == 401
            assert (await served.client.get("/v1/models")).status_code == 401
        assert not served.fake.heard


async def test_without_a_file_everybody_is_let_in(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("hi"), keys=ClientKeys.load(None, Policy())) as served:
        assert (await served.chat()).status_code == 200


async def test_each_prompt_of_several_counts_as_a_request(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("hi"), keys=keyed(requests_per_minute=5)) as served:
        served.client.headers["authorization"] = "Bearer secret"
        statuses = []
        for prompts in (["a"] * 3, ["a"] * 3, "a", "a", "a"):
            body = {"model": "m", "prompt": prompts}
            statuses.append((await served.client.post("/v1/completions", json=body)).status_code)
        # The second counts as one request, and is refused for the other two.
        assert statuses == [200, 429, 200, 429, 429]
        assert len(served.fake.requests) == 4
