"""Guards that workers load: their detectors do what a text says, also to the worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.errors import ModelError
from equipoise.guard.checkpoints import checkpoint
from equipoise.guard.decision import HarmScore
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import GuardPipeline
from equipoise.guard.policy import Policy
from tests.guard.fakes import Rewrites, Words


@dataclass
class Obeys(Words):
    """Words in a text are orders; `folder` is where they leave and find their marks."""

    folder: Path = Path()
    together: int = 1

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        for item in evidence:
            self.obey(item.response.split())
        return super().__call__(evidence)

    def prepare(self, evidence: Sequence[GuardInput]) -> None:
        with (self.folder / "prepared").open("a") as file:
            file.write(" | ".join(item.response for item in evidence) + "\n")
        if any("unpreparable" in item.response for item in evidence):
            os.kill(os.getpid(), signal.SIGKILL)

    def obey(self, words: list[str]) -> None:
        order, *names = words
        if order == "die" or (order == "die-once" and not self.mark(names[0])):
            os.kill(os.getpid(), signal.SIGKILL)
        elif order == "hang":
            self.mark(f"{os.getpid()}.hangs")
            time.sleep(600)
        elif order == "raise":
            raise SystemExit(3)
        elif order == "meet":
            # Leaves a mark, and goes on when the other one has left its own.
            self.mark(names[0])
            self.wait_for(names[1])
        elif order == "steps":
            # A long piece of many batches, until somebody says that it is enough.
            self.mark(names[0])
            try:
                while not (self.folder / names[1]).exists():
                    with (self.folder / f"{names[0]}.steps").open("a") as file:
                        file.write(".")
                    time.sleep(0.01)
                    checkpoint()
            finally:
                self.mark(f"{names[0]}.ended")

    def mark(self, name: str) -> bool:
        """Leave a mark; returns whether it was there."""
        known = (self.folder / name).exists()
        (self.folder / name).touch()
        return known

    def wait_for(self, name: str) -> None:
        end = time.monotonic() + 60
        while not (self.folder / name).exists():
            if time.monotonic() > end:
                raise TimeoutError(name)
            time.sleep(0.005)


def gently(text: str) -> str | None:
    """A rewrite without harm."""
    return text.replace("bomb", "cake")


@dataclass(frozen=True)
class ObeyingGuard:
    """Loads such a guard."""

    folder: Path
    together: int = 1

    def __call__(self) -> GuardPipeline:
        return GuardPipeline(Obeys(folder=self.folder, together=self.together), [Rewrites(gently)], Policy())


@dataclass(frozen=True)
class BrokenGuard:
    """Cannot be loaded, or ends its worker."""

    dies: bool

    def __call__(self) -> GuardPipeline:
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ModelError("expected weights, got none; try another folder")
