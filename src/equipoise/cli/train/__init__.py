"""`equipoise train`: denoisers, models that withstand perturbations or begun replies, the guard's two models."""

from __future__ import annotations

import os
import sys

import typer

from equipoise.cli.console import is_first_process
from equipoise.cli.train.adversarial import adversarial
from equipoise.cli.train.derta import derta
from equipoise.cli.train.detector import detector
from equipoise.cli.train.detoxifier import detoxifier
from equipoise.cli.train.diffusion import diffusion

train = typer.Typer(
    no_args_is_help=True,
    help="Train defences: denoisers, models that withstand refusal perturbations or refuse at any position, harm "
    "detectors, detoxifiers.",
)


@train.callback()
def _train() -> None:
    # Of several processes that a launcher started, the first alone speaks.
    if not is_first_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends


train.command()(diffusion)
train.command()(adversarial)
train.command()(derta)
train.command()(detector)
train.command()(detoxifier)
