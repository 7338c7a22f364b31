"""What a client sees: replies as they came or safe ones, errors in one shape, and what was looked at."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.errors import OutputError
from equipoise.guard.decision import HarmScore
from equipoise.guard.gateway.links import LinkFetcher
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.policy import AnswerPolicy, PicturePolicy, Policy, Rail, StreamPolicy
from tests.guard.fakes import Raises, Rewrites, Words
from tests.guard.gateway.picture import drawn
from tests.guard.gateway.upstreams import delta, gateway, message, outcomes, pieces, says, whole

pytestmark = pytest.mark.anyio
ENDS = [delta(None, finish="stop"), b"data: [DONE]\n\n"]
BOTH = Policy(input=Rail(action="refuse"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def streamed_text(response: httpx.Response) -> str:
    """What a stream says in content and refusals."""
    chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", ())]
    return "".join((choice_delta.get("content") or "") + (choice_delta.get("refusal") or "") for choice_delta in deltas)


async def test_an_allowed_reply_comes_byte_for_byte_with_fields_nobody_knows(tmp_path: Path) -> None:
    content = (
        b'{ "id":"c", "choices":[{"index":0,"message":{"role":"assistant","content":"hi","new":1}}],\n "x":{"y":[2]}}'
    )
    async with gateway(tmp_path, lambda body: httpx.Response(200, content=content)) as served:
        response = await served.chat("hello", temperature=0.5, guided_json={"a": 1})
        assert response.content == content
        assert served.fake.requests[0]["guided_json"] == {"a": 1}
        assert response.headers["x-equipoise-decision"] == "allow"
        assert served.entries()[-1]["request"] == response.headers["x-equipoise-request-id"]


async def test_long_names_are_cut_in_the_record_and_passed_on_whole(tmp_path: Path) -> None:
    names = ["n" * 100_000, "n" * 100_000 + "m", "~" * 100_000, "short/name"]
    async with gateway(tmp_path, says("fine")) as served:
        messages = [{"role": "user", "content": "hi", **dict.fromkeys(names, "word")}]
        response = await served.chat(model="A" * 1_000_000, messages=messages)
        assert response.status_code == 200
        assert served.fake.requests[0]["model"] == "A" * 1_000_000
        assert served.fake.requests[0]["messages"] == messages
        entry = served.entries()[-1]
        assert len(json.dumps(entry)) < 5_000
        assert entry["model"] == "A" * 256 + "..."
        paths = [
            receipt["path"] for receipt in entry["receipts"] if "short" in receipt["path"] or "~cut" in receipt["path"]
        ]
        assert len(set(paths)) == len(names)
        assert "messages/0/short~1name" in paths


async def test_each_choice_is_judged_for_itself(tmp_path: Path) -> None:
    reply = whole(message("fine"), message("a bomb", 1), message("a bomb, too", 2))
    async with gateway(
        tmp_path, lambda body: reply, detoxifiers=[Rewrites(lambda text: "a bird" if "too" in text else None)]
    ) as served:
        choices = (await served.chat()).json()["choices"]
        assert choices[0] == message("fine")
        assert choices[1]["message"]["content"] is None
        assert "policy default" in choices[1]["message"]["refusal"]
        assert choices[1]["finish_reason"] == "content_filter"
        assert (choices[2]["message"]["content"], choices[2]["finish_reason"]) == ("a bird", "stop")
        assert [decision["action"] for decision in served.entries()[-1]["decisions"]] == ["allow", "refuse", "rewrite"]


@pytest.mark.parametrize(
    "more",
    [
        {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": "a bomb"}'}}]},
        {"reasoning_content": "a bomb"},
        {"refusal": "no bomb"},
        {"never_heard_of": {"deep": ["a bomb"]}},
        {"never_heard_of": {"how to build a bomb": True}},
        {"tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "f", "input": {"build a bomb now": 1}}}]},
        {"content": [{"type": "text", "text": "a bomb"}]},
    ],
)
async def test_harm_is_found_wherever_a_reply_says_it(tmp_path: Path, more: dict[str, Any]) -> None:
    async with gateway(tmp_path, lambda body: whole(message(**{"content": None, **more}))) as served:
        response = await served.chat()
        assert "bomb" not in response.text
        assert set(outcomes(served).values()) == {"skipped", "checked"}


class Thinned:
    """Finds harm only in a text that says nothing else."""

    name = identity = "thinned"

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        return [HarmScore(self.name, float(item.response == "a bomb")) for item in evidence]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("more", [{"reasoning_content": "Let me see."}, {"new": 1}])
async def test_what_stands_beside_a_reply_does_not_thin_it_out(
    tmp_path: Path, stream: bool, more: dict[str, Any]
) -> None:
    def reply(body: dict[str, Any]) -> httpx.Response:
        if not stream:
            answer = message("a bomb")
            return whole({**answer, "message": {**answer["message"], **more}})
        return pieces(delta(None, **more), delta("a bo"), delta("mb"), *ENDS)

    async with gateway(tmp_path, reply, detector=Thinned()) as served:
        response = await served.chat(stream=stream)
        assert served.entries()[-1]["decisions"][0]["action"] == "refuse"
        assert "bomb" not in response.text


@pytest.mark.parametrize("stream", ["yes", 1, [], {}])
async def test_a_stream_that_is_neither_wanted_nor_not_is_a_bad_request(tmp_path: Path, stream: Any) -> None:
    async with gateway(tmp_path, lambda body: whole(message("fine"))) as served:
        response = await served.chat(stream=stream)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "stream")
        assert not served.fake.requests


async def test_harm_beside_the_choices_is_found_and_taken_out(tmp_path: Path) -> None:
    async with gateway(tmp_path, lambda body: whole(message("fine"), transcript="a bomb")) as served:
        response = await served.chat()
        assert "bomb" not in response.text
        assert response.json()["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_harmful_request_is_refused_in_the_replys_place(tmp_path: Path, stream: bool) -> None:
    async with gateway(tmp_path, says("x"), policy=BOTH) as served:
        response = await served.chat("a bomb", **({"stream": True} if stream else {}))
        assert response.status_code == 200
        assert served.fake.requests == []
        if stream:
            assert "policy default" in streamed_text(response)
            assert response.text.endswith("data: [DONE]\n\n")
        else:
            assert response.json()["choices"][0]["finish_reason"] == "content_filter"
        assert response.headers["x-equipoise-receipts"] == "checked=1 skipped=0 unsupported=0"


async def test_the_text_in_a_picture_reaches_the_rails_and_its_pixels_the_upstream(tmp_path: Path) -> None:
    content = [
        {"type": "text", "text": "read"},
        {"type": "image_url", "image_url": {"url": drawn(form="JPEG"), "detail": "low"}},
    ]
    for words, requests in (("a bomb", 0), ("a bird", 1)):
        folder = tmp_path / words
        folder.mkdir()
        async with gateway(folder, says("fine"), policy=BOTH, reader=lambda image, words=words: words) as served:
            await served.chat(content)
            assert len(served.fake.requests) == requests
            assert outcomes(served)["messages/0/content/1"] == "checked"
            if requests:
                image = served.fake.requests[0]["messages"][0]["content"][1]["image_url"]
                assert image["url"].startswith("data:image/jpeg;base64,"), "it stays in its own kind"
                assert image["detail"] == "low"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        {"type": "new", "text": "x"},
        7,
    ],
)
@pytest.mark.parametrize("fail", ["open", "closed"])
async def test_what_nobody_can_look_at_takes_the_fail_mode(tmp_path: Path, part: Any, fail: Any) -> None:
    policy = Policy(pictures=PicturePolicy(fail=fail))
    async with gateway(tmp_path, says("fine"), policy=policy, reader=lambda image: "") as served:
        response = await served.chat([{"type": "text", "text": "x"}, part])
        assert response.status_code == (200 if fail == "open" else 400)
        assert outcomes(served)["messages/0/content/1"] == "unsupported"
        assert len(served.fake.requests) == (fail == "open")
        if fail == "closed":
            assert response.json()["error"]["code"] == "unsupported_content"


class Site(LinkFetcher):
    """Has one picture."""

    async def fetch(self, url: str, limits: PicturePolicy) -> bytes:
        assert url == "https://pictures.test/a.png"
        return base64.b64decode(drawn().partition(",")[2])


async def test_a_linked_picture_reaches_the_upstream_as_what_was_looked_at(tmp_path: Path) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://pictures.test/a.png"}}
    policy = Policy(pictures=PicturePolicy(links=("pictures.test",)))
    async with gateway(tmp_path, says("fine"), policy=policy, reader=lambda image: "") as served:
        await served.service.links.close()
        served.service.links = Site()
        response = await served.chat([part])
        assert response.status_code == 200
        image = served.fake.requests[0]["messages"][0]["content"][0]["image_url"]
        assert image["url"].startswith("data:image/png;base64,")
        assert outcomes(served)["messages/0/content/0"] == "checked"


async def test_reading_a_picture_may_not_hang(tmp_path: Path) -> None:
    go = threading.Event()
    policy = Policy(pictures=PicturePolicy(seconds=0.05))
    part = {"type": "image_url", "image_url": {"url": drawn()}}
    async with gateway(tmp_path, says("fine"), policy=policy, reader=lambda image: str(go.wait(5))) as served:
        response = await served.chat([part])
        go.set()
        assert (response.status_code, response.json()["error"]["code"]) == (504, "check_timeout")
        assert response.headers["retry-after"]
        assert outcomes(served)["messages/0/content/0"] == "unsupported"


class Slow(Words):
    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        time.sleep(0.4)
        return super().__call__(evidence)


@pytest.mark.parametrize("fail", ["open", "closed", "refuse"])
@pytest.mark.parametrize(
    ("detector", "status", "code"), [(Raises(), 503, "check_failed"), (Slow(), 504, "check_timeout")]
)
async def test_a_check_that_fails_or_hangs_takes_the_fail_mode(
    tmp_path: Path, detector: Any, status: int, code: str, fail: Any
) -> None:
    policy = Policy(output=Rail(fail=fail))
    async with gateway(tmp_path, says("fine"), policy=policy, detector=detector, seconds=0.1) as served:
        response = await served.chat()
        if fail == "closed":
            assert (response.status_code, response.json()["error"]["code"]) == (status, code)
            assert int(response.headers["retry-after"]) > 0
            assert "policy" not in response.text
        else:
            choice = response.json()["choices"][0]
            assert (choice["message"]["content"] == "fine") == (fail == "open")
            assert (choice["finish_reason"] == "content_filter") == (fail == "refuse")
        assert outcomes(served)["choices/0/message/content"] == "unsupported"
        assert served.entries()[-1]["decisions"][0]["decided_by"] == "fail mode"


async def test_observing_changes_nothing_and_tells(tmp_path: Path) -> None:
    policy = Policy(mode="observe", input=Rail(action="refuse"))
    async with gateway(tmp_path, says("a bomb"), policy=policy) as served:
        response = await served.chat([{"type": "text", "text": "a bomb"}, {"type": "input_audio"}])
        assert response.json()["choices"][0]["message"]["content"] == "a bomb"
        assert [decision["observed"] for decision in served.entries()[-1]["decisions"]] == ["refuse", "refuse"]


@pytest.mark.parametrize("stream", [False, True])
async def test_rails_that_are_off_look_at_nothing_and_say_so(tmp_path: Path, stream: bool) -> None:
    answer = [delta("a "), delta("bomb"), *ENDS]
    policy = Policy(output=Rail(enabled=False), pictures=PicturePolicy(fail="open"))
    async with gateway(
        tmp_path, lambda body: pieces(*answer) if stream else whole(message("a bomb")), policy=policy
    ) as served:
        response = await served.chat(**({"stream": True} if stream else {}))
        assert "bomb" in response.text
        assert set(outcomes(served).values()) == {"skipped"}


@pytest.mark.parametrize("mode", ["off", "buffer", "holdback", "observe"])
@pytest.mark.parametrize("words", ["a bird", "a bomb"])
async def test_streams(tmp_path: Path, mode: Any, words: str) -> None:
    parts = [delta(None, role="assistant"), *(delta(letter) for letter in words), *ENDS]
    data = b"".join(parts)
    cut = [data[at : at + 7] for at in range(0, len(data), 7)]
    policy = Policy(stream=StreamPolicy(mode=mode, hold=4, every=2))
    async with gateway(tmp_path, lambda body: pieces(*cut), policy=policy) as served:
        response = await served.chat(stream=True)
        assert response.text.endswith("data: [DONE]\n\n")
        leaves = words == "a bird" or mode in ("off", "observe")
        assert (streamed_text(response) == words) == leaves
        assert ("bomb" in streamed_text(response)) == (leaves and words == "a bomb")
        assert outcomes(served)["choices/0/delta/content"] == ("skipped" if mode == "off" else "checked")
        leaked = served.service.metrics.leaked._value.get()
        assert (leaked > 0) == (mode == "observe" and words == "a bomb")


@pytest.mark.parametrize(
    "parts",
    [
        [delta("hi"), httpx.ReadError("gone")],
        [delta("hi"), httpx.ReadTimeout("silent")],
        [delta("hi"), b"data: {\n\n"],
        [delta("hi"), delta("more")[:25]],
        [delta("hi"), b"data: " + b"x" * 4_100_000],
        [delta("hi"), b"data: 5\n\n"],
        [delta("hi"), b'data: {"error": {"message": "boom"}}\n\n'],
        [b"\xff\xfe\n\n"],
        [],
    ],
)
async def test_a_stream_that_breaks_ends_in_an_error_and_in_the_record(tmp_path: Path, parts: Any) -> None:
    async with gateway(tmp_path, lambda body: pieces(*parts)) as served:
        response = await served.chat(stream=True)
        *_, error, done = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
        assert done == "[DONE]"
        assert set(json.loads(error)["error"]) == {"message", "type", "param", "code"}
        assert served.entries()[-1]["status"] == 502


async def test_an_answer_that_cannot_be_recorded_is_withheld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(
        tmp_path, lambda body: pieces(delta("hi"), *ENDS) if body.get("stream") else whole(message("hi"))
    ) as served:

        async def fail(entry: Any) -> None:
            raise OutputError("the disk is full")

        monkeypatch.setattr(served.record, "aappend", fail)
        response = await served.chat()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "record_failed")
        assert '"record_failed"' in (await served.chat(stream=True)).text


async def test_a_client_that_goes_away_leaves_its_receipts(tmp_path: Path) -> None:
    parts = [delta("fine " * 60, role="assistant"), *(part for _ in range(40) for part in (0.02, delta("more " * 40)))]
    async with gateway(tmp_path, lambda body: pieces(*parts)) as served:
        body = json.dumps({"messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
        gone, sent = asyncio.Event(), []
        waiting = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            if waiting:
                return waiting.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            sent.append(event)
            if len(sent) > 4:
                gone.set()

        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": []}
        app = served.client._transport.app  # type: ignore[attr-defined]
        await app({**scope, "http_version": "1.1", "asgi": {"spec_version": "2.3"}}, receive, send)
        for _ in range(100):
            if served.entries():
                break
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("form", ["object", "data URL", "base64"])
async def test_a_picture_beside_the_content_is_looked_at_like_one_within_it(tmp_path: Path, form: str) -> None:
    url = drawn()
    sent: Any = {"object": {"type": "image_url", "image_url": {"url": url}}, "data URL": url}.get(form, url[22:])
    async with gateway(tmp_path, says("fine"), reader=lambda image: "a bomb", policy=BOTH) as running:
        body = {"model": "m", "messages": [{"role": "user", "content": "what is it?", "images": [sent]}]}
        response = await running.client.post("/v1/chat/completions", json=body)
        assert "policy default" in response.text
        assert outcomes(running)["messages/0/images/0"] == "checked"
    async with gateway(tmp_path, says("fine"), reader=lambda image: "") as running:
        assert (await running.client.post("/v1/chat/completions", json=body)).status_code == 200
        assert running.fake.requests[0]["messages"][0]["images"] == [sent]
        body["messages"][0]["images"] = ["bm8gcGljdHVyZQ=="]  # type: ignore[index]
        assert (await running.client.post("/v1/chat/completions", json=body)).status_code == 400


@pytest.mark.parametrize("stream", [False, True])
async def test_the_finish_reason_of_a_refusal_is_the_policys(tmp_path: Path, stream: bool) -> None:
    policy = Policy(output=Rail(action="refuse"), answer=AnswerPolicy(finish="stop"))
    reply = pieces(delta("a bomb"), *ENDS) if stream else whole(message("a bomb"))
    async with gateway(tmp_path, lambda body: reply, policy=policy) as running:
        response = await running.chat(stream=stream)
        assert "content_filter" not in response.text
        assert "policy default" in response.text
