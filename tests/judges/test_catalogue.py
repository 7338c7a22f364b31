from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from equipoise.errors import UsageError
from equipoise.judges.catalogue import JudgeSettings, choose_judge, harm_judge, request_judge
from equipoise.judges.run_judge import identity_of

URL = "http://127.0.0.1:1/v1#m"


def test_every_judge_of_refusals_describes_itself_for_a_recipe() -> None:
    for name in ("phrases", URL):
        judge = choose_judge(name, [])
        description = judge.describe()
        assert description["identity"] == judge.identity
        assert description["name"] == judge.name
        assert all(set(member) == {"name", "identity"} for member in description["members"])


def test_a_served_judge_has_the_settings_of_its_endpoint_and_no_secret_in_its_description() -> None:
    endpoint = {"headers": {"X-Key": "secret-1"}, "temperature": None, "extra_body": {"top_k": 1}}
    judge = choose_judge(URL, [], JudgeSettings(key="secret-2", endpoint=endpoint))
    description = judge.describe()
    assert description["temperature"] is None
    assert description["extra_body"] == {"top_k": 1}
    assert description["headers"] == ["X-Key"]
    assert "secret" not in str(description)
    assert judge.identity != choose_judge(URL, []).identity


def test_the_settings_reach_judges_of_harm_and_guards_alike() -> None:
    for spec in (URL, f"guard:llama-guard={URL}"):
        plain, warm = (harm_judge(spec, JudgeSettings(endpoint=e)) for e in ({}, {"temperature": 0.5}))
        assert identity_of(plain) != identity_of(warm)


@pytest.mark.parametrize("name", ["http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1#", "nobody"])
def test_a_name_that_is_no_judge_is_refused_with_the_fix(name: str) -> None:
    with pytest.raises(UsageError, match="try "):
        choose_judge(name, [])


@pytest.mark.parametrize("family", ["llama-guard", "qwen3guard", "shieldgemma", "granite-guardian"])
def test_guards_with_a_template_judge_requests(family: str) -> None:
    judge = request_judge(f"guard:{family}={URL}")
    assert judge.sent  # type: ignore[attr-defined]
    assert identity_of(judge) != identity_of(harm_judge(f"guard:{family}={URL}"))


@pytest.mark.parametrize("name", ["", "phrases", URL, f"guard:wildguard={URL}"])
def test_what_judges_replies_only_is_no_judge_of_requests(name: str) -> None:
    with pytest.raises(UsageError, match=r"expected a guard that judges requests, got .*; try guard:llama-guard="):
        request_judge(name)


def test_an_unknown_family_of_guards_is_named() -> None:
    with pytest.raises(UsageError, match="nobody"):
        request_judge(f"guard:nobody={URL}")


def test_a_local_judge_that_is_shown_pictures_has_to_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(name: str, **settings: Any) -> Any:
        loaded.append(name)
        return SimpleNamespace(name=name, revision="1", reads_pictures="llava" in name)

    monkeypatch.setattr("equipoise.models.load.load", load)
    settings = JudgeSettings(pictures=True, device="cpu")
    judge = choose_judge("testbed/llava", [], settings)
    assert judge.describe()["pictures"] is True
    with pytest.raises(UsageError, match=r"expected a judge that reads pictures, got org/text; try .*"):
        harm_judge("org/text", settings)
    assert loaded == ["testbed/llava", "org/text"]
