"""What a chat request says, and that nothing of it is silently left out."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from equipoise.guard.gateway.errors import RequestProblem
from equipoise.media.decode import DecodeLimits
from equipoise.media.encode import png_data_url
from equipoise.model_server.reply_request import MAX_PICTURES, cut_at_stop, read_request

USER = {"role": "user", "content": "hello"}
URL = png_data_url(Image.new("RGB", (3, 2), "red"))


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [USER], **fields}


def picture(url: Any = URL) -> dict[str, Any]:
    return {"type": "image_url", "image_url": url}


def test_roles_texts_and_pictures_become_a_prompt() -> None:
    parts = [picture({"url": URL}), {"type": "text", "text": "what"}, {"type": "text", "text": "is it?"}]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": None, "refusal": "I cannot help with that."},
        {"role": "user", "content": "why?"},
        {"role": "assistant", "content": None},
        {"role": "developer", "content": [{"type": "text", "text": "In English."}]},
        {"role": "user", "content": parts},
    ]
    read = read_request(body(messages=messages), 100)
    assert read.prompt.system == "Be brief.\n\nIn English."
    assert [(one.role, one.text) for one in read.prompt.messages] == [
        ("user", "hi"),
        ("assistant", "hello"),
        ("user", "and?"),
        ("assistant", "I cannot help with that."),
        ("user", "why?"),
        ("assistant", ""),
        ("user", "what\nis it?"),
    ]
    assert [one.size for one in read.prompt.pictures] == [(3, 2)]


def test_base64_may_be_broken_into_lines() -> None:
    head, _, letters = URL.partition(",")
    lines = "\r\n".join(letters[i : i + 76] for i in range(0, len(letters), 76))
    message = {"role": "user", "content": [picture({"url": f"{head},{lines}\n"})]}
    (image,) = read_request(body(messages=[message]), 9).prompt.pictures
    assert image.size == (3, 2)


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 256),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9, "max_tokens": 7}, 9),
        ({"max_tokens": 10_000}, 300),
    ],
)
def test_the_servers_limit_holds(fields: dict[str, Any], tokens: int) -> None:
    assert read_request(body(**fields), 300).max_new_tokens == tokens


def test_values_that_change_nothing_are_taken() -> None:
    read = read_request(
        body(n=1, tools=[], logprobs=False, response_format={"type": "text"}, temperature=0.7, seed=3, user="u"), 9
    )
    penalties = {"presence_penalty": 0.0, "frequency_penalty": 0, "logit_bias": {}, "function_call": "auto"}
    assert read_request(body(**penalties), 9).prompt == read.prompt
    assert not read.stream
    assert read.max_new_tokens == 9


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"tools": [{"type": "function"}]},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"tool_choice": "required"},
        {"n": True},
        {"n": 0},
        {"n": False},
        {"logprobs": 0},
        {"top_logprobs": False},
        {"logit_bias": {"5": 100}},
        {"presence_penalty": 2},
        {"frequency_penalty": -0.5},
        {"function_call": {"name": "look"}},
        {"functions": [{"name": "look"}]},
        {"web_search_options": {}},
    ],
)
def test_what_one_reply_cannot_serve_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestProblem) as raised:
        read_request(body(**fields), 9)
    assert (raised.value.status, raised.value.param) == (400, next(iter(fields)))


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": None},
        {"messages": []},
        {"messages": ["hi"]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": "half \ud800"}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": ["user"], "content": "x"}]},
        {"messages": [USER, {"role": "assistant", "content": "Sure"}]},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [{"role": "system", "content": [picture()]}, USER]},
        {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
        {"messages": [{"role": "user", "content": [picture("http://127.0.0.1/a.png")]}]},
        {"messages": [{"role": "user", "content": [picture("file:///etc/passwd")]}]},
        {"messages": [{"role": "user", "content": [picture("data:image/png;base64,AAAA")]}]},
        {"messages": [{"role": "user", "content": [picture()] * (MAX_PICTURES + 1)}]},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"max_tokens": "9"},
        {"stream": "yes"},
        {"stop": 3},
        {"stop": [""]},
    ],
)
def test_a_bad_request_is_one_clear_error(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestProblem) as raised:
        read_request(body(**fields), 9)
    assert raised.value.status == 400
    assert "expected" in raised.value.message


def test_pictures_of_one_request_have_a_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.model_server.reply_request.LIMITS", DecodeLimits(max_pixels=13))
    two = {"messages": [{"role": "user", "content": [picture()] * 2}]}
    assert len(read_request(body(**two), 9).prompt.pictures) == 2
    with pytest.raises(RequestProblem, match="at most 13 pixels together"):
        read_request(body(messages=[{"role": "user", "content": [picture()] * 3}]), 9)


def test_a_body_is_an_object() -> None:
    with pytest.raises(RequestProblem):
        read_request([USER], 9)


@pytest.mark.parametrize(
    ("stop", "left"), [((), "one two three"), (("three", " two"), "one"), (("four",), "one two three")]
)
def test_a_reply_ends_at_the_first_stop(stop: tuple[str, ...], left: str) -> None:
    assert cut_at_stop("one two three", stop) == left


def test_pictures_are_counted_before_any_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("equipoise.model_server.reply_request._picture", lambda part, where: opened.append(where))
    with pytest.raises(RequestProblem, match="at most"):
        read_request(body(messages=[{"role": "user", "content": [picture()] * 300}]), 9)
    assert opened == []
