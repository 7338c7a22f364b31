from __future__ import annotations

from typing import Any

import pytest

from equipoise.served_models.parameters import ParameterSupport

BODY = {"model": "m", "temperature": 0, "max_tokens": 5, "logprobs": True, "top_logprobs": 20}


def openai(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


UNSUPPORTED: list[tuple[object, str]] = [
    (
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
            "instead.",
            "max_tokens",
            "unsupported_parameter",
        ),
        "max_tokens",
    ),
    (
        openai(
            "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is "
            "supported.",
            "temperature",
            "unsupported_value",
        ),
        "temperature",
    ),
    (openai("`temperature` is deprecated for this model."), "temperature"),
    (openai("You are not allowed to request logprobs from this model", code=None), "logprobs"),
    ({"detail": [{"type": "extra_forbidden", "loc": ["body", "top_logprobs"], "msg": "Extra inputs"}]}, "logprobs"),
    ({"message": "unknown field 'max_tokens'"}, "max_tokens"),
    ("temperature is not supported", "temperature"),
    (openai("Please use max_completion_tokens."), "max_tokens"),
]


@pytest.mark.parametrize(("error", "name"), UNSUPPORTED)
@pytest.mark.parametrize("status", [400, 422])
def test_an_unsupported_parameter_is_left_out_from_then_on(error: object, name: str, status: int) -> None:
    support = ParameterSupport()
    assert support.learn(status, error, BODY)
    adapted = support.adapt(BODY)
    assert name not in adapted
    if name == "max_tokens":
        assert adapted["max_completion_tokens"] == 5
    lost = set(BODY) - set(adapted)
    assert lost == {name} | ({"top_logprobs"} if name == "logprobs" else set())
    assert len(support.notes) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai("This model's maximum context length is 8192 tokens, however you requested 9000 tokens.")),
        (400, openai("max_tokens is too large: 100000. This model supports at most 4096 completion tokens.")),
        (400, openai("Invalid image.")),
        (400, openai("The image format is not supported.")),
        (400, {"error": {"message": "no", "input": "temperature is not supported"}}),
        (401, UNSUPPORTED[0][0]),
        (429, UNSUPPORTED[1][0]),
        (500, UNSUPPORTED[1][0]),
        (400, None),
        (400, ""),
    ],
)
def test_no_other_error_changes_a_request(status: int, error: object) -> None:
    support = ParameterSupport()
    assert not support.learn(status, error, BODY)
    assert support.adapt(BODY) == BODY
    assert support.notes == []


@pytest.mark.parametrize(("error", "name"), UNSUPPORTED)
def test_what_was_taken_once_stays(error: object, name: str) -> None:
    support = ParameterSupport()
    support.accept(BODY)
    assert not support.learn(400, error, BODY)
    assert support.adapt(BODY) == BODY


def test_a_server_without_any_of_them_is_learned_in_as_many_rounds() -> None:
    support = ParameterSupport()
    body: dict[str, Any] = dict(BODY)
    for error, _ in (UNSUPPORTED[0], UNSUPPORTED[1], UNSUPPORTED[3]):
        assert support.learn(400, error, body)
        body = support.adapt(BODY)
    assert body == {"model": "m", "max_completion_tokens": 5}


def test_neither_field_for_the_limit_ends_the_search() -> None:
    support = ParameterSupport()
    assert support.learn(400, UNSUPPORTED[0][0], BODY)
    assert not support.learn(400, openai("unknown field max_completion_tokens"), support.adapt(BODY))
