"""Options of work over several workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.options.param_types import MACHINE

if TYPE_CHECKING:
    from equipoise.execution.executors import Executor


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Where work runs: in this process unless one of these is given."""

    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that share the work, one for each GPU in turn.", rich_help_panel=MACHINE),
    ] = None
    ray: Annotated[
        str | None,
        typer.Option(
            help="Workers on Ray instead: auto, or the address of a cluster.",
            rich_help_panel=MACHINE,
            show_default=False,
        ),
    ] = None
    gpus_per_worker: Annotated[
        float, typer.Option(min=0.0, help="GPUs of a worker on Ray; 0.5 lets two share one.", rich_help_panel=MACHINE)
    ] = 0.0
    cpus_per_worker: Annotated[
        float, typer.Option(min=0.0, help="Cores that Ray reserves for a worker.", rich_help_panel=MACHINE)
    ] = 1.0
    item_seconds: Annotated[
        float | None,
        typer.Option(help="Seconds after which a worker counts as hung.", rich_help_panel=MACHINE, show_default=False),
    ] = None

    @property
    def executor(self) -> Executor | None:
        """Where work runs; None is this process.

        Raises:
            UsageError: values that do not go together.
            MissingExtraError: Ray is not installed.
        """
        from equipoise.execution.executors import choose_executor

        return choose_executor(
            self.workers,
            self.ray,
            gpus_per_worker=self.gpus_per_worker,
            cpus_per_worker=self.cpus_per_worker,
            item_seconds=self.item_seconds,
        )
