"""Progress on stderr: bars for a person at a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from equipoise.cli.console import is_first_process, warn

if TYPE_CHECKING:
    from equipoise.attacks.perturbation_result import TraceStep
    from equipoise.audit.engine.session import CollectionProgress
    from equipoise.audit.run import AuditCallbacks
    from equipoise.perturb.callbacks import PerturbCallbacks
    from equipoise.perturb.record import PictureRecord

LINE_SECONDS = 10.0
"""Least time between two lines of an audit where there is no terminal."""


class _TerminalBar:
    """A context manager with one bar on stderr, or none where stderr is no terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        """Show the bar."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(*self._columns(), console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=None, counter="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()

    def _columns(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _update(self, **fields: Any) -> None:
        if self._bar:
            self._bar.update(self._task, **fields)

    @staticmethod
    def _line(text: str) -> None:
        # One line, whatever a file name holds.
        print(" ".join(text.splitlines()), file=sys.stderr, flush=True)


class PerturbProgressBar(_TerminalBar):
    """How far a run over pictures is: the steps of the picture at hand, and a line for each finished picture.

    With several workers it is one bar over all pictures.
    """

    def __init__(self, steps: int | None) -> None:
        """For at most so many steps a picture; None counts pictures, as several are under way at once."""
        super().__init__()
        self._steps = steps
        self._pictures = self._number = 0
        self._name = ""
        self._rate: float | None = None

    def callbacks(self) -> PerturbCallbacks:
        """What `perturb.run` calls."""
        from equipoise.perturb.callbacks import PerturbCallbacks

        return PerturbCallbacks(
            self._begin, self._start, self._stage, self._step, self._finish, self._note, self._failure
        )

    def _columns(self) -> tuple[Any, ...]:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

        return (
            # `markup=False`: a file name with brackets is no style of rich.
            TextColumn("{task.fields[counter]}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
        )

    def _begin(self, pictures: int) -> None:
        self._pictures = pictures
        total = pictures if self._steps is None else self._steps
        self._update(total=total, counter=f"0/{pictures}")

    def _start(self, name: str) -> None:
        self._number += 1
        self._name, self._rate = name, None
        if self._steps is None:
            # With workers a picture is named when it is done.
            self._update(completed=self._number, description=name, counter=f"{self._number}/{self._pictures}")
        elif self._bar:
            self._bar.reset(self._task, description=name, counter=f"{self._number}/{self._pictures}")

    def _stage(self, text: str) -> None:
        self._update(description=f"{self._name} {text}".strip())

    def _step(self, step: TraceStep) -> None:
        if step.rate is not None:
            self._rate = step.rate
        refused = "" if self._rate is None else f", refused {100 * self._rate:.0f} %"
        self._update(completed=step.step, description=f"{self._name} loss {step.loss:.3f}{refused}")

    def _finish(self, record: PictureRecord) -> None:
        if self._bar:
            return
        rate = record.rate("target")
        self._line(
            f"{self._number}/{self._pictures} {self._name}: {record.steps} steps, {record.seconds:.1f} s, "
            f"refused {rate.k} of {rate.n}"
        )

    def _note(self, text: str) -> None:
        warn(text)

    def _failure(self, image: Path, message: str) -> None:
        warn(message if str(image) in message else f"{image}: {message}")


class AuditProgressBar(_TerminalBar):
    """How far an audit is, one variant after the other, with the time left."""

    def __init__(self) -> None:
        """Nothing is shown yet."""
        super().__init__()
        self._variant = ""
        self._last_line = 0.0

    def callbacks(self) -> AuditCallbacks:
        """What `audit.run.audit` calls."""
        from equipoise.audit.run import AuditCallbacks

        return AuditCallbacks(self._start, self._progress, self._attack, self._elicit)

    def _columns(self) -> tuple[Any, ...]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        return (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )

    def _start(self, variant: str, count: int) -> None:
        self._variant = variant
        if self._bar:
            self._bar.reset(self._task, description=variant, total=count)

    def _progress(self, progress: CollectionProgress) -> None:
        failed = f", {progress.failed} without a reply" if progress.failed else ""
        if progress.at_once is not None:
            failed += f", {progress.at_once} at once as the server is busy"
        if progress.throughput is not None:
            failed += f", {progress.throughput:.3g} replies a second"
        if self._bar:
            text = f"{self._variant}{failed}"
            self._update(completed=progress.done, total=progress.total, description=text)
            return
        is_last = progress.done >= progress.total
        if not is_last and time.monotonic() - self._last_line < LINE_SECONDS:
            return
        self._last_line = time.monotonic()
        left = progress.seconds / progress.done * (progress.total - progress.done) if progress.done else None
        when = "" if left is None or is_last else f", about {left:.0f} s left"
        self._line(f"{self._variant}: {progress.done} of {progress.total}{failed}{when}")

    def _elicit(self, done: int, total: int) -> None:
        if self._bar:
            self._update(completed=done, total=total, description="asking what it refuses")
        elif done >= total:
            self._line(f"asked what it refuses: {total} prompts")

    def _attack(self, number: int, count: int, step: TraceStep | None) -> None:
        if self._bar:
            detail = "" if step is None else f", step {step.step}, loss {step.loss:.3f}"
            self._update(completed=number - 1, total=count, description=f"perturbing{detail}")
        elif step is None:
            self._line(f"perturbing picture {number} of {count}")


@contextmanager
def steps_bar(title: str) -> Iterator[Callable[[int, int, float], None]]:
    """A bar on stderr over the steps of one training, with its loss and the time left."""
    if not is_first_process():
        yield lambda step, steps, loss: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title)

        def update(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, total=steps, description=f"{title}  loss {loss:.3f}")

        yield update


class StageProgressBar(_TerminalBar):
    """How far a run of several stages is, one stage after the other."""

    def __init__(self) -> None:
        """Nothing is shown yet."""
        super().__init__()
        self._stage = ""

    def _columns(self) -> tuple[Any, ...]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        return (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )

    def show(self, stage: str, done: int, total: int) -> None:
        """Show a stage with its units done; without a terminal, a line when it is complete."""
        if self._bar:
            if stage != self._stage:
                self._bar.reset(self._task, description=stage, total=total)
            self._update(completed=done, total=total)
        elif done >= total:
            self._line(f"{stage}: {done}")
        self._stage = stage


@contextmanager
def stage_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr over the stages of a run."""
    with StageProgressBar() as bar:
        yield bar.show
