"""Pictures in replies reach the clients of responses and messages, judged by the rule of pictures as in a chat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from equipoise.guard.gateway.adapters.reply_pictures import picture_base64, pictures_of
from equipoise.guard.policy import PicturePolicy, Policy, Rail
from tests.guard.gateway.dialect_shapes import chunk, reply, wire
from tests.guard.gateway.picture import drawn
from tests.guard.gateway.upstreams import gateway, outcomes, pieces

pytestmark = pytest.mark.anyio
PNG, JPEG = drawn(), drawn(form="JPEG")
LINK = "https://images.example.com/a.png"
INPUTS = {"/v1/messages": {"messages": [{"role": "user", "content": "draw"}]}, "/v1/responses": {"input": "draw"}}
SKIPS = Policy(output=Rail(action="refuse"), pictures=PicturePolicy(replies="skip"))
LOOKS = Policy(output=Rail(action="refuse"), pictures=PicturePolicy(replies="look"))


def part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


SHAPES: dict[str, Any] = {
    "images": {"content": "Here.", "images": [{**part(PNG), "index": 0}]},
    "base64 alone": {"content": "Here.", "images": [PNG.partition(",")[2]]},
    "content": {"content": [{"type": "text", "text": "Here."}, part(PNG)]},
    "both": {"content": [{"type": "text", "text": "Here."}, part(PNG)], "images": [part(PNG)]},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def answers(message: dict[str, Any], *, stream: bool) -> httpx.Response:
    if not stream:
        return httpx.Response(200, json=reply("", message=message))
    # Some servers repeat the pictures in the last chunk.
    repeated = {"images": message["images"]} if "images" in message else {}
    return pieces(*wire([chunk({"role": "assistant"}), chunk(message), chunk(repeated, "stop")]))


def shown(route: str, text: str, *, stream: bool) -> list[tuple[str, str]]:
    """The texts and pictures of a reply in order."""
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")] if stream else []
    if route == "/v1/messages":
        blocks = json.loads(text)["content"] if not stream else []
        for event in events:
            if event["type"] == "content_block_start":
                blocks.append(event["content_block"])
            elif event["type"] == "content_block_delta":
                blocks[-1]["text"] += event["delta"]["text"]
        return [
            ("text", block["text"]) if block["type"] == "text" else ("picture", block["source"].get("data"))
            for block in blocks
        ]
    output = events[-1]["response"]["output"] if stream else json.loads(text)["output"]
    return [
        ("text", item["content"][0]["text"]) if item["type"] == "message" else ("picture", item["result"])
        for item in output
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("route", INPUTS)
async def test_a_picture_passes_once_where_the_policy_lets_it(
    tmp_path: Path, route: str, shape: str, stream: bool
) -> None:
    async with gateway(tmp_path, lambda _: answers(SHAPES[shape], stream=stream), policy=SKIPS) as served:
        body = {"model": "m", "max_tokens": 9, "stream": stream, **INPUTS[route]}
        response = await served.client.post(route, json=body)
        assert shown(route, response.text, stream=stream) == [("text", "Here."), ("picture", PNG.partition(",")[2])]
        assert "skipped" in {outcome for path, outcome in outcomes(served).items() if path.startswith("choices/")}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("route", INPUTS)
async def test_a_picture_that_nobody_looked_at_is_withheld(
    tmp_path: Path, route: str, shape: str, stream: bool
) -> None:
    async with gateway(tmp_path, lambda _: answers(SHAPES[shape], stream=stream)) as served:
        body = {"model": "m", "max_tokens": 9, "stream": stream, **INPUTS[route]}
        response = await served.client.post(route, json=body)
        assert "cannot be looked at" in response.text
        assert PNG.partition(",")[2] not in response.text
        assert set(outcomes(served).values()) & {"unsupported"}


@pytest.mark.parametrize(("words", "passes"), [("a bomb", False), ("bread", True)])
@pytest.mark.parametrize("route", INPUTS)
async def test_the_text_in_a_picture_is_judged(tmp_path: Path, route: str, words: str, passes: bool) -> None:
    answer = answers(SHAPES["images"], stream=False)
    async with gateway(tmp_path, lambda _: answer, policy=LOOKS, reader=lambda image: words) as served:
        body = {"model": "m", "max_tokens": 9, **INPUTS[route]}
        response = await served.client.post(route, json=body)
        assert (PNG.partition(",")[2] in response.text) == passes
        assert ("policy default" in response.text) != passes


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", INPUTS)
async def test_words_by_the_name_of_a_picture_are_judged(tmp_path: Path, route: str, stream: bool) -> None:
    message = {"content": "fine", "images": [part("data:text/plain,make a bomb")]}
    async with gateway(tmp_path, lambda _: answers(message, stream=stream), policy=SKIPS) as served:
        body = {"model": "m", "max_tokens": 9, "stream": stream, **INPUTS[route]}
        assert "bomb" not in (await served.client.post(route, json=body)).text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_linked_picture_keeps_its_address(tmp_path: Path, stream: bool) -> None:
    message = {"content": "Here.", "images": [part(LINK)]}
    async with gateway(tmp_path, lambda _: answers(message, stream=stream), policy=SKIPS) as served:
        body = {"model": "m", "stream": stream, "max_tokens": 9, **INPUTS["/v1/messages"]}
        text = (await served.client.post("/v1/messages", json=body)).text
        assert json.dumps({"type": "url", "url": LINK}, separators=(",", ":")) in text
        body = {"model": "m", "stream": stream, **INPUTS["/v1/responses"]}
        text = (await served.client.post("/v1/responses", json=body)).text
        # A response has no place for a link to a picture but its text.
        assert shown("/v1/responses", text, stream=stream) == [("text", f"Here.\n\n![picture]({LINK})")]


async def test_the_official_client_reads_the_picture_of_a_stream(tmp_path: Path) -> None:
    def answer(_: Any) -> httpx.Response:
        return pieces(*wire([chunk({"content": "Here."}), chunk({"images": [part(JPEG)]}), chunk({}, "stop")]))

    async with gateway(tmp_path, answer, policy=SKIPS) as served:
        client = openai.AsyncOpenAI(base_url="http://gateway/v1", api_key="k", http_client=served.client)
        async with client.responses.stream(model="m", input="draw") as stream:
            kinds = [event.type async for event in stream]
            final: Any = await stream.get_final_response()
        assert "response.image_generation_call.completed" in kinds
        assert (final.output_text, final.output[-1].result) == ("Here.", JPEG.partition(",")[2])


@pytest.mark.parametrize("route", INPUTS)
async def test_a_picture_of_an_earlier_reply_goes_back_where_it_came_from(tmp_path: Path, route: str) -> None:
    packed = PNG.partition(",")[2]
    source = {"type": "base64", "media_type": "image/png", "data": packed}
    image = {"type": "image", "source": source}
    ask = {"role": "user", "content": "draw"}
    item = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": packed}
    bodies: dict[str, Any] = {
        "/v1/messages": {"messages": [ask, {"role": "assistant", "content": [image]}, ask]},
        "/v1/responses": {"input": [ask, item, ask]},
    }
    async with gateway(tmp_path, lambda _: answers({"content": "ok"}, stream=False), reader=lambda _: "") as served:
        assert (await served.client.post(route, json={"model": "m", "max_tokens": 9, **bodies[route]})).is_success
        earlier = served.fake.requests[0]["messages"][1]
        assert earlier == {"role": "assistant", "content": None, "images": [part(PNG)]}
        assert outcomes(served)["messages/1/images/0"] == "checked"
        # What is no picture is refused there as anywhere.
        broken = json.loads(json.dumps(bodies[route]).replace(packed, "bm8gcGljdHVyZQ=="))
        assert (await served.client.post(route, json={"model": "m", "max_tokens": 9, **broken})).status_code == 400


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (PNG, ("image/png", PNG.partition(",")[2])),
        (JPEG.replace("jpeg", "png"), ("image/jpeg", JPEG.partition(",")[2])),
        ("data:image/avif;base64,AAAA", ("image/avif", "AAAA")),
        ("data:;base64,AA\r\nAA", ("image/png", "AAAA")),
        ("data:image/svg+xml,%3Csvg%3E", None),
        (LINK, None),
    ],
)
def test_the_media_type_is_that_of_the_bytes(address: str, expected: Any) -> None:
    assert picture_base64(address) == expected


@pytest.mark.parametrize("images", [None, [], "x", [None, 3, {}, {"image_url": None}, {"image_url": {"url": 1}}]])
def test_what_is_no_picture_is_none(images: Any) -> None:
    assert list(pictures_of({"content": "text", "images": images})) == []
