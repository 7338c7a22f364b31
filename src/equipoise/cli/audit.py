"""`equipoise audit`: both failures of a model on one page."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import print_json, print_table, table, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.attack import AttackOptions
from equipoise.cli.options.audit import RequestOptions
from equipoise.cli.options.compute import GradientOptions
from equipoise.cli.options.endpoint import command_line
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.judge import JudgeOptions
from equipoise.cli.options.param_types import ATTACK
from equipoise.cli.options.suites import HELP as SUITE_HELP
from equipoise.cli.options.suites import default_suites, load_suites
from equipoise.cli.options.workers import WorkerOptions
from equipoise.cli.report import open_with_summary
from equipoise.errors import UsageError

if TYPE_CHECKING:
    from equipoise.audit.engine.session import CollectionOutcome
    from equipoise.audit.perturbed_variant import PerturbedVariantConfig
    from equipoise.audit.recovery.begun_replies import BegunReplies
    from equipoise.audit.recovery.depths import RecoverySummary
    from equipoise.audit.run import AuditConfig
    from equipoise.audit.summary import AuditRates, AuditSummary, VariantSummary
    from equipoise.audit.text_attacks import TextAttack
    from equipoise.audit.warnings import AuditWarning
    from equipoise.stats.estimates import Estimate

DEFAULT_MODEL = "testbed/llava"
DEFAULT_BYSTANDER = "testbed/internvl"
UNFINISHED = 12
"""Exit code of an audit in which some samples have no reply."""
FIRST_WARNINGS = ("unreached", "silent")
"""Kinds of warnings that say that the numbers are not about the model; they stand before the numbers."""
MAX_LETTERS = 240
"""Characters of a server's text that are printed."""
MAX_REASONS = 3
"""Texts of servers, and reasons for being unscored, that are printed for each variant."""
COLUMNS = ("refused what is safe", "answered what is harmful", "right answers")

Target = Annotated[
    str | None,
    typer.Argument(
        help="testbed/NAME, reference/NAME, a folder or .gguf file, ORG/NAME or ORG/NAME@REVISION of the model hub; "
        "http://HOST/v1#NAME for a served one; inspect:PROVIDER/NAME for any that inspect knows. By default "
        "testbed/llava, attacked too.",
        show_default=False,
    ),
]
Suites = Annotated[
    list[str] | None,
    typer.Option(
        "--suite",
        "-s",
        help=SUITE_HELP,
        show_default=False,
    ),
]
AuditBystanders = Annotated[
    list[str] | None,
    typer.Option(
        "--bystander",
        "-b",
        help="A model that is not attacked: does it refuse the attacked pictures as well? May be repeated; "
        "testbed/internvl where no MODEL is given.",
        rich_help_panel=ATTACK,
    ),
]

DataFolder = Annotated[
    Path | None,
    typer.Option(help="Folder that holds suites by name.", envvar="EQUIPOISE_DATA", show_default=False),
]
AttackNames = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        help="Measure also under an attack: refusal (perturbed pictures), prefill (the reply has begun to agree), "
        "completing (no chat template), or none. May be repeated.",
        show_default=False,
    ),
]
AttackPictures = Annotated[
    int, typer.Option("--attack-pictures", min=1, help="How many pictures to attack.", rich_help_panel=ATTACK)
]
Against = Annotated[
    Path | None, typer.Option(help="The folder of an earlier audit to compare with.", show_default=False)
]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many samples of each suite.")]
RunFolder = Annotated[
    Path | None, typer.Option("--out", "-o", help="The run folder; audit-MODEL by default.", show_default=False)
]
OverwriteRun = Annotated[bool, typer.Option("--overwrite", help="Lose the run that the folder holds.")]


@with_options
def audit(
    model: Target = None,
    suite: Suites = None,
    data: DataFolder = None,
    attack: AttackNames = None,
    defend: o.Defend = None,
    against: Against = None,
    limit: Limit = None,
    out: RunFolder = None,
    json: o.Json = False,
    overwrite: OverwriteRun = False,
    judges: JudgeOptions = JudgeOptions(),
    settings: AttackOptions = AttackOptions(steps=50),
    attack_pictures: AttackPictures = 3,
    bystander: AuditBystanders = None,
    max_new_tokens: o.MaxNewTokens = 64,
    requests: RequestOptions = RequestOptions(),
    compute: GradientOptions = GradientOptions(),
    workers: WorkerOptions = WorkerOptions(),
) -> None:
    """Ask a model what it should answer and what it should refuse; put both failures on one page.

    DIR/report.html is the page, DIR/summary.json its numbers. The same command again goes on where a run was stopped.

    With --defend the defended model is asked as well, and with an attack also about pictures attacked through the
    defence, as an attacker who knows it would.

    With --workers N or --ray the prompts to a local model are divided among workers; the numbers are the same, and a
    worker that dies costs time only. A served model takes --connections instead.
    """
    from equipoise.audit.recovery.begun_replies import BegunReplies
    from equipoise.audit.run import AuditConfig
    from equipoise.cli.options.audit_target import TargetChoice, clear_run, open_target
    from equipoise.cli.options.target import slug
    from equipoise.countermeasures.catalogue import parse

    # Everything that can be wrong without a model is checked before one is loaded.
    is_attacked, text_attacks = chosen_attacks(attack, model)
    perturbing = perturbed_variant(settings, attack_pictures)
    limits = requests.limits
    for spec in defend or ():
        parse(spec)
    folder = out or Path(f"audit-{slug(model or DEFAULT_MODEL)}")
    specs = tuple(suite or ())
    suites = load_suites(specs, data, limit, settings.seed)
    begun = BegunReplies.of_specs(specs)
    bystanders = bystander or ([DEFAULT_BYSTANDER] if model is None else [])
    names = tuple(suite.name for suite in suites)
    choice = TargetChoice(model or DEFAULT_MODEL, tuple(defend or ()), names, judges, requests, compute)
    # An attack on pictures, and the model's own answers, need gradients or probabilities here.
    with open_target(choice, workers.executor, folder, overwrite=overwrite, here=is_attacked or bool(begun)) as loaded:
        target = loaded.target
        if not suite:
            specs = default_suites(target.name, target.model or target.on_workers)
            suites = load_suites(specs, None, limit, settings.seed)
        if begun is not None:
            suites = (*suites, begun.suite(target.model, limit, settings.seed))
        plain = replace(compute, chat_template=None)
        config = AuditConfig(
            target=target,
            suites=suites,
            judge=loaded.judge,
            out=folder,
            perturbing=perturbing if is_attacked else None,
            bystanders=tuple(plain.load(name) for name in bystanders) if is_attacked else (),
            text_attacks=text_attacks,
            defended=loaded.defended,
            workers=loaded.workers,
            max_new_tokens=max_new_tokens,
            command=command_line(),
            **limits,
        )
        if overwrite:
            clear_run(folder)
        _print_notes(config)
        outcome = _run(config)
    if begun is not None:
        _write_curve(begun, config)
    _report(config.out, against, outcome, json)


def chosen_attacks(names: list[str] | None, model: str | None) -> tuple[bool, tuple[TextAttack, ...]]:
    """Whether pictures are attacked (where that was chosen, and for the default model), and the attacks on texts.

    Raises:
        UsageError: there is no such attack, one is named twice, or `none` beside others.
    """
    from equipoise.audit.text_attacks import TEXT_ATTACKS

    given = names or (["refusal"] if model is None else [])
    for name in given:
        if name not in ("none", "refusal", *TEXT_ATTACKS):
            expected = ", ".join(("refusal", *TEXT_ATTACKS))
            raise UsageError(f"expected an attack of {expected} or none, got {name!r}; try refusal")
    if len(given) > len(set(given)) or ("none" in given and len(given) > 1):
        raise UsageError(f"expected each attack once, and none alone, got {' and '.join(given)}; try leaving one out")
    return "refusal" in given, tuple(name for name in TEXT_ATTACKS if name in given)


def perturbed_variant(settings: AttackOptions, pictures: int) -> PerturbedVariantConfig:
    """The attack of an audit, from its options."""
    from equipoise.audit.perturbed_variant import PerturbedVariantConfig

    return PerturbedVariantConfig(
        epsilon=settings.largest_change,
        steps=settings.steps,
        pictures=pictures,
        seed=settings.seed,
        max_seconds=settings.max_seconds,
    )


def _print_notes(config: AuditConfig) -> None:
    for suite in config.suites:
        for note in suite.notes:
            print(f"{suite.name}: {note}", file=sys.stderr, flush=True)


def _run(config: AuditConfig) -> CollectionOutcome:
    from equipoise.audit.run import audit
    from equipoise.cli.options.progress import AuditProgressBar

    with AuditProgressBar() as bar:
        return audit(config, bar.callbacks())


def _write_curve(begun: BegunReplies, config: AuditConfig) -> None:
    from equipoise.audit.records import AuditRun

    why_none = begun.write_curve(config.target.model, AuditRun.open(config.out))
    if why_none:
        warn(why_none)


def _report(folder: Path, against: Path | None, outcome: CollectionOutcome, json: bool) -> None:
    from equipoise.report.audit.page import write_report
    from equipoise.report.audit.replies import replies_name

    run, cases, summary = open_with_summary(folder, against)
    numbers = summary.save(folder)
    page = write_report(run, summary, folder / "report.html", cases=cases)
    if json:
        print_json(summary.to_json())
    else:
        print_summary(summary)
        print_table("", f"report  {page}", f"replies {replies_name(page)}", f"numbers {numbers}")
    for warning in summary.warnings if json else ():
        if warning.kind in FIRST_WARNINGS:
            warn(f"{warning.variant}: {warning.text}")
    if outcome.fatal:
        warn(f"stopped early: {outcome.fatal}")
    for note in outcome.notes:
        warn(note)
    if outcome.accepted:
        warn(f"{outcome.accepted} samples failed for good and count as unscored")
    if not summary.complete:
        warn(f"{outcome.failed + outcome.not_sent} samples have no reply; the same command asks them again")
        raise typer.Exit(UNFINISHED)


def print_summary(summary: AuditSummary) -> None:
    """A table with a row for each variant, and below it for each of its suites: always both failures.

    Warnings that the model was not reached stand before it; texts of servers, and other warnings, after it.
    """
    warnings = summary.warnings
    for warning in warnings:
        if warning.kind in FIRST_WARNINGS:
            print_table(f"WARNING: {_scope(warning)}{warning.text}")
    rows = []
    for name, variant in summary.variants.items():
        rows.append((name, *_rate_columns(variant.rates)))
        if len(variant.suites) > 1:
            rows += [(f"  {suite}", *_rate_columns(inner.rates)) for suite, inner in variant.suites.items()]
    print_table(table("", ["", *COLUMNS], rows))
    print_table("rate [95 % interval] count; unscored replies are on neither side")
    for name, variant in summary.variants.items():
        if variant.noise:
            print_table(f"{name} is without {', '.join(variant.noise)}, which is noise here")
    for name, recovery in summary.recovery.items():
        _print_recovery(name, recovery)
    for name, variant in summary.variants.items():
        _print_server_texts(name, variant)
    for warning in warnings:
        if warning.kind not in FIRST_WARNINGS:
            print_table(f"warning: {_scope(warning)}{warning.text}")


def _print_recovery(variant: str, recovery: RecoverySummary) -> None:
    rows = [
        (f"depth {rates.depth}", _brief(rates.recovered), _brief(rates.needless), _brief(rates.harmful))
        for rates in recovery.depths
    ]
    columns = [f"begun replies, {variant}", "harmful ones broken off", "harmless ones broken off", COLUMNS[1]]
    print_table(table("", columns, rows))
    if recovery.doubt:
        print_table(f"warning: {variant}: {recovery.doubt}")


def _rate_columns(rates: AuditRates) -> tuple[str, str, str]:
    return _brief(rates.needless_refusal), _brief(rates.harmful_answer), _brief(rates.accuracy)


def _print_server_texts(name: str, variant: VariantSummary) -> None:
    """What servers wrote: only their text tells a content filter from a wrong setting."""
    for text, count in list(variant.server_messages.items())[:MAX_REASONS]:
        print_table(f"{name}: refused on the wire, {count} times: {_printable(text)}")
    if variant.repeated_reply:
        print_table(f"{name}: one reply to {variant.reach.repeated} prompts: {_printable(variant.repeated_reply)}")
    failed = [item for item in variant.unscored_reasons.items() if item[0].startswith("no reply: ")]
    for reason, count in failed[:MAX_REASONS]:
        print_table(f"{name}: {count} times {_printable(reason)}")


def _scope(warning: AuditWarning) -> str:
    """The part of the audit that a warning is about, before its text."""
    names = " ".join(name for name in (warning.variant, warning.suite, warning.rate) if name)
    return f"{names}: " if names else ""


def _printable(text: str) -> str:
    """Text of a stranger in one line, without control characters."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)[:MAX_LETTERS]


def _brief(rate: Estimate) -> str:
    """A rate for a narrow column: `6.0 % [3.5, 10.2] 12/200 +3 unscored`."""
    unscored = f" +{rate.unscored} unscored" if rate.unscored else ""
    review = f", {rate.review} in review" if rate.review else ""
    if rate.rate is None:
        return f"none scored{unscored}" if unscored else "-"
    return f"{100 * rate.rate:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}] {rate.k}/{rate.n}{review}{unscored}"
