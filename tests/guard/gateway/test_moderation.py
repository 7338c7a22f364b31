"""Texts and pictures judged without a chat, in OpenAI's shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.gateway.picture import drawn
from guard.gateway.upstreams import gateway, outcomes, says
from guard.toys import Raises, Words

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_moderations_in_openais_shape(tmp_path: Path) -> None:
    async with gateway(tmp_path, says(""), reader=lambda image: "a bomb", detector=Words(kind="weapons")) as found:
        picture = {"type": "image_url", "image_url": {"url": drawn()}}
        parts = [{"type": "text", "text": "look"}, picture]
        both = (parts, [True])
        for asked, flags in (("a bomb", [True]), (["a", "a bomb"], [False, True]), both, ([picture], [True])):
            body = (await found.client.post("/v1/moderations", json={"input": asked})).json()
            assert [each["flagged"] for each in body["results"]] == flags
        told = body["results"][0]
        assert set(told) == {"flagged", "categories", "category_scores", "category_applied_input_types"}
        assert (
            told["categories"].keys() == told["category_scores"].keys() == told["category_applied_input_types"].keys()
        )
        assert told["category_applied_input_types"]["harm"] == ["image"]


async def test_a_moderation_that_fails_says_so(tmp_path: Path) -> None:
    async with gateway(tmp_path, says(""), detector=Raises()) as found:
        response = await found.client.post("/v1/moderations", json={"input": "x"})
        assert (response.status_code, response.json()["error"]["code"]) == (503, "check_failed")
        assert outcomes(found) == {"input/0": "unsupported"}
        assert found.entries()[-1]["status"] == 503
