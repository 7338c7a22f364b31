"""`equipoise protect`: the refusal perturbation for people who own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli import options as o
from equipoise.cli.choosing import QuestionOptions
from equipoise.cli.console import print_json, print_table
from equipoise.cli.loading import ComputeOptions
from equipoise.cli.plan import PerturbConfig, parse_eot
from equipoise.errors import UsageError

if TYPE_CHECKING:
    from equipoise.cli.run import PerturbResults
    from equipoise.report.picture_record import PictureRecord

LIMITS = """What this does not do:
- It works on the models named above. Other models, and later versions of these, will mostly answer as before.
- Strong compression, cropping, a screenshot, a filter or a photo of the screen can undo it.
- It does not change what people see, and it does not hide text around the picture or data in its file.
- Copies that are out already stay as they are. Somebody who knows of it can try to remove it."""


def protect(
    images: o.Images,
    out: o.Out,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A model to be protected from: a folder, or ORG/NAME or ORG/NAME@REVISION of the model hub. May be "
            "repeated. "
            "By default the small reference models that come with equipoise.",
        ),
    ] = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
    ask: o.Ask = None,
    epsilon: o.Epsilon = "8/255",
    steps: o.Steps = 200,
    eot: Annotated[
        str,
        typer.Option(
            help="What the protection shall survive: jpeg,resize,crop,noise, all or none.", rich_help_panel=o.ATTACK
        ),
    ] = "all",
    max_seconds: o.MaxSeconds = None,
    seed: o.Seed = 0,
    max_new_tokens: o.MaxNewTokens = 64,
    device: o.Device = None,
    dtype: o.Type = None,
    quantize: o.Packed = None,
    micro_batch: o.MicroBatch = None,
    gradient_checkpointing: o.Checkpointing = False,
) -> None:
    """Make copies of your pictures about which AI models refuse to talk.

    The copies look almost the same. Each is tried out: the models are asked questions about the original and about
    the copy, and you are told how many were refused.
    """
    from equipoise.attacks.budgets import parse_epsilon
    from equipoise.cli.run import carry_out
    from equipoise.data.pictures import find_pictures

    choice = QuestionOptions(ask=tuple(ask or ()), seed=seed)
    plan = PerturbConfig(
        verb="protect",
        images=tuple(find_pictures(images)),
        models=tuple(model or _shipped()),
        bystanders=(),
        questions=choice.resolve(),
        epsilon=parse_epsilon(epsilon),
        norm=o.Norm.linf,
        steps=steps,
        solver="momentum",
        seed=seed,
        out=out,
        eot=parse_eot(eot),
        max_seconds=max_seconds,
        max_new_tokens=max_new_tokens,
        overwrite=overwrite,
        machine=ComputeOptions(device, dtype, quantize, micro_batch, gradient_checkpointing),
    )
    outcome = carry_out(plan, choice.words())
    if json:
        print_json(outcome.document)
    else:
        _print(outcome, plan, shipped=not model)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _shipped() -> list[str]:
    from equipoise.testbed.reference import list_models

    names = [m.name for m in list_models() if m.role in ("target", "bystander")]
    if not names:
        raise UsageError("expected a model to protect from, got none; try --model ORG/NAME")
    return names


def _print(outcome: PerturbResults, plan: PerturbConfig, *, shipped: bool) -> None:
    for record in outcome.records:
        print_table(*_sentences(record), "")
    if not outcome.records:
        return
    levels = max(record.linf_measured for record in outcome.records) * 255
    print_table(
        f"No colour value was changed by more than {levels:.0f} of 255 levels. Publish the files in {plan.out}, not "
        "the originals.",
        f"To see them side by side, open {outcome.page}",
        "",
        f"Models tried: {', '.join(plan.models)}",
    )
    if shipped:
        print_table("These are small models that come with equipoise for trying it out. Name real ones with --model.")
    print_table("", LIMITS)


def _sentences(record: PictureRecord) -> list[str]:
    lines = [f"{Path(record.image).name} -> {record.file}"]
    for asked in record.asked:
        after, before = asked.perturbed, asked.clean
        unsure = f" ({after.unscored} more replies were unclear)" if after.unscored else ""
        lines.append(
            f"  {asked.model}: {after.k} of {after.n} questions were refused{unsure}; "
            f"about the original, {before.k} of {before.n}."
        )
    rate = record.rate("target")
    if rate.n and rate.k < rate.n / 2:
        lines.append("  This picture is not well protected. Try more --steps or a larger --epsilon, e.g. 16/255.")
    return lines
