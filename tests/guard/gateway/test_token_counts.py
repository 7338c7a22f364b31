"""Words among the token counts of a reply are judged like any others."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from equipoise.guard.policy import Policy, Rail
from tests.guard.gateway.dialect_shapes import chunk, reply, wire
from tests.guard.gateway.upstreams import gateway, pieces

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("harm", ["a bomb", "fine"])
@pytest.mark.parametrize("name", ["usage", "timings", "kv_transfer_params"])
async def test_words_in_counts_are_judged(tmp_path: Path, stream: bool, harm: str, name: str) -> None:
    counts = {"total_tokens": 3, "service_tier": "default", "note": f"how to make {harm}"}
    whole = reply("fine", **{name: counts})
    parts = wire([chunk({"content": "fine"}), chunk({}, "stop"), {"id": "a", "choices": [], name: counts}])
    policy = Policy(output=Rail(action="refuse"))
    answer = pieces(*parts) if stream else httpx.Response(200, json=whole)
    async with gateway(tmp_path, lambda _: answer, policy=policy) as served:
        text = (await served.chat(stream=stream, stream_options={"include_usage": True})).text
        assert ("how to make" in text) == (harm == "fine")
        assert ("policy default" in text) == (harm != "fine")
