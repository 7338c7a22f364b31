from __future__ import annotations

import pytest

from equipoise.cli.options.endpoint import LimitField, command_line, endpoint_settings
from equipoise.errors import UsageError


def test_only_what_was_named_is_a_setting() -> None:
    assert endpoint_settings(None, None, None, None) == {}
    assert endpoint_settings([], None, None, None) == {}
    assert endpoint_settings(["X-A=1"], '{"k": 1}', "none", LimitField.none) == {
        "headers": {"X-A": "1"},
        "extra_body": {"k": 1},
        "temperature": None,
        "max_tokens_field": "none",
    }


@pytest.mark.parametrize(("header", "body", "temperature"), [("X", None, None), (None, "[]", None), (None, None, "x")])
def test_a_value_of_another_form_is_one_error(header: str | None, body: str | None, temperature: str | None) -> None:
    with pytest.raises(UsageError, match="try "):
        endpoint_settings([header] if header else None, body, temperature, None)


@pytest.mark.parametrize("option", ["--header", "--judge-header"])
def test_the_record_of_a_command_holds_no_value_of_a_header(option: str) -> None:
    arguments = ["audit", "http://h/v1#m", option, "X-Key=secret", f"{option}=X-Other=secret=2", "--suite", "a b=c"]
    line = command_line(arguments)
    assert "secret" not in line
    assert line == f"equipoise audit 'http://h/v1#m' {option} 'X-Key=***' '{option}=X-Other=***' --suite 'a b=c'"


def test_the_record_of_a_command_holds_no_password_of_an_address() -> None:
    line = command_line(["audit", "toy", "--judge", "http://ann:pass-word@h:8/v1#m", "--out", "a@b:c"])
    assert "pass-word" not in line
    assert "http://ann:***@h:8/v1#m" in line
    assert "a@b:c" in line
    assert "p@ss" not in command_line(["x", "postgresql://u:p@ss@host/db"])
