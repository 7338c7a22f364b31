"""`equipoise guard`: check replies in files, choose thresholds, print a policy; one file per verb."""

from __future__ import annotations

import typer

from equipoise.cli.guard.calibrate import calibrate
from equipoise.cli.guard.check import check
from equipoise.cli.guard.policy import policy

guard = typer.Typer(
    no_args_is_help=True, help="Guard a model: find harmful replies, rewrite them, check the rewrite, refuse the rest."
)
guard.command()(check)
guard.command()(calibrate)
guard.command()(policy)
