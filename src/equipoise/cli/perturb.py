"""`equipoise perturb`: make models refuse pictures, and measure that they do."""

from __future__ import annotations

from typing import Annotated

import typer

from equipoise.cli import options as o
from equipoise.cli.choosing import QuestionOptions
from equipoise.cli.console import print_json
from equipoise.cli.loading import ComputeOptions
from equipoise.cli.plan import PerturbConfig, parse_eot


def perturb(
    images: o.Images,
    model: o.Models,
    out: o.Out,
    bystander: o.Bystanders = None,
    defend: o.Defend = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
    question: o.Question = None,
    questions: o.QuestionFile = None,
    shadow: Annotated[
        o.Shadow | None,
        typer.Option(
            help="Optimise on our 50 general questions, on wordings similar to the questions given, or on exactly "
            "those. By default exact where questions are given, else general.",
            rich_help_panel=o.QUESTIONS,
        ),
    ] = None,
    ask: o.Ask = None,
    heldout: o.HeldOutFile = None,
    epsilon: o.Epsilon = "8/255",
    norm: Annotated[o.Norm, typer.Option(help="How the change is measured.", rich_help_panel=o.ATTACK)] = o.Norm.linf,
    steps: o.Steps = 100,
    solver: Annotated[
        str,
        typer.Option(
            help="bim, momentum, apgd, or bim-paper, the update of the official code.", rich_help_panel=o.ATTACK
        ),
    ] = "momentum",
    refusal: Annotated[
        str | None,
        typer.Option(
            help="The sentence to aim at; random draws one of ours for each picture. By default that of ours which "
            "the models are likeliest to say anyway.",
            rich_help_panel=o.ATTACK,
        ),
    ] = None,
    eot: Annotated[
        str,
        typer.Option(
            help="What the change shall survive: jpeg,resize,crop,noise, all or none.", rich_help_panel=o.ATTACK
        ),
    ] = "none",
    keep_away: Annotated[
        bool,
        typer.Option("--keep-away", help="Also keep the bystanders' replies as they are.", rich_help_panel=o.ATTACK),
    ] = False,
    max_seconds: o.MaxSeconds = None,
    seed: o.Seed = 0,
    max_new_tokens: o.MaxNewTokens = 64,
    device: o.Device = None,
    dtype: o.Type = None,
    quantize: o.Packed = None,
    micro_batch: o.MicroBatch = None,
    gradient_checkpointing: o.Checkpointing = False,
) -> None:
    """Change pictures a little so that the models refuse harmless questions about them.

    Every changed picture is saved as DIR/NAME.png with its numbers in DIR/NAME.json, read back, and asked about.
    DIR/index.html shows all of them. With --defend the attack is adaptive: it goes through the countermeasures of every
    target, and draws their chance anew at each step.

    The same command again goes on where a run was stopped.
    """
    from equipoise.attacks.budgets import parse_epsilon
    from equipoise.cli.numbers import print_numbers
    from equipoise.cli.run import carry_out
    from equipoise.data.pictures import find_pictures

    choice = QuestionOptions(tuple(question or ()), questions, shadow, tuple(ask or ()), heldout, seed)
    plan = PerturbConfig(
        verb="perturb",
        images=tuple(find_pictures(images)),
        models=tuple(model),
        bystanders=tuple(bystander or ()),
        defences=tuple(defend or ()),
        questions=choice.resolve(),
        epsilon=parse_epsilon(epsilon),
        norm=norm,
        steps=steps,
        solver=solver,
        seed=seed,
        out=out,
        refusal=refusal,
        eot=parse_eot(eot),
        keep_away=keep_away,
        max_seconds=max_seconds,
        max_new_tokens=max_new_tokens,
        overwrite=overwrite,
        machine=ComputeOptions(device, dtype, quantize, micro_batch, gradient_checkpointing),
    )
    outcome = carry_out(plan, choice.words())
    if json:
        print_json(outcome.document)
    else:
        print_numbers(outcome)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)
