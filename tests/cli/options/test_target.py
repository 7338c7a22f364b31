from __future__ import annotations

from typing import Any

import pytest

from equipoise.cli.options.compute import GradientOptions
from equipoise.cli.options.target import find_target
from equipoise.errors import UsageError

SERVED = "http://127.0.0.1:1/v1#m"


def target(name: str, **settings: Any):  # type: ignore[no-untyped-def]
    return find_target(name, GradientOptions(), None, settings)


def test_a_served_target_has_an_endpoint_with_what_the_user_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_API_KEY", "k")
    endpoint = target(SERVED, headers={"X-A": "1"}, extra_body={"top_k": 1}, temperature=None).endpoint
    assert (endpoint.address, endpoint.model, endpoint.api_key) == ("http://127.0.0.1:1/v1", "m", "k")
    assert endpoint.changed_settings == {"extra_body": {"top_k": 1}, "headers": ["X-A"]}
    assert endpoint.temperature is None


@pytest.mark.parametrize(
    ("settings", "decoding"),
    [
        ({}, "greedy"),
        ({"temperature": 0.0}, "greedy"),
        ({"temperature": None}, "the server's default"),
        ({"temperature": 0.5}, "temperature 0.5"),
    ],
)
@pytest.mark.parametrize("name", [SERVED, "inspect:openai/gpt-4o"])
def test_the_recipe_says_how_tokens_are_chosen(name: str, settings: dict[str, Any], decoding: str) -> None:
    assert target(name, **settings).decoding == decoding


def test_a_model_of_inspect_gets_what_inspect_takes() -> None:
    settings = target("inspect:openai/gpt-4o", temperature=None, extra_body={"top_k": 1}).settings
    assert settings == {"temperature": None, "extra_body": {"top_k": 1}}


@pytest.mark.parametrize("settings", [{"headers": {"X-A": "1"}}, {"max_tokens_field": "none"}])
def test_a_model_of_inspect_takes_no_setting_of_our_client(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="try http"):
        target("inspect:openai/gpt-4o", **settings)


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"headers": {"X-A": "1"}}, "--header"),
        ({"extra_body": {"a": 1}}, "--extra-body"),
        ({"temperature": None}, "--temperature"),
        ({"max_tokens_field": "none"}, "--max-tokens-field"),
    ],
)
def test_a_model_of_this_process_takes_none_of_them(settings: dict[str, Any], option: str) -> None:
    with pytest.raises(UsageError, match=f"served model for {option}"):
        target("testbed/llava", **settings)


def test_a_password_in_the_address_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(UsageError, match="without user and password"):
        target("http://me:secret@127.0.0.1:1/v1#m")
