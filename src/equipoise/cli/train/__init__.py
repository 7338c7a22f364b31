"""`equipoise train`: denoisers, models that withstand perturbations, the guard's detector and detoxifier."""

from __future__ import annotations

import typer

from equipoise.cli.train.adversarial import adversarial
from equipoise.cli.train.detector import detector
from equipoise.cli.train.detoxifier import detoxifier
from equipoise.cli.train.diffusion import diffusion

train = typer.Typer(
    no_args_is_help=True,
    help="Train defences: denoisers, models that withstand refusal perturbations, harm detectors, detoxifiers.",
)
train.command()(diffusion)
train.command()(adversarial)
train.command()(detector)
train.command()(detoxifier)
