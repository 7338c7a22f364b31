"""`equipoise guard`: check replies in files, serve, choose thresholds, read the record; one file per verb."""

from __future__ import annotations

import typer

from equipoise.cli.guard.calibrate import calibrate
from equipoise.cli.guard.check import check
from equipoise.cli.guard.key import key
from equipoise.cli.guard.policy import policy
from equipoise.cli.guard.record import record
from equipoise.cli.guard.serve import serve

guard = typer.Typer(
    no_args_is_help=True, help="Guard a model: find harmful replies, rewrite them, check the rewrite, refuse the rest."
)
guard.command()(check)
guard.command()(calibrate)
guard.command()(policy)
guard.command()(serve)
guard.command()(key)
guard.add_typer(record, name="record")
