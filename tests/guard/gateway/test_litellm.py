"""LiteLLM's generic guardrail API: what is harmful is blocked or rewritten, and nothing is passed over."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import pytest

from equipoise.guard.policy import Policy, Rail, parse
from tests.guard.fakes import Raises, Rewrites, Words
from tests.guard.gateway.picture import drawn
from tests.guard.gateway.upstreams import gateway, outcomes, says

pytestmark = pytest.mark.anyio
PATH = "/beta/litellm_basic_guardrail_api"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ask(folder: Path, body: dict[str, Any], **more: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    async with gateway(folder, says(""), **more) as served:
        response = await served.client.post(PATH, json={"request_data": {}, **body})
        assert response.status_code == 200, response.text
        assert served.fake.requests == []
        receipts = served.entries()[-1]["receipts"]
        return response.json(), receipts


@pytest.mark.parametrize(
    "body",
    [
        {"texts": ["hello", "a bomb"]},
        {"texts": ["hello"], "structured_messages": [{"role": "tool", "content": "a bomb", "tool_call_id": "1"}]},
        {"texts": [], "tool_calls": [{"function": {"name": "f", "arguments": '{"what": "a bomb"}'}}]},
        {"texts": ["read it"], "images": [drawn()]},
    ],
)
async def test_a_harmful_request_is_blocked(tmp_path: Path, body: dict[str, Any]) -> None:
    answer, receipts = await ask(tmp_path, {"input_type": "request", **body}, reader=lambda image: "a bomb")
    assert answer["action"] == "BLOCKED"
    assert "policy default" in answer["blocked_reason"]
    assert {receipt["outcome"] for receipt in receipts} == {"checked"}


async def test_a_harmless_request_passes(tmp_path: Path) -> None:
    body = {"input_type": "request", "texts": ["hello"], "tools": [{"type": "function"}]}
    answer, receipts = await ask(tmp_path, body)
    assert answer["action"] == "NONE"
    assert [(receipt["path"], receipt["outcome"]) for receipt in receipts] == [
        ("texts/0", "checked"),
        ("tools", "skipped"),
    ]


async def test_harmful_replies_are_rewritten_in_their_places(tmp_path: Path) -> None:
    body = {"input_type": "response", "texts": ["fine", "a bomb"]}
    answer, _ = await ask(tmp_path, body, detoxifiers=[Rewrites(lambda text: "a bird")])
    assert (answer["action"], answer["texts"]) == ("GUARDRAIL_INTERVENED", ["fine", "a bird"])


async def test_a_harmful_call_of_a_tool_is_blocked_not_rewritten(tmp_path: Path) -> None:
    body = {"input_type": "response", "texts": [], "tool_calls": [{"function": {"name": "f", "arguments": "a bomb"}}]}
    answer, _ = await ask(tmp_path, body, detoxifiers=[Rewrites(lambda text: "a bird")])
    assert answer["action"] == "BLOCKED"


@pytest.mark.parametrize(("fail", "action"), [("refuse", "BLOCKED"), ("open", "NONE")])
async def test_a_check_that_fails_takes_the_fail_mode(tmp_path: Path, fail: Any, action: str) -> None:
    policy = Policy(output=Rail(fail=fail))
    body = {"input_type": "response", "texts": ["fine"]}
    answer, receipts = await ask(tmp_path, body, detector=Raises(), policy=policy)
    assert answer["action"] == action
    assert [receipt["outcome"] for receipt in receipts] == ["unsupported"]


async def test_a_check_that_fails_is_an_error_where_the_rail_fails_closed(tmp_path: Path) -> None:
    for kind in ("request", "response"):
        (tmp_path / kind).mkdir()
        async with gateway(tmp_path / kind, says(""), detector=Raises()) as answer:
            response = await answer.client.post(PATH, json={"input_type": kind, "texts": ["fine"]})
            assert (response.status_code, response.json()["error"]["code"]) == (503, "check_failed")
            assert response.headers["retry-after"]
            entry = answer.entries()[-1]
            assert entry["status"] == 503
            assert [receipt["outcome"] for receipt in entry["receipts"]] == ["unsupported"]


@pytest.mark.parametrize("opaque", ["skip", "fail"])
async def test_bytes_in_a_reply_do_what_the_policy_says(tmp_path: Path, opaque: Any) -> None:
    policy = Policy(output=Rail(opaque=opaque))
    text = "See this. " * 9 + base64.b64encode(random.Random(1).randbytes(600)).decode()
    async with gateway(tmp_path, says(""), policy=policy) as served:
        response = await served.client.post(PATH, json={"input_type": "response", "texts": [text, "fine"]})
        assert response.status_code == (200 if opaque == "skip" else 502)
        assert outcomes(served)["texts/0~opaque"] == ("skipped" if opaque == "skip" else "unsupported")
        response = await served.client.post("/v1/moderations", json={"input": text})
        assert response.status_code == (200 if opaque == "skip" else 400)
        assert outcomes(served)["input/0~opaque"] == ("skipped" if opaque == "skip" else "unsupported")


async def test_a_picture_nobody_can_look_at_is_blocked(tmp_path: Path) -> None:
    body = {"input_type": "request", "texts": ["x"], "images": ["https://example.org/a.png"]}
    answer, receipts = await ask(tmp_path, body)
    assert answer["action"] == "BLOCKED"
    assert {receipt["path"]: receipt["outcome"] for receipt in receipts} == {
        "texts/0": "checked",
        "images/0": "unsupported",
    }


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input_type": "x"},
        {"input_type": "request", "texts": "a"},
        {"input_type": "request", "images": [1]},
        {"input_type": "request", "structured_messages": [1]},
        {"input_type": "response", "texts": ["a"] * 10_001},
        {"input_type": "response", "texts": ["a"] * 5_001, "images": ["a"] * 5_000},
    ],
)
async def test_what_is_no_request_of_this_api_is_said_so(tmp_path: Path, body: dict[str, Any]) -> None:
    async with gateway(tmp_path, says("")) as served:
        response = await served.client.post(PATH, json=body)
        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith(("expected", "structured_messages: expected"))


FRAME = '[prompt]\n[[prompt.steps]]\nkind = "contextual"\ntemplate = "<< {request} >>"\n'


@pytest.mark.parametrize(
    ("text", "body", "expected"),
    [
        (FRAME, {"texts": ["hello"]}, ["<< hello >>"]),
        ('[prompt]\n[[prompt.steps]]\nkind = "system"\ntext = "Be kind."\n', {"texts": ["hi"]}, ["Be kind.\n\nhi"]),
        (
            FRAME,
            {
                "texts": ["Be brief.", "hello", "Hi.", "why?"],
                "structured_messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "hello"},
                    {"role": "assistant", "content": "Hi."},
                    {"role": "user", "content": "why?"},
                ],
            },
            ["Be brief.", "hello", "Hi.", "<< why? >>"],
        ),
        (
            '[prompt]\n[[prompt.steps]]\nkind = "system"\ntext = "Be kind."\n',
            {
                "texts": ["Be brief.", "hello"],
                "structured_messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "hello"},
                ],
            },
            ["Be kind.\n\nBe brief.", "hello"],
        ),
    ],
)
async def test_the_policys_prompt_is_put_into_the_texts(
    tmp_path: Path, text: str, body: dict[str, Any], expected: list[str]
) -> None:
    answer, receipts = await ask(tmp_path, {"input_type": "request", **body}, policy=parse(text))
    assert (answer["action"], answer["texts"]) == ("GUARDRAIL_INTERVENED", expected)
    (receipt,) = [receipt for receipt in receipts if receipt["path"] == "prompt"]
    assert "added" in receipt["why"]
    assert "revision" in receipt["why"]


async def test_checks_read_the_texts_as_they_came_and_a_blocked_request_gets_no_prompt(tmp_path: Path) -> None:
    detector = Words()
    policy = parse('[prompt]\n[[prompt.steps]]\nkind = "contextual"\ntemplate = "A bomb? {request}"\n')
    body = {"input_type": "request", "texts": ["hello"]}
    answer, _ = await ask(tmp_path, body, policy=policy, detector=detector)
    assert answer["texts"] == ["A bomb? hello"]
    assert not any("bomb" in text for text in detector.texts)
    (tmp_path / "second").mkdir()
    blocked, receipts = await ask(tmp_path / "second", {**body, "texts": ["a bomb"]}, policy=policy)
    assert blocked["action"] == "BLOCKED"
    assert all(receipt["path"] != "prompt" for receipt in receipts)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('mode = "observe"\n' + FRAME, "not added, as the policy observes"),
        ('[prompt]\nuse = "few-shot"\n', "not added, as texts cannot hold it"),
    ],
)
async def test_a_prompt_that_is_not_added_is_said_so(tmp_path: Path, text: str, why: str) -> None:
    answer, receipts = await ask(tmp_path, {"input_type": "request", "texts": ["hello"]}, policy=parse(text))
    assert answer["action"] == "NONE"
    (receipt,) = [receipt for receipt in receipts if receipt["path"] == "prompt"]
    assert receipt["why"].startswith(why)


async def test_replies_get_no_prompt(tmp_path: Path) -> None:
    answer, receipts = await ask(tmp_path, {"input_type": "response", "texts": ["fine"]}, policy=parse(FRAME))
    assert answer["action"] == "NONE"
    assert all(receipt["path"] != "prompt" for receipt in receipts)
