"""`kill -9`, or Ctrl-C, in the middle of a run, and the same call again: nothing is lost or counted twice."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from equipoise.audit.append_only_log import AppendOnlyLog
from equipoise.audit.records import ReplyRow
from tests.audit.engine.factories import Stores, picture, rows, sample, served
from tests.audit.scripted_server import Answer, ReceivedRequest, ScriptedServer, says
from tests.child_process import environment

COUNT = 30
SCRIPT = """
import sys
from pathlib import Path
from tests.child_process import environment
from tests.audit.engine.factories import Stores, served
from tests.child_process import environment
from tests.audit.engine.test_kill import content
Stores(Path(sys.argv[2])).ask(content(), served(sys.argv[1]), connections=3)
"""


def content() -> list:
    return rows([sample(f"prompt {i}", picture(), expected="refuse" if i % 3 else "answer") for i in range(COUNT)])


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_where_it_stopped(tmp_path: Path, stop: signal.Signals) -> None:
    stores = Stores(tmp_path / "run")
    signalled = threading.Event()

    def rule(request: ReceivedRequest) -> Answer:
        # The second half gets no answer before the signal, so that the run cannot end first, however busy the machine.
        if len(server.requests) > COUNT // 2:
            signalled.wait(600)
        return says(f"You said: {request.text}")

    with ScriptedServer(rule) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, server.spec, str(stores.folder)],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + 300
        while len(server.requests) <= COUNT // 2 or not any(stores.replies.rows()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(stop)
        signalled.set()
        _, output = process.communicate(timeout=300)
        assert process.returncode == -stop, output.decode()
        assert b"KeyboardInterrupt" in output or stop == signal.SIGKILL
        if stop == signal.SIGKILL:
            # Half a line, as a kill in the middle of a write leaves it.
            with (stores.folder / "replies.jsonl").open("ab") as file:
                file.write(b'{"key": "cut sho')

        before = {row.key: row for row in stores.replies.rows()}
        judged = {row.key for row in stores.verdicts.rows()}
        sent = len(server.requests)
        assert 0 < len(before) < COUNT
        assert judged <= set(before)

        outcome = stores.ask(content(), served(server.spec), connections=3)

        assert len(server.requests) - sent == COUNT - len(before), "a stored prompt was sent again, or one was left out"
        assert sum(count > 1 for count in server.counts.values()) <= 3, "only what was under way may be asked twice"
    assert (outcome.sent, outcome.reused, outcome.judged) == (COUNT - len(before), len(before), COUNT - len(judged))
    replies, verdicts = list(stores.replies.rows()), list(stores.verdicts.rows())
    keys = {row.key for row, _ in content()}
    assert len(replies) == len(verdicts) == COUNT
    assert {row.key for row in replies} == {row.key for row in verdicts} == keys
    assert all(row == before[row.key] for row in replies if row.key in before), "a stored reply changed"


def test_no_more_prompts_than_connections_wait_for_a_slow_disk(tmp_path: Path) -> None:
    stores = Stores(tmp_path / "run")
    unstored = []

    class Slow(AppendOnlyLog[ReplyRow]):
        def append(self, rows: Iterable[ReplyRow]) -> None:
            time.sleep(0.1)
            super().append(rows)

    replies = Slow(stores.folder / "replies.jsonl", ReplyRow)

    def rule(request: ReceivedRequest) -> Answer:
        unstored.append(len(server.requests) - len(list(replies.rows())))
        return says(f"You said: {request.text}")

    with ScriptedServer(rule) as server:
        outcome = stores.ask(content(), served(server.spec), connections=3, replies=replies)
    assert outcome.sent == COUNT
    assert max(unstored) == 3
