"""A key is sent to the host that it is for, and to no other."""

from __future__ import annotations

import pytest

from equipoise.cli.options.served_keys import ServedKeys, require_no_secret
from equipoise.errors import UsageError
from equipoise.served_models.endpoint import KEY_VARIABLE

ONE, OTHER = "https://one.example/v1#a", "http://127.0.0.1:8000/v1#b"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("FIRST", "key-1")
    monkeypatch.setenv("SECOND", "key-2")


def test_a_bare_variable_is_for_the_first_host_alone() -> None:
    keys = ServedKeys(["FIRST"], ["folder", ONE, OTHER, "https://one.example/v2#c"])
    assert [keys.of(name) for name in (ONE, OTHER, "https://one.example/v2#c", "folder")] == [
        "key-1",
        None,
        "key-1",
        None,
    ]


def test_other_hosts_have_keys_of_their_own() -> None:
    keys = ServedKeys(["127.0.0.1:8000=SECOND", "FIRST"], [ONE, OTHER])
    assert (keys.of(ONE), keys.of(OTHER)) == ("key-1", "key-2")
    assert ServedKeys(["127.0.0.1:8000=SECOND"], [ONE, OTHER]).of(ONE) is None


def test_our_variable_is_the_default_of_the_first_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "ours")
    assert ServedKeys([], [ONE, OTHER]).of(ONE) == "ours"
    assert ServedKeys([], [ONE, OTHER]).of(OTHER) is None
    assert ServedKeys(["FIRST"], [ONE]).of(ONE) == "key-1"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["elsewhere.example=FIRST"], "served models are at: one.example, 127.0.0.1:8000"),
        (["FIRST", "SECOND"], "one key for one.example"),
        (["NOWHERE"], "NOWHERE"),
        (["one.example="], "environment variable"),
    ],
)
def test_what_cannot_be_is_one_error(values: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ServedKeys(values, [ONE, OTHER])


def test_a_key_without_a_served_model_is_an_error() -> None:
    with pytest.raises(UsageError, match="served models are at: none"):
        ServedKeys(["FIRST"], ["folder"])


def test_an_address_holds_no_password() -> None:
    require_no_secret(ONE)
    with pytest.raises(UsageError, match="without user and password") as raised:
        require_no_secret("https://me:secret@one.example/v1#a")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("name", ["key", "api_key", "subscription-key", "access_token", "sig", "code"])
def test_an_address_holds_no_key_as_a_parameter(name: str) -> None:
    require_no_secret(f"{ONE.partition('#')[0]}?api-version=2024-10-21#a")
    with pytest.raises(UsageError, match="try --api-key-env or --header") as raised:
        require_no_secret(f"https://one.example/v1?{name}=SECRET#a")
    assert "SECRET" not in str(raised.value)
