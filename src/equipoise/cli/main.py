"""The `equipoise` command: `equipoise VERB ...`, one file per verb.

Nothing here or in the verbs' modules imports torch until a verb runs, so that `--help` answers at once.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from equipoise import __version__
from equipoise.cli.ask import ask
from equipoise.cli.audit import audit
from equipoise.cli.certify import certify
from equipoise.cli.compare import compare
from equipoise.cli.console import warn
from equipoise.cli.detect import detect
from equipoise.cli.direction import direction
from equipoise.cli.doctor import doctor
from equipoise.cli.frontier import frontier
from equipoise.cli.gate import gate
from equipoise.cli.generate import generate
from equipoise.cli.guard import guard
from equipoise.cli.judge import judge
from equipoise.cli.options.param_types import refuse_empty_paths
from equipoise.cli.perturb import perturb
from equipoise.cli.power import power
from equipoise.cli.prompt import prompt
from equipoise.cli.protect import protect
from equipoise.cli.reference import reference
from equipoise.cli.rejudge import rejudge
from equipoise.cli.report import report
from equipoise.cli.serve import serve
from equipoise.cli.testbed import testbed
from equipoise.cli.threads import let_waiting_threads_sleep
from equipoise.cli.train import train
from equipoise.errors import EquipoiseError, missing_extra


class Commands(TyperGroup):
    """Turns our own errors into one line and their exit code; bugs keep their traceback."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb of a name, none of whose paths may be empty."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            refuse_empty_paths(command)
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except EquipoiseError as error:
            warn(error)
            raise typer.Exit(error.exit_code) from None
        except ModuleNotFoundError as error:
            missing = missing_extra(error)
            if missing is None:
                raise
            warn(missing)
            raise typer.Exit(missing.exit_code) from None
        except KeyboardInterrupt:
            warn(
                "interrupted; the same audit, frontier, perturb, protect, train, direction, generate or prompt command "
                "goes on from there"
            )
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(audit)
app.command()(ask)
app.command()(serve)
app.command()(perturb)
app.command()(protect)
app.command()(detect)
app.command()(certify)
app.command()(rejudge)
app.command()(report)
app.command()(compare)
app.command()(frontier)
app.command()(gate)
app.command()(power)
app.command()(doctor)
app.add_typer(direction, name="direction")
app.add_typer(generate, name="generate")
app.add_typer(prompt, name="prompt")
app.add_typer(judge, name="judge")
app.add_typer(testbed, name="testbed")
app.add_typer(reference, name="reference")
app.add_typer(train, name="train")
app.add_typer(guard, name="guard")


def _version(wanted: bool) -> None:
    if wanted:
        print("equipoise", __version__)
        raise typer.Exit


@app.callback()
def _equipoise(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Measure, attack and defend both failures of multimodal LLMs: answering what is harmful, refusing what is safe."""
    let_waiting_threads_sleep()


def main() -> None:
    """Run the command line; what the `equipoise` script calls."""
    app()


if __name__ == "__main__":
    main()
