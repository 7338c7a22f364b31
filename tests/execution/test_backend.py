"""The backend of this process: work is done when its result is waited for, one thing after the other."""

from __future__ import annotations

from pathlib import Path

from equipoise.execution import Parcel
from equipoise.execution.backend import InProcessBackend
from equipoise.execution.worker import WorkerReply
from tests.execution.tasks import EchoTask


def lines(log: Path) -> list[str]:
    return [line.split(" ", 1)[1] for line in log.read_text().splitlines()] if log.exists() else []


def test_nothing_is_done_before_somebody_waits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    backend = InProcessBackend(EchoTask(log))
    (name,) = backend.names
    backend.start(name)
    assert lines(log) == []
    assert backend.wait(None) == [(name, WorkerReply())]
    backend.submit(name, "key", Parcel.of(b"item 1"))
    # The caller keeps the result before it now; a kill would lose that one otherwise.
    assert lines(log) == ["load"]
    ((_, reply),) = backend.wait(None)
    assert isinstance(reply, WorkerReply)
    assert reply.result == Parcel.of(b"1 meti")
    assert lines(log) == ["load", "item 1"]


def test_what_is_stopped_before_it_began_is_not_done(tmp_path: Path) -> None:
    log = tmp_path / "log"
    backend = InProcessBackend(EchoTask(log))
    (name,) = backend.names
    backend.start(name)
    backend.wait(None)
    backend.submit(name, "key", Parcel.of(b"item 1"))
    backend.stop(name)
    assert backend.wait(None) == []
    backend.submit(name, "key", Parcel.of(b"item 2"))
    backend.close()
    assert backend.wait(None) == []
    assert lines(log) == ["load"]
