"""How far an audit is, on stderr: a bar with the time left at a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from equipoise.attacks.perturbation_result import TraceStep
    from equipoise.audit.engine.session import CollectionProgress

EVERY_SECONDS = 10.0
"""Between two lines where there is no terminal."""


class AuditProgressBar:
    """A context manager that shows the variants of an audit one after the other."""

    def __init__(self) -> None:
        """Nothing is shown yet."""
        self._variant = ""
        self._bar: Any = None
        self._task: Any = None
        self._said = 0.0

    def __enter__(self) -> Self:
        """Show the bar."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()

    def variant(self, name: str, count: int) -> None:
        """A variant begins."""
        self._variant = name
        if self._bar:
            self._bar.reset(self._task, description=name, total=count)

    def progress(self, progress: CollectionProgress) -> None:
        """Samples were done."""
        failed = f", {progress.failed} without a reply" if progress.failed else ""
        if self._bar:
            text = f"{self._variant}{failed}"
            self._bar.update(self._task, completed=progress.done, total=progress.total, description=text)
            return
        last = progress.done >= progress.total
        if not last and time.monotonic() - self._said < EVERY_SECONDS:
            return
        self._said = time.monotonic()
        left = progress.seconds / progress.done * (progress.total - progress.done) if progress.done else None
        when = "" if left is None or last else f", about {left:.0f} s left"
        self._say(f"{self._variant}: {progress.done} of {progress.total}{failed}{when}")

    def attack(self, number: int, count: int, step: TraceStep | None) -> None:
        """A step on one of the pictures."""
        if self._bar:
            told = "" if step is None else f", step {step.step}, loss {step.loss:.3f}"
            self._bar.update(self._task, completed=number - 1, total=count, description=f"perturbing{told}")
        elif step is None:
            self._say(f"perturbing picture {number} of {count}")

    @staticmethod
    def _say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
