"""A changed file counts from the next look on; a broken one changes nothing and is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from equipoise.errors import UsageError
from equipoise.guard.gateway.hot_reload import WatchedFiles, watch
from equipoise.guard.gateway.keys import ClientKeys


def test_changes_are_taken_and_broken_files_are_not(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("name = 'one'")
    files = WatchedFiles(policy, None)
    assert files.read().policy.name == "one"
    assert files.changed() is None
    policy.write_text("name = 'two'")
    changes = files.changed()
    assert isinstance(changes, ClientKeys)
    assert changes.policy.name == "two"
    policy.write_text("nmae = 'three'")
    assert isinstance(files.changed(), UsageError)
    assert files.changed() is None, "a broken file is told once"
    policy.unlink()
    assert isinstance(files.changed(), UsageError)


def test_a_policy_of_a_key_is_watched_too(tmp_path: Path) -> None:
    (tmp_path / "strict.toml").write_text("rounds = 0")
    keys = tmp_path / "keys.toml"
    keys.write_text(f"[keys.team]\nsha256 = '{'0' * 64}'\npolicy = 'strict.toml'\n")
    files = WatchedFiles(None, keys)
    assert files.read().policies["team"].rounds == 0
    (tmp_path / "strict.toml").write_text("rounds = 1")
    changes = files.changed()
    assert isinstance(changes, ClientKeys)
    assert changes.policies["team"].rounds == 1


def test_the_watch_goes_on_after_a_broken_file(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("")
    texts = iter(["rounds = 1", "rounds = 'x'", "rounds = 3"])
    taken: list[int] = []
    notes: list[str] = []

    async def sleep(_: float) -> None:
        text = next(texts, None)
        if text is None:
            raise asyncio.CancelledError
        policy.write_text(text)

    async def go() -> None:
        await watch(
            WatchedFiles(policy, None), lambda keys: taken.append(keys.policy.rounds), notes.append, sleep=sleep
        )

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(go())
    assert (taken, notes) == ([1, 3], ["reloaded", "broken", "reloaded"])


def test_a_policy_of_a_key_is_watched_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "strict.toml").write_text("rounds = 0")
    keys = tmp_path / "keys.toml"
    keys.write_text(f"[keys.team]\nsha256 = '{'0' * 64}'\npolicy = 'below/strict.toml'\n")
    files = WatchedFiles(None, keys)
    (tmp_path / "below" / "strict.toml").write_text("rounds = 1")
    changes = files.changed()
    assert isinstance(changes, ClientKeys)
    assert changes.policies["team"].rounds == 1


def test_keys_that_an_editor_is_about_to_write_stay(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    line = f"[keys.team]\nsha256 = '{'0' * 64}'\n"
    keys.write_text(line)
    files = WatchedFiles(None, keys)
    keys.write_text("")
    assert isinstance(files.changed(), UsageError), "the former keys stay"
    keys.write_text(f"{line}requests_per_minute = 9\n")
    changes = files.changed()
    assert isinstance(changes, ClientKeys)
    assert changes.known is not None
    assert changes.known["team"].requests_per_minute == 9
