from __future__ import annotations

from typing import Any

import pytest

from equipoise.errors import MissingExtraError, UsageError
from equipoise.served_models.endpoint import ServedEndpoint, parse_extra_body, parse_headers, parse_temperature

URL = "http://localhost:1/v1"


@pytest.mark.parametrize(("url", "model"), [("localhost:8000", "m"), ("ftp://x", "m"), ("http://x/v1", " "), ("", "m")])
def test_an_address_that_cannot_be_is_refused(url: str, model: str) -> None:
    with pytest.raises(UsageError):
        ServedEndpoint(url, model)


def test_without_the_extra_the_message_is_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="pip install"):
        ServedEndpoint(URL, "m")


def test_a_name_is_an_address_and_a_model() -> None:
    endpoint = ServedEndpoint.parse("http://h:8/v1#org/name", api_key="k")
    assert (endpoint.url, endpoint.model, endpoint.api_key) == ("http://h:8/v1", "org/name", "k")


@pytest.mark.parametrize("name", ["http://h:8/v1", "http://h:8/v1#"])
def test_a_name_without_a_model_is_refused_with_the_fix(name: str) -> None:
    with pytest.raises(UsageError, match="try http://h:8/v1#NAME"):
        ServedEndpoint.parse(name)


def test_no_secret_is_shown() -> None:
    endpoint = ServedEndpoint(
        "https://me:password@host/v1?token=5", "m", api_key="sk-secret", headers={"X-Key": "other-secret"}
    )
    shown = f"{endpoint.address} {endpoint.changed_settings} {endpoint.model}"
    assert "https://host/v1" in shown
    assert "X-Key" in shown
    assert not [secret for secret in ("password", "token", "sk-secret", "other-secret") if secret in shown]
    cleaned = endpoint.without_secrets("password, sk-secret and other-secret are wrong")
    assert cleaned == "***, *** and *** are wrong"
    assert "sk-secret" not in repr(endpoint)
    assert "other-secret" not in repr(endpoint)


FIELDS = {"model": "m", "temperature": 0, "max_tokens": 5}


@pytest.mark.parametrize(
    ("settings", "body"),
    [
        ({}, FIELDS),
        ({"temperature": None}, {"model": "m", "max_tokens": 5}),
        ({"temperature": 0.5}, {"model": "m", "temperature": 0.5, "max_tokens": 5}),
        (
            {"max_tokens_field": "max_completion_tokens"},
            {"model": "m", "temperature": 0, "max_completion_tokens": 5},
        ),
        ({"max_tokens_field": "none"}, {"model": "m", "temperature": 0}),
        ({"extra_body": {"top_k": 1}}, {**FIELDS, "top_k": 1}),
    ],
)
def test_a_body_has_what_the_settings_say(settings: dict[str, Any], body: dict[str, Any]) -> None:
    assert ServedEndpoint(URL, "m", **settings).body(FIELDS) == body


@pytest.mark.parametrize("temperature", [-0.1, 2.1, float("nan")])
def test_a_temperature_out_of_range_is_refused(temperature: float) -> None:
    with pytest.raises(UsageError, match="temperature"):
        ServedEndpoint(URL, "m", temperature=temperature)


@pytest.mark.parametrize("name", ["messages", "temperature", "max_tokens", "model"])
def test_an_extra_field_cannot_replace_one_with_an_option(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        ServedEndpoint(URL, "m", extra_body={name: 1})


def test_headers_are_read() -> None:
    assert parse_headers(["X-Team=safety", "Cookie=a=b; c=d", "X-Empty="]) == {
        "X-Team": "safety",
        "Cookie": "a=b; c=d",
        "X-Empty": "",
    }


@pytest.mark.parametrize("value", ["X-Team", "=secret", "two words=secret", "X-Key=secret\r\nHost: x", "X-Key=sécret"])
def test_a_header_of_another_form_is_refused_and_its_value_not_shown(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_headers([value])
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "1", "{'a': 1}", "{"])
def test_an_extra_body_is_a_json_object(text: str) -> None:
    assert parse_extra_body('{"a": {"b": [1]}}') == {"a": {"b": [1]}}
    with pytest.raises(UsageError, match="JSON object"):
        parse_extra_body(text)


def test_a_temperature_is_a_number_or_none() -> None:
    assert [parse_temperature(text) for text in ("none", "None", "0", "0.7")] == [None, None, 0.0, 0.7]
    with pytest.raises(UsageError, match="hot"):
        parse_temperature("hot")


def test_a_begun_reply_is_asked_to_be_continued_until_the_server_refuses_the_fields() -> None:
    endpoint = ServedEndpoint("http://host/v1", "m")
    begun = {"messages": [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "Take"}]}
    plain = {"messages": [{"role": "user", "content": "How?"}]}
    assert endpoint.body(begun)["continue_final_message"] is True
    assert endpoint.body(begun)["add_generation_prompt"] is False
    assert "continue_final_message" not in endpoint.body(plain)
    error = {"error": {"message": "Unrecognized request argument supplied: continue_final_message"}}
    assert endpoint.parameters.learn(400, error, endpoint.body(begun))
    assert not {"continue_final_message", "add_generation_prompt"} & set(endpoint.body(begun))
    assert endpoint.body(begun)["messages"] == begun["messages"]
