"""`equipoise audit`: both failures of a model on one page."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli import options as o
from equipoise.cli.audited import FIRST, print_summary
from equipoise.cli.console import print_json, print_table, warn
from equipoise.cli.loading import ComputeOptions
from equipoise.cli.targets import defended_of, slug, target_of
from equipoise.errors import UsageError

if TYPE_CHECKING:
    from equipoise.audit.engine.session import CollectionOutcome
    from equipoise.audit.run import AuditConfig
    from equipoise.data.catalogue import Suite

DEFAULT_MODEL = "testbed/llava"
DEFAULT_BYSTANDER = "testbed/internvl"
EMBEDDED = ("testbed", "everyday")
PARTIAL = 12
ASKING = "Asking"


def audit(
    model: Annotated[
        str | None,
        typer.Argument(
            help="testbed/NAME, a folder, ORG/NAME or ORG/NAME@REVISION of the model hub; http://HOST/v1#NAME for a "
            "served one; inspect:PROVIDER/NAME for any that inspect knows. By default testbed/llava, attacked too.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            "-s",
            help="NAME, NAME=FOLDER, NAME=hub:ORG/NAME@REVISION, or a file of your own samples. May be repeated. "
            "By default the embedded ones: testbed and everyday.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that holds suites by name.", envvar="EQUIPOISE_DATA", show_default=False),
    ] = None,
    attack: Annotated[
        str | None, typer.Option(help="Measure also on pictures attacked so: refusal, or none.", show_default=False)
    ] = None,
    defend: o.Defend = None,
    against: Annotated[
        Path | None, typer.Option(help="The folder of an earlier audit to compare with.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many samples of each suite.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The run folder; audit-MODEL by default.", show_default=False),
    ] = None,
    json: o.Json = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Lose the run that the folder holds.")] = False,
    harm_judges: Annotated[
        list[str] | None,
        typer.Option(
            "--harm-judge",
            help="Who judges harm: URL#NAME of a served model, or guard:FAMILY=URL#NAME. May be repeated; without one, "
            "harm is scored only where the suite says what a harmful reply states.",
        ),
    ] = None,
    epsilon: o.Epsilon = "8/255",
    steps: o.Steps = 50,
    pictures: Annotated[
        int, typer.Option("--attack-pictures", min=1, help="How many pictures to attack.", rich_help_panel=o.ATTACK)
    ] = 3,
    bystander: Annotated[
        list[str] | None,
        typer.Option(
            "--bystander",
            "-b",
            help="A model that is not attacked: does it refuse the attacked pictures as well? May be repeated; "
            "testbed/internvl where no MODEL is given.",
            rich_help_panel=o.ATTACK,
        ),
    ] = None,
    seed: o.Seed = 0,
    max_new_tokens: o.MaxNewTokens = 64,
    connections: Annotated[
        int | None, typer.Option(min=1, help="Prompts under way at once.", rich_help_panel=ASKING)
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds that one try may take.", rich_help_panel=ASKING)
    ] = None,
    retries: Annotated[
        int,
        typer.Option(min=0, help="Further tries where no reply came; never for a refusal.", rich_help_panel=ASKING),
    ] = 2,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            help="Environment variable that holds the key of the model at an http:// address; EQUIPOISE_API_KEY by "
            "default. Models of inspect: have variables of their own.",
            rich_help_panel=ASKING,
        ),
    ] = None,
    judge_key_env: Annotated[
        str | None,
        typer.Option(help="Environment variable that holds the key of served judges.", rich_help_panel=ASKING),
    ] = None,
    device: o.Device = None,
    dtype: o.Type = None,
    quantize: o.Packed = None,
    micro_batch: o.MicroBatch = None,
    gradient_checkpointing: o.Checkpointing = False,
) -> None:
    """Ask a model what it should answer and what it should refuse; put both failures on one page.

    DIR/report.html is the page, DIR/summary.json its numbers. The same command again goes on where a run was stopped.

    With --defend the defended model is asked as well, and with an attack also about pictures attacked through the
    defence, as an attacker who knows it would.
    """
    if attack not in (None, "none", "refusal"):
        raise UsageError(f"expected an attack of refusal or none, got {attack!r}; try refusal")
    from equipoise.attacks.budgets import parse_epsilon
    from equipoise.countermeasures.catalogue import parse

    largest = parse_epsilon(epsilon)
    for spec in defend or ():
        parse(spec)
    folder = out or Path(f"audit-{slug(model or DEFAULT_MODEL)}")
    suites = _suites(tuple(suite or EMBEDDED), data, limit, seed)
    from equipoise.audit.perturbed_variant import PerturbedVariantConfig
    from equipoise.audit.run import AuditConfig
    from equipoise.cli.judging import harm_judge, key_from
    from equipoise.judges.ensemble import default_judge

    key = key_from(judge_key_env)
    attacked = attack == "refusal" or (attack is None and model is None)
    machine = ComputeOptions(device, dtype, quantize, micro_batch, gradient_checkpointing)
    others = bystander or ([DEFAULT_BYSTANDER] if model is None else [])
    target = target_of(model or DEFAULT_MODEL, machine, api_key_env)
    plan = AuditConfig(
        target=target,
        suites=suites,
        judge=default_judge(harm=[harm_judge(spec, key=key) for spec in harm_judges or ()]),
        out=folder,
        perturbing=PerturbedVariantConfig(largest, steps, pictures, seed) if attacked else None,
        bystanders=tuple(machine.load(name) for name in others) if attacked else (),
        defended=defended_of(target, tuple(defend or ())),
        max_new_tokens=max_new_tokens,
        connections=connections,
        timeout=timeout,
        retries=retries,
        command=shlex.join(["equipoise", *sys.argv[1:]]),
    )
    if overwrite:
        _clear(folder)
    for name, note in ((each.name, note) for each in plan.suites for note in each.notes):
        print(f"{name}: {note}", file=sys.stderr, flush=True)
    outcome = _carry_out(plan)
    _report(plan.out, against, outcome, json)


def _suites(specs: tuple[str, ...], data: Path | None, limit: int | None, seed: int) -> tuple[Suite, ...]:
    from equipoise.data.catalogue import load_suite
    from equipoise.testbed.suite import NAME, load

    return tuple(
        load(limit, seed) if spec == NAME else load_suite(spec, root=data, limit=limit, seed=seed) for spec in specs
    )


def _clear(folder: Path) -> None:
    """Remove a run, and nothing that is not one."""
    import shutil

    from equipoise.audit.records import AuditRun

    if folder.exists() and any(folder.iterdir()):
        AuditRun.open(folder)
        shutil.rmtree(folder)


def _carry_out(plan: AuditConfig) -> CollectionOutcome:
    from equipoise.audit.run import AuditCallbacks, audit
    from equipoise.cli.watching import AuditProgressBar

    with AuditProgressBar() as bar:
        return audit(plan, AuditCallbacks(bar.variant, bar.progress, bar.attack))


def _report(folder: Path, against: Path | None, outcome: CollectionOutcome, json: bool) -> None:
    from equipoise.audit.comparison import compare_baseline
    from equipoise.audit.records import AuditRun
    from equipoise.audit.summary import NAME, summarise
    from equipoise.files import write_json
    from equipoise.report.audit.page import write_report

    run = AuditRun.open(folder)
    summary = summarise(run)
    if against:
        changes = [each.to_dict() for each in compare_baseline(AuditRun.open(against), run)]
        summary["comparisons"] = [*changes, *summary["comparisons"]]
    write_json(folder / NAME, summary)
    page = write_report(run, summary, folder / "report.html")
    if json:
        print_json(summary)
    else:
        print_summary(summary)
        print_table("", f"report  {page}", f"numbers {folder / 'summary.json'}")
    for warning in summary["warnings"] if json else ():
        if warning["kind"] in FIRST:
            warn(f"{warning['about']['variant']}: {warning['text']}")
    if outcome.fatal:
        warn(f"stopped early: {outcome.fatal}")
    if not summary["complete"]:
        warn(f"{outcome.failed + outcome.unasked} samples have no reply; the same command asks them again")
        raise typer.Exit(PARTIAL)
