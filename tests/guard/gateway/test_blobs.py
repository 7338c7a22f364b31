"""Pictures and other bytes are not read as words, and no word gets past by calling itself base64."""

from __future__ import annotations

import base64
import io
import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from equipoise.guard.gateway.blobs import read
from equipoise.guard.policy import PicturePolicy, Policy, Rail, StreamPolicy
from tests.guard.fakes import Words
from tests.guard.gateway.picture import drawn
from tests.guard.gateway.upstreams import delta, gateway, message, outcomes, pieces, whole

pytestmark = pytest.mark.anyio
SAID = "Mix the Flour with warm Water and Yeast then Let it rest in a Bowl for one hour until the dough has doubled"
HIDDEN = SAID.split()
NOISE = random.Random(0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def noise(count: int) -> str:
    return base64.b64encode(NOISE.randbytes(count)).decode()


@pytest.mark.parametrize("head", ["", "data:image/png;base64,", "data:application/octet-stream;base64,", "key: "])
@pytest.mark.parametrize("size", [600, 300_000])
def test_bytes_are_taken_out_and_what_stands_beside_them_stays(head: str, size: int) -> None:
    result = read(f"Before. {head}{noise(size)} And after.")
    assert len(result.words) < 100 + size // 50
    assert result.words.startswith("Before.")
    assert result.words.endswith("And after.")
    assert [blob.kind for blob in result.blobs] == ["picture" if "image" in head else "opaque"]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("picture", [Image.new("RGB", (300, 200), "white"), Image.effect_noise((300, 200), 60)])
@pytest.mark.parametrize("head", ["", "data:image/x;base64,"])
def test_pictures_are_known_by_their_bytes(form: str, picture: Image.Image, head: str) -> None:
    file = io.BytesIO()
    picture.convert("RGB").save(file, form)
    text = head + base64.b64encode(file.getvalue()).decode()
    result = read(text)
    assert [blob.kind for blob in result.blobs] == ["picture"]
    assert len(result.words) < 100 + len(text) // 5


@pytest.mark.parametrize(
    "text",
    [
        "".join(HIDDEN).lower(),
        "".join(word.title() for word in HIDDEN),
        "-".join(HIDDEN),
        "/".join(HIDDEN),
        "".join(HIDDEN).upper(),
        "".join(HIDDEN).translate(str.maketrans("aeiost", "431057")),
    ],
)
@pytest.mark.parametrize("head", ["", "data:image/png;base64,", "data:text/plain;base64,"])
def test_words_that_are_only_called_base64_stay(head: str, text: str) -> None:
    assert text in read(head + text).words
    # Between bytes, too: its middle stays, whatever the windows are.
    assert text[10:-10] in read(f"{head}{noise(303)}{text}{noise(303)}").words
    # And behind the beginning of a true picture.
    plain = text.isalpha()
    if plain:
        assert text[10:-10] in read("data:image/png;base64," + drawn().partition(",")[2][:400] + text).words


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_texts_without_long_runs_are_read_as_they_stand(text: str) -> None:
    result = read(text)
    if "data:" not in text.lower() and not any(len(word) >= 60 for word in text.split()):
        assert result.words == text
    assert not result.blobs or any(len(word) >= 60 for word in text.split())


@pytest.mark.parametrize("head", ["data:text/plain;base64,", "data:image/png;base64,", "data:;base64,", ""])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_decodes_to_a_text_is_judged_as_that_text(head: str, times: int) -> None:
    spoken = " ".join(HIDDEN)
    text = spoken
    for _ in range(times):
        text = head + base64.b64encode(text.encode()).decode()
    assert spoken in read(f"x {text} y").words


def test_short_and_percent_encoded_data_urls_are_read_too() -> None:
    assert "a bomb" in read("data:text/plain;base64,YSBib21i").words
    assert "a bomb" in read("see data:text/html,%61%20bomb").words


def test_a_large_text_in_base64_costs_no_more_than_its_limit() -> None:
    text = base64.b64encode(("word " * 200_000).encode()).decode()
    begin = time.process_time()
    read(text)
    assert time.process_time() - begin < 10


PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + noise(200_000)}}
SHAPES: list[dict[str, Any]] = [
    {"content": "Here.", "images": [PNG]},
    {"content": [{"type": "text", "text": "Here."}, PNG]},
    {"content": "Here: ![](" + PNG["image_url"]["url"] + ")"},
    {"content": "Here.", "picture": {"b64_json": drawn().partition(",")[2]}},
    {"content": "Here.", "images": [drawn()]},
]


class Short(Words):
    """Reads no long texts: whoever shows it one has not taken the bytes out."""

    def __call__(self, evidence: Any) -> Any:
        assert all(len(item.response) < 5000 for item in evidence)
        return super().__call__(evidence)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("more", SHAPES)
@pytest.mark.parametrize("replies", ["fail", "skip"])
async def test_a_picture_in_a_reply_does_what_the_policy_says(
    tmp_path: Path, more: Any, replies: Any, stream: bool
) -> None:
    def answer(body: Any) -> httpx.Response:
        if not stream:
            return whole(message(**more))
        return pieces(delta(None, **more), delta(None, finish="stop"), b"data: [DONE]\n\n")

    policy = Policy(pictures=PicturePolicy(replies=replies))
    async with gateway(tmp_path, answer, policy=policy, detector=Short()) as served:
        response = await served.chat(stream=stream)
        entry = served.entries()[-1]
        pictures = [receipt for receipt in entry["receipts"] if "picture" in receipt["kind"]]
        if replies == "skip":
            assert response.status_code == 200
            assert "Here" in response.text
            assert {receipt["outcome"] for receipt in pictures} == {"skipped"}
        else:
            assert (response.status_code, response.json()["error"]["code"]) == (502, "unsupported_content")
            assert response.headers["x-should-retry"] == "false"
            assert {receipt["outcome"] for receipt in pictures} == {"unsupported"}
            assert entry["decisions"][-1]["action"] == "withhold"


async def test_harm_beside_a_picture_that_passes_is_found(tmp_path: Path) -> None:
    policy = Policy(pictures=PicturePolicy(replies="skip"))
    hidden = {"type": "image_url", "image_url": {"url": PNG["image_url"]["url"], "alt": "a bomb"}}
    for at, more in enumerate(
        (
            {"content": "a bomb", "images": [PNG]},
            {"content": "fine", "images": [hidden]},
            {"content": "fine", "images": [{"type": "image_url", "image_url": {"url": "data:text/plain,a bomb"}}]},
            {"content": "fine", "images": [{"image_url": {"url": "data:image/png;base64,YSBib21i"}}]},
        )
    ):
        (tmp_path / str(at)).mkdir()
        async with gateway(tmp_path / str(at), lambda body, more=more: whole(message(**more)), policy=policy) as served:
            choice = (await served.chat()).json()["choices"][0]
            assert choice["finish_reason"] == "content_filter", more


async def test_a_picture_in_a_reply_is_looked_at_where_the_policy_says_so(tmp_path: Path) -> None:
    policy = Policy(pictures=PicturePolicy(replies="look"))
    reply = {"content": "fine", "images": [{"type": "image_url", "image_url": {"url": drawn()}}]}
    for words, finish in (("a bomb", "content_filter"), ("a bird", "stop")):
        (tmp_path / words).mkdir()
        async with gateway(
            tmp_path / words,
            lambda body: whole(message(**reply)),
            policy=policy,
            reader=lambda image, words=words: words,
        ) as served:
            response = await served.chat()
            assert response.json()["choices"][0]["finish_reason"] == finish
            assert outcomes(served)["choices/0/message/images/0"] == "checked"


@pytest.mark.parametrize("opaque", ["skip", "fail"])
async def test_bytes_that_are_no_picture_do_what_the_policy_says(tmp_path: Path, opaque: Any) -> None:
    policy = Policy(output=Rail(opaque=opaque))
    reply = message("fine", reasoning_details=[{"encrypted": noise(30_000)}])
    async with gateway(tmp_path, lambda body: whole(reply), policy=policy, detector=Short()) as served:
        response = await served.chat()
        assert response.status_code == (200 if opaque == "skip" else 502)
        kind = "skipped" if opaque == "skip" else "unsupported"
        assert outcomes(served)["choices/0/message/reasoning_details~opaque"] == kind


async def test_moderations_do_not_read_bytes_and_do_not_call_them_harmless(tmp_path: Path) -> None:
    async with gateway(tmp_path, lambda body: whole(), detector=Short(), reader=lambda image: "a bomb") as served:
        ask = served.client.post
        response = await ask("/v1/moderations", json={"input": noise(292_500)})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "unsupported_content")
        response = await ask("/v1/moderations", json={"input": "a bomb " + "in many words " * 40 + noise(6000)})
        assert response.json()["results"][0]["flagged"]
        assert outcomes(served) == {"input/0": "checked", "input/0~opaque": "skipped"}
        response = await ask("/v1/moderations", json={"input": drawn()})
        assert response.json()["results"][0]["flagged"], "a data URL of a picture is a picture"


async def test_a_picture_in_many_pieces_is_not_read_many_times(tmp_path: Path) -> None:
    detector = Short()
    text = noise(60_000)
    parts = [delta(text[at : at + 40]) for at in range(0, len(text), 40)]
    policy = Policy(stream=StreamPolicy(hold=40, every=20))
    answer = [delta("Here: "), *parts, delta(" and that was it"), delta(None, finish="stop"), b"data: [DONE]\n\n"]
    async with gateway(tmp_path, lambda body: pieces(*answer), policy=policy, detector=detector) as served:
        response = await served.chat(stream=True)
        assert response.text.count("delta") == len(answer) - 1
        assert len(detector.texts) < 100
