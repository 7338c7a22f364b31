"""Files and sound in requests: plain text is read and judged on every route, the rest takes the policy's choice."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.gateway.file_parts import plain_text
from equipoise.guard.policy import PicturePolicy, Policy, Rail, RequestPolicy
from tests.guard.gateway.upstreams import Gateway, gateway, outcomes, says

pytestmark = pytest.mark.anyio
JUDGES = Policy(input=Rail(enabled=True, action="refuse"))
SKIPS = Policy(requests=RequestPolicy(files="skip"))
PDF = base64.b64encode(b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n").decode()
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZF", "format": "wav"}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def packed(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def parts(data: str, name: str = "notes.txt", media: str = "text/plain") -> dict[str, tuple[str, dict[str, Any]]]:
    """A file on each route."""
    url = f"data:{media};base64,{data}"
    return {
        "chat": ("/v1/chat/completions", {"type": "file", "file": {"filename": name, "file_data": url}}),
        "chat, bare": ("/v1/chat/completions", {"type": "file", "file": {"filename": name, "file_data": data}}),
        "responses": ("/v1/responses", {"type": "input_file", "filename": name, "file_data": url}),
        "messages": (
            "/v1/messages",
            {"type": "document", "title": name, "source": {"type": "base64", "media_type": media, "data": data}},
        ),
    }


async def ask(served: Gateway, route: str, *content: dict[str, Any]) -> httpx.Response:
    turns = [{"role": "user", "content": list(content)}]
    body: dict[str, Any] = {"input": turns} if route == "/v1/responses" else {"messages": turns, "max_tokens": 9}
    return await served.client.post(route, json={"model": "m", **body})


@pytest.mark.parametrize("where", parts(""))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
async def test_plain_text_is_judged_whatever_it_calls_itself(tmp_path: Path, where: str, encoding: str) -> None:
    data = packed("Notes:\nhow to make a bomb, écrit".encode(encoding))
    for name, media in (("notes.txt", "text/plain"), ("notes.pdf", "application/pdf"), ("x", "image/png")):
        route, part = parts(data, name, media)[where]
        async with gateway(tmp_path, says("fine"), policy=JUDGES) as served:
            reply = await ask(served, route, part)
            assert "policy default" in reply.text
            assert not served.fake.requests


@pytest.mark.parametrize("where", parts(""))
async def test_plain_text_reaches_the_upstream(tmp_path: Path, where: str) -> None:
    route, part = parts(packed("Bake at 220 degrees."))[where]
    async with gateway(tmp_path, says("fine"), policy=JUDGES) as served:
        assert (await ask(served, route, part)).status_code == 200
        (content,) = [turn["content"] for turn in served.fake.requests[0]["messages"]]
        if route == "/v1/chat/completions":
            assert content == [part]
        else:
            assert content == "notes.txt\nBake at 220 degrees."
        assert set(outcomes(served).values()) == {"checked"}


@pytest.mark.parametrize("where", parts(""))
async def test_a_pdf_takes_the_policys_choice(tmp_path: Path, where: str) -> None:
    route, part = parts(PDF, "a.pdf", "application/pdf")[where]
    async with gateway(tmp_path, says("fine")) as served:
        reply = await ask(served, route, part)
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "unsupported_content"
        assert not served.fake.requests
    async with gateway(tmp_path, says("fine"), policy=SKIPS) as served:
        assert (await ask(served, route, part)).status_code == 200
        (content,) = [turn["content"] for turn in served.fake.requests[0]["messages"]]
        assert content[0]["type"] == "file"
        assert PDF in content[0]["file"]["file_data"]
        assert content[0]["file"]["filename"] == "a.pdf"
        receipts = served.entries()[-1]["receipts"]
        assert (receipts[0]["kind"], receipts[0]["outcome"]) == ("file", "skipped")


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/responses"])
async def test_sound_takes_the_policys_choice(tmp_path: Path, route: str) -> None:
    async with gateway(tmp_path, says("fine")) as served:
        assert (await ask(served, route, SOUND)).status_code == 400
    async with gateway(tmp_path, says("fine"), policy=SKIPS) as served:
        assert (await ask(served, route, SOUND)).status_code == 200
        assert served.fake.requests[0]["messages"][0]["content"] == [SOUND]
    opened = Policy(pictures=PicturePolicy(fail="open"))
    async with gateway(tmp_path, says("fine"), policy=opened) as served:
        assert (await ask(served, route, SOUND)).status_code == 200
        assert "unsupported" in outcomes(served).values()


async def test_the_name_of_a_file_that_nobody_reads_is_judged(tmp_path: Path) -> None:
    policy = JUDGES.model_copy(update={"requests": RequestPolicy(files="skip")})
    for route, part in parts(PDF, "how to make a bomb.pdf", "application/pdf").values():
        async with gateway(tmp_path, says("fine"), policy=policy) as served:
            assert "policy default" in (await ask(served, route, part)).text


async def test_words_in_any_field_of_a_file_are_judged(tmp_path: Path) -> None:
    for data in (PDF, packed("harmless")):
        route, part = parts(data)["chat"]
        policy = JUDGES.model_copy(update={"requests": RequestPolicy(files="skip")})
        for odd in ({**part, "note": ["a bomb"]}, {"type": "file", "file": {**part["file"], "note": {"x": "a bomb"}}}):
            async with gateway(tmp_path, says("fine"), policy=policy) as served:
                assert "policy default" in (await ask(served, route, odd)).text


async def test_unknown_parts_are_no_files(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("fine"), policy=SKIPS) as served:
        reply = await ask(served, "/v1/chat/completions", {"type": "hologram", "hologram": "x"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported_content")


@pytest.mark.parametrize(
    "data",
    [
        *(PDF, packed(b"some text\n" + b"%PDF-1.4"), packed(b"PK\x03\x04"), packed(b"\xff\xd8\xff"), packed(b"a\x00b")),
        *("no base64!", "", "QQ", packed("text") + "=", "data:text/plain,hello"),
    ],
)
def test_other_bytes_are_no_plain_text(data: str) -> None:
    assert plain_text(data) is None


@pytest.mark.parametrize("elsewhere", [{"file_id": "file_1"}, {"file_url": "https://example.com/a.txt"}])
async def test_text_beside_another_source_is_not_what_the_upstream_reads(
    tmp_path: Path, elsewhere: dict[str, Any]
) -> None:
    for route, part in parts(packed("harmless")).values():
        if "source" in part:
            continue
        inner = part.get("file", part)
        inner |= elsewhere
        async with gateway(tmp_path, says("fine")) as served:
            assert (await ask(served, route, part)).status_code == 400


@pytest.mark.parametrize("kind", ["file", "input_audio", "document", "video_url"])
async def test_a_file_in_a_reply_is_not_passed_unread(tmp_path: Path, kind: str) -> None:
    content = [{"type": kind, kind: {"data": PDF}}]
    async with gateway(tmp_path, says(content), policy=SKIPS) as served:  # type: ignore[arg-type]
        reply = await served.chat()
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "unsupported_content")
