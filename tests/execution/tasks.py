"""Light tasks for workers: results that depend on the item alone, and items that end their worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.errors import ModelError, OutputError, UsageError
from equipoise.execution import Parcel, WorkerTask, WorkItem, content_key


def item(text: str) -> WorkItem:
    """An item of the tasks below; its text says what happens to it."""
    return WorkItem(content_key("echo", [text], {"version": 1}), text, lambda: Parcel.of(text.encode()))


def items(count: int) -> list[WorkItem]:
    return [item(f"item {number}") for number in range(count)]


def answers(names: Sequence[str]) -> dict[str, bytes]:
    return {name: name.encode()[::-1] for name in names}


@dataclass(frozen=True)
class EchoTask(WorkerTask):
    """Turns a text round; `log` gets a line for each load and each item."""

    log: Path | None = None
    seconds: float = 0.0

    def load(self) -> str:
        self._write("load")
        return "loaded"

    def run(self, state: str, parcel: Parcel) -> Parcel:
        assert state == "loaded"
        text = parcel.parts[0].decode()
        self._write(text)
        time.sleep(self.seconds)
        if text == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "hangs":
            time.sleep(600)
        if text == "fails":
            raise UsageError("expected another text, got 'fails'; try 'item 1'")
        if text == "is wrong":
            raise KeyError("a mistake in the program")
        if text == "disk is full":
            raise OutputError("expected to write a file, got 'No space left on device'; try another output folder")
        return Parcel.of(parcel.parts[0][::-1])

    def _write(self, text: str) -> None:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{os.getpid()} {text}\n")


@dataclass(frozen=True)
class UnloadableTask(EchoTask):
    """Cannot be loaded: with an error, or with the end of the process."""

    dies: bool = False

    def load(self) -> str:
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ModelError("expected a model, got nothing; try testbed/llava")
