"""Progress on stderr: a bar for a person at a terminal, a line per picture elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from equipoise.report.picture_record import PictureRecord

if TYPE_CHECKING:
    from equipoise.attacks.perturbation_result import TraceStep


class PerturbProgress:
    """How far a run is; a context manager."""

    def __init__(self, pictures: int, steps: int) -> None:
        """For so many pictures, of at most so many steps each."""
        self._pictures = pictures
        self._steps = steps
        self._done = 0
        self._name = ""
        self._rate: float | None = None
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        """Show the bar."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.fields[place]}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=self._steps, place=f"0/{self._pictures}")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()

    def start(self, name: str) -> None:
        """The next picture."""
        self._done += 1
        self._name, self._rate = name, None
        if self._bar:
            self._bar.reset(self._task, description=name, place=f"{self._done}/{self._pictures}")

    def say(self, what: str) -> None:
        """What is going on apart from steps."""
        if self._bar:
            self._bar.update(self._task, description=f"{self._name} {what}".strip())

    def step(self, step: TraceStep) -> None:
        """A step of the attack."""
        if step.rate is not None:
            self._rate = step.rate
        if self._bar:
            refused = "" if self._rate is None else f", refused {100 * self._rate:.0f} %"
            self._bar.update(self._task, completed=step.step, description=f"{self._name} loss {step.loss:.3f}{refused}")

    def end(self, record: PictureRecord | None) -> None:
        """The picture is done, or failed where there is no record."""
        if self._bar or record is None:
            return
        rate = record.rate("target")
        print(
            f"{self._done}/{self._pictures} {self._name}: {record.steps} steps, {record.seconds:.1f} s, "
            f"refused {rate.k} of {rate.n}",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def steps_bar(title: str) -> Iterator[Callable[[int, int, float], None]]:
    """A bar on stderr over the steps of one training, with its loss and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title)

        def update(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, total=steps, description=f"{title}  loss {loss:.3f}")

        yield update
