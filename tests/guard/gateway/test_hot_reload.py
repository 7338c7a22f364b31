"""A changed file counts from the next look on; a broken one changes nothing and is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from equipoise.errors import MissingExtraError, UsageError
from equipoise.guard.gateway.hot_reload import WatchedFiles, watch
from equipoise.guard.gateway.keys import ClientKeys
from equipoise.guard.policy import PicturePolicy, Policy
from tests.guard.gateway.upstreams import gateway, says


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


class Broken(WatchedFiles):
    """Files that cannot even be looked at, once."""

    def __init__(self, policy: Path) -> None:
        super().__init__(policy, None)
        self.looks = 0

    def changed(self) -> ClientKeys | UsageError | None:
        self.looks += 1
        if self.looks == 1:
            raise RuntimeError("out of order")
        return super().changed()


def watched(files: WatchedFiles, texts: list[str], **more: Any) -> tuple[list[ClientKeys], list[str]]:
    """What is taken and reported while the policy's file has one text after the other."""
    taken: list[ClientKeys] = []
    notes: list[str] = []
    rest = iter(texts)

    async def sleep(_: float) -> None:
        text = next(rest, None)
        if text is None:
            raise asyncio.CancelledError
        assert files.policy is not None
        files.policy.write_text(text)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(watch(files, taken.append, notes.append, sleep=sleep, **more))
    return taken, notes


def test_the_watch_survives_whatever_happens(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("")
    taken, notes = watched(Broken(policy), ["rounds = 1", "rounds = 2"])
    assert ([keys.policy.rounds for keys in taken], notes) == ([2], ["broken", "reloaded"])


def test_a_number_of_too_many_digits_is_a_broken_file(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("")
    files = WatchedFiles(policy, None)
    huge = "[output]\nthreshold = 1" + "0" * 5000
    taken, notes = watched(files, [huge, "rounds = 2"])
    assert ([keys.policy.rounds for keys in taken], notes) == ([2], ["broken", "reloaded"])
    policy.write_text(huge)
    with pytest.raises(UsageError, match=r"expected a policy, got .*: a number of too many digits; try "):
        files.read()


def test_a_policy_whose_needs_cannot_be_met_changes_nothing(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[pictures]\nread_text = false")

    def prepare(keys: ClientKeys) -> None:
        if keys.read_pictures:
            raise MissingExtraError("pip install 'equipoise[guard]'")

    texts = ["[pictures]\nread_text = true", "rounds = 1\n[pictures]\nread_text = false"]
    taken, notes = watched(WatchedFiles(policy, None), texts, prepare=prepare)
    assert ([keys.policy.rounds for keys in taken], notes) == ([1], ["broken", "reloaded"])


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_reader_of_pictures_is_loaded_with_the_first_policy_that_needs_it(
    tmp_path: Path, anyio_backend: str
) -> None:
    def reader(image: Any) -> str:
        return "words"

    async with gateway(tmp_path, says("fine"), policy=Policy(pictures=PicturePolicy(read_text=False))) as served:
        service = served.service
        service.load_reader = lambda: reader
        service._prepare(service.keys)
        assert service.reader is None
        service._prepare(ClientKeys(None, {}, Policy()))
        assert service.reader is reader
