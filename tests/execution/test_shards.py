"""Shards: whole results or none, one for each key, whoever wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.errors import OutputError
from equipoise.execution import Parcel, ShardStore
from tests.execution.tasks import item

KEY = item("one").key
OTHER = item("two").key


def test_results_of_several_workers_are_read_as_one_store(tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "shards")
    assert list(store.results()) == []
    store.write("worker-1", KEY, Parcel.of(b"one"))
    store.write("worker-0", OTHER, Parcel.of(b"two"))
    store.write("worker-0", KEY, Parcel.of(b"one"))
    assert dict(store.results()) == {KEY: Parcel.of(b"one"), OTHER: Parcel.of(b"two")}
    assert [key for key, _ in store.results()] == sorted([KEY, OTHER]), "each once, in one order"
    store.discard(KEY)
    assert store.read(KEY) is None
    store.discard(OTHER)
    store.remove_empty()
    assert not store.folder.exists()


def test_a_torn_file_counts_as_none_and_another_shard_makes_up_for_it(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    store.write("worker-0", KEY, Parcel.of(b"a result"))
    file = tmp_path / "worker-0" / KEY
    file.write_bytes(file.read_bytes()[:-1])
    assert store.read(KEY) is None
    store.write("worker-1", KEY, Parcel.of(b"a result"))
    assert store.read(KEY) == Parcel.of(b"a result")


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ShardStore(tmp_path)
    store.write("worker-0", KEY, Parcel.of(b"kept"))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        store.write("worker-0", OTHER, Parcel.of(b"lost"))
    assert [path.name for path in tmp_path.glob("*/*")] == [KEY]
    assert store.read(KEY) == Parcel.of(b"kept")


def test_what_a_killed_worker_left_half_written_is_removed_and_results_stay(tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "shards")
    store.write("worker-0", KEY, Parcel.of(b"kept"))
    half = store.folder / "worker-0" / f".{OTHER}.part"
    half.write_bytes(b"half")
    assert store.keys() == [KEY]
    store.remove_empty()
    assert not half.exists()
    assert store.keys() == [KEY]


def test_a_worker_elsewhere_does_not_see_the_folder(tmp_path: Path) -> None:
    token = ShardStore(tmp_path / "here").write_token()
    assert ShardStore(tmp_path / "here").is_reached_by(token)
    assert not ShardStore(tmp_path / "there").is_reached_by(token)
    # A folder of the same path on another machine has another word in it.
    ShardStore(tmp_path / "there").write_token()
    assert not ShardStore(tmp_path / "there").is_reached_by(token)


def test_a_store_that_is_cleared_holds_nothing_and_leaves_no_folder(tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "shards")
    store.write_token()
    for number in range(3):
        store.write(f"worker-{number % 2}", item(f"item {number}").key, Parcel.of(b"result"))
    (tmp_path / "shards" / "worker-0" / f".{'0' * 64}.part").write_bytes(b"half")
    store.clear()
    assert store.keys() == []
    assert not (tmp_path / "shards").exists()
    store.clear()
