"""Texts and pictures judged without a chat, in OpenAI's shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from equipoise.guard.async_guard import AsyncGuard
from equipoise.guard.decision import HarmScore
from equipoise.guard.gateway.gateway_state import RequestLog
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import GuardPipeline
from equipoise.guard.policy import PicturePolicy, Policy, Rail
from equipoise.guard.taxonomy import OPENAI_CATEGORIES
from tests.guard.fakes import Raises, Words
from tests.guard.gateway.picture import drawn
from tests.guard.gateway.upstreams import delta, gateway, outcomes, pieces, says

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_moderations_in_openais_shape(tmp_path: Path) -> None:
    async with gateway(tmp_path, says(""), reader=lambda image: "a bomb", detector=Words(kind="weapons")) as served:
        picture = {"type": "image_url", "image_url": {"url": drawn()}}
        parts = [{"type": "text", "text": "look"}, picture]
        both = (parts, [True])
        for entry, flags in (("a bomb", [True]), (["a", "a bomb"], [False, True]), both, ([picture], [True])):
            body = (await served.client.post("/v1/moderations", json={"input": entry})).json()
            assert [result["flagged"] for result in body["results"]] == flags
        result = body["results"][0]
        assert set(result) == {"flagged", "categories", "category_scores", "category_applied_input_types"}
        assert (
            result["categories"].keys()
            == result["category_scores"].keys()
            == result["category_applied_input_types"].keys()
        )
        assert result["category_applied_input_types"]["harm"] == ["image"]


async def test_a_moderation_that_fails_says_so(tmp_path: Path) -> None:
    async with gateway(tmp_path, says(""), detector=Raises()) as served:
        response = await served.client.post("/v1/moderations", json={"input": "x"})
        assert (response.status_code, response.json()["error"]["code"]) == (503, "check_failed")
        assert outcomes(served) == {"input/0": "unsupported"}
        assert served.entries()[-1]["status"] == 503


async def test_a_moderation_of_too_many_inputs_is_refused_in_words(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("")) as served:
        for entry in (["a"] * 10_001, [{"type": "text", "text": "a"}] * 10_001):
            response = await served.client.post("/v1/moderations", json={"input": entry})
            assert response.status_code == 400
            assert response.json()["error"]["message"] == "expected at most 10000 inputs"


async def test_a_long_entry_has_all_inputs_also_where_the_client_left(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("")) as served:
        body = {"input": ["a"] * 300}
        assert len((await served.client.post("/v1/moderations", json=body)).json()["results"]) == 300
        client = served.service.keys.client(None)
        log, receipts = RequestLog(client, "/v1/moderations"), Receipts()
        receipts.expect((f"input/{at}", "text") for at in range(300))
        writing = asyncio.create_task(served.service.write(log, receipts))
        await asyncio.sleep(0)
        writing.cancel()
        await served.service.close()
        assert [len(entry["receipts"]) for entry in served.entries()] == [300, 300]


class Looks:
    """A guard of pictures: red ones do harm."""

    name = identity = "looks"

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        return [HarmScore("looks", 0.9 if item.images[0].getpixel((0, 0))[0] > 100 else 0.1) for item in evidence]


PICTURE = {"type": "image_url", "image_url": {"url": drawn()}}
QUIET = Policy(pictures=PicturePolicy(read_text=False))


async def test_a_guard_of_pictures_judges_those_of_moderations(tmp_path: Path) -> None:
    async with gateway(tmp_path, says(""), reader=lambda image: "") as served:
        served.service.picture_guard = AsyncGuard(GuardPipeline(Looks()))
        body = (await served.client.post("/v1/moderations", json={"input": [PICTURE]})).json()
        assert body["results"][0]["flagged"]
        assert body["results"][0]["category_scores"]["harm"] == 0.9
        assert outcomes(served) == {"input/0": "checked"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("action", ["refuse", "flag"])
async def test_a_guard_of_pictures_judges_those_of_chats(tmp_path: Path, stream: bool, action: Any) -> None:
    policy = Policy(pictures=PicturePolicy(read_text=False, action=action), output=Rail(enabled=False))
    async with gateway(tmp_path, says("fine"), policy=policy) as served:
        served.service.picture_guard = AsyncGuard(GuardPipeline(Looks()))
        response = await served.chat([{"type": "text", "text": "look"}, PICTURE], stream=stream)
        assert len(served.fake.requests) == (action == "flag")
        assert ("policy default" in response.text) == (action == "refuse")
        assert outcomes(served)["messages/0/content/1"] == "checked"
        assert served.entries()[-1]["decisions"][0]["action"] == action


@pytest.mark.parametrize("fail", ["open", "closed"])
async def test_a_guard_of_pictures_that_fails_takes_their_fail_mode(tmp_path: Path, fail: Any) -> None:
    policy = Policy(pictures=PicturePolicy(read_text=False, fail=fail), output=Rail(enabled=False))
    async with gateway(tmp_path, says("fine"), policy=policy) as served:
        served.service.picture_guard = AsyncGuard(GuardPipeline(Raises()))
        await served.chat([PICTURE])
        assert len(served.fake.requests) == (fail == "open")
        assert outcomes(served)["messages/0/content/0"] == "unsupported"


async def test_litellm_s_pictures_are_judged(tmp_path: Path) -> None:
    async with gateway(tmp_path, says(""), policy=QUIET) as served:
        served.service.picture_guard = AsyncGuard(GuardPipeline(Looks()))
        for kind, action in (("request", "BLOCKED"), ("response", "BLOCKED")):
            body = {"input_type": kind, "texts": ["look"], "images": [drawn()]}
            body = (await served.client.post("/beta/litellm_basic_guardrail_api", json=body)).json()
            assert body["action"] == action


ASKED = {"model": "omni-moderation-latest"}


@pytest.mark.parametrize("rail", [True, False])
@pytest.mark.parametrize("words", ["a bird", "a bomb"])
async def test_chats_tell_their_scores_to_those_who_ask(tmp_path: Path, words: str, rail: bool) -> None:
    policy = Policy(output=Rail(enabled=rail))
    async with gateway(tmp_path, says(words), policy=policy, detector=Words(kind="weapons")) as served:
        assert "moderation" not in (await served.chat("hello")).json()
        completion = ChatCompletion.model_validate(
            (await served.chat("hello", moderation=ASKED)).json(), strict=True
        ).moderation
        assert completion is not None
        assert "moderation" not in served.fake.requests[-1]
        assert completion.input.type == completion.output.type == "moderation_results"
        assert [result.flagged for result in completion.input.results] == [False]
        assert [result.flagged for result in completion.output.results] == [words == "a bomb"]
        assert completion.output.results[0].category_scores["harm"] == (0.9 if words == "a bomb" else 0.02)


async def test_streams_tell_their_scores_before_their_end(tmp_path: Path) -> None:
    parts = [delta(letter) for letter in "a bomb"] + [delta(None, finish="stop"), b"data: [DONE]\n\n"]
    async with gateway(tmp_path, lambda body: pieces(*parts)) as served:
        response = await served.chat("hello", stream=True, moderation=ASKED)
        lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]"
        chunk = ChatCompletionChunk.model_validate(json.loads(lines[-2]), strict=True)
        assert chunk.choices == []
        assert chunk.moderation is not None
        assert chunk.moderation.output.type == "moderation_results"
        assert chunk.moderation.output.results[0].flagged


async def test_scores_of_a_request_are_those_of_its_pictures_too(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("fine"), policy=QUIET) as served:
        served.service.picture_guard = AsyncGuard(GuardPipeline(Looks()))
        moderation = (await served.chat([{"type": "text", "text": "look"}, PICTURE], moderation=ASKED)).json()[
            "moderation"
        ]
        (result,) = moderation["input"]["results"]
        assert result["flagged"]
        assert result["category_scores"]["harm"] == 0.9
        assert result["category_applied_input_types"]["harm"] == ["text", "image"]


async def test_refused_requests_and_failed_checks_tell_so(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("fine"), policy=Policy(input=Rail(action="refuse"))) as served:
        moderation = (await served.chat("a bomb", moderation=ASKED)).json()["moderation"]
        assert moderation["input"]["results"][0]["flagged"]
        assert moderation["output"]["results"] == []
        assert (await served.chat("x", moderation="yes")).status_code == 400
    (tmp_path / "2").mkdir()
    async with gateway(
        tmp_path / "2", says("fine"), detector=Raises(), policy=Policy(output=Rail(fail="open"))
    ) as served:
        moderation = (await served.chat("x", moderation=ASKED)).json()["moderation"]
        assert moderation["input"]["type"] == moderation["output"]["type"] == "error"


async def test_typed_clients_get_openais_categories_whether_or_not_kinds_are_told(tmp_path: Path) -> None:
    for detector in (Words(kind="violent crimes"), Words()):
        async with gateway(tmp_path, says(""), detector=detector) as served:
            body = {"input": ["a bomb", "bread"]}
            harmful, harmless = (await served.client.post("/v1/moderations", json=body)).json()["results"]
        tells = detector.kind is not None
        for result in (harmful, harmless):
            assert set(OPENAI_CATEGORIES) <= set(result["categories"])
            assert all(type(value) is bool for value in result["categories"].values())
            assert all(isinstance(result["category_scores"][name], float) for name in OPENAI_CATEGORIES)
        assert harmful["categories"]["violence"] is tells
        assert harmful["category_scores"]["illicit/violent"] == (0.9 if tells else 0.0)
        # A category that nobody judged says so.
        assert harmful["category_applied_input_types"]["violence"] == (["text"] if tells else [])
        assert harmful["category_applied_input_types"]["sexual"] == []
        assert not any(harmless["categories"].values())
