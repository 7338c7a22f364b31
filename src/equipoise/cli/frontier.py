"""`equipoise frontier`: which mitigation to ship for one model, and what it costs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equipoise.cli.audit import AttackPictures, DataFolder, Limit, Suites, perturbed_variant
from equipoise.cli.console import print_json, print_table, table, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.attack import AttackOptions
from equipoise.cli.options.audit import RequestOptions
from equipoise.cli.options.audit_target import require_local
from equipoise.cli.options.compute import GradientOptions
from equipoise.cli.options.endpoint import command_line
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.judge import JudgeOptions
from equipoise.cli.options.suites import default_suites, load_suites
from equipoise.cli.options.workers import WorkerOptions
from equipoise.errors import UsageError

if TYPE_CHECKING:
    from equipoise.audit.engine.session import ReportingJudge
    from equipoise.audit.frontier.advice import FrontierAdvice
    from equipoise.audit.frontier.config import FrontierConfig
    from equipoise.audit.frontier.document import Frontier
    from equipoise.data.catalogue import Suite
    from equipoise.data.split_registry import SplitRegistry
    from equipoise.types import Sample

UNFINISHED = 12
"""Exit code where some samples have no reply; that of an audit."""

Mitigations = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        "-w",
        metavar="SPEC",
        help="A mitigation: a spec of --defend; surgical or conditional alone, which are then fitted; +ADAPTER; or a "
        "chain 'SPEC then SPEC'. May be repeated. By default those that fit the model.",
        show_default=False,
    ),
]
Declared = Annotated[
    list[str] | None,
    typer.Option(
        "--tuned-on",
        metavar="SPEC=FILE",
        help="The prompts that a mitigation with a file of its own was tuned on; it is refused where one of them is "
        "related to the test split. May be repeated.",
    ),
]
MinutesBudget = Annotated[
    float | None,
    typer.Option(
        min=0.1, metavar="MINUTES", help="Work on the folder in all; what does not fit is left out and named."
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="Seeds for each mitigation with chance; the rest are measured once.")]
MarginPoints = Annotated[
    float,
    typer.Option(
        min=0.1,
        max=100.0,
        metavar="POINTS",
        help="A mitigation is recommended only where a larger rise of the failure that it does not lower is excluded.",
    ),
]
PictureAttack = Annotated[
    list[str] | None,
    typer.Option("--attack", help="Measure also attacked pictures: refusal, or none.", show_default=False),
]
FrontierFolder = Annotated[
    Path | None, typer.Option("--out", "-o", help="The folder; frontier-MODEL by default.", show_default=False)
]


@with_options
def frontier(
    model: Annotated[
        str,
        typer.Argument(help="As for `audit`: a model with weights, or http://HOST/v1#NAME.", show_default=False),
    ],
    mitigations: Mitigations = None,
    suite: Suites = None,
    data: DataFolder = None,
    attack: PictureAttack = None,
    tuned_on: Declared = None,
    budget: MinutesBudget = None,
    seeds: Seeds = 1,
    margin: MarginPoints = 10.0,
    split_seed: Annotated[int, typer.Option(help="Of the division into selection, development and test.")] = 0,
    limit: Limit = None,
    out: FrontierFolder = None,
    json: o.Json = False,
    judges: JudgeOptions = JudgeOptions(),
    settings: AttackOptions = AttackOptions(steps=50),
    attack_pictures: AttackPictures = 3,
    max_new_tokens: o.MaxNewTokens = 64,
    requests: RequestOptions = RequestOptions(),
    compute: GradientOptions = GradientOptions(),
    workers: WorkerOptions = WorkerOptions(),
) -> None:
    """Audit a model plain and under mitigations, on one test split with one judge; show which ones to ship.

    What needs fitting is fitted on the selection split. DIR/frontier.html is the page, DIR/frontier.json its numbers.
    The same command goes on where it was stopped; further --with are added to the same folder.

    With --workers N or --ray the prompts are divided among workers; fits and attacks run in this process.
    """
    attacks = attack or ["none"]
    if attacks not in (["none"], ["refusal"]):
        raise UsageError(f"expected --attack refusal or none, got {' and '.join(attacks)}; try refusal")
    from equipoise.audit.frontier.config import FrontierConfig
    from equipoise.audit.frontier.variant import default_variants, parse_variant
    from equipoise.audit.frontier.variant_workers import VariantWorkers
    from equipoise.cli.options.target import find_target, slug
    from equipoise.models.base import OpenModel

    # Everything that can be wrong without a model is checked before one is loaded.
    perturbing = perturbed_variant(settings, attack_pictures) if attacks == ["refusal"] else None
    named = [parse_variant(text, model) for text in mitigations or ()]
    executor, limits = workers.executor, requests.limits
    if executor is not None:
        require_local(model, requests)
    suites = load_suites(tuple(suite or ()), data, limit, settings.seed)
    declared = _declared(tuned_on or ())
    judge = judges.load(compute)
    registry = None if not suites else _registry(suites, split_seed, declared)
    target = find_target(model, compute, requests.api_key_env, requests.endpoint)
    if registry is None:
        suites = load_suites(default_suites(target.name, target.model), None, limit, settings.seed)
        registry = _registry(suites, split_seed, declared)
    is_served = not isinstance(target.model, OpenModel)
    if not named:
        reads = isinstance(target.model, OpenModel) and target.model.reads_pictures
        texts = default_variants(reads_pictures=reads, attacked=perturbing is not None, served=is_served)
        named = [parse_variant(text, model) for text in texts]
    load_judge = partial(_judge_on_suites, judges, compute, frozenset(suite.name for suite in suites))
    config = FrontierConfig(
        target=target,
        registry=registry,
        judge=load_judge(target.model, judge),
        out=out or Path(f"frontier-{slug(model)}"),
        variants=tuple(named),
        load=None if is_served else compute.load,
        perturbing=perturbing,
        declared=declared,
        seeds=seeds,
        budget=None if budget is None else 60 * budget,
        max_new_tokens=max_new_tokens,
        requests=limits,
        command=command_line(),
        workers=None if executor is None else VariantWorkers(executor, compute.load, load_judge, warn),
    )
    _run(config, margin / 100)
    _report(config.out, json, margin / 100)


def _judge_on_suites(
    judges: JudgeOptions,
    compute: GradientOptions,
    suites: frozenset[str],
    _: object,
    judge: ReportingJudge | None = None,
) -> ReportingJudge:
    """The judge with the rules of the suites; loaded here where it is not given."""
    from equipoise.reference.mllm.scene_judge import judge_for_suites

    return judge_for_suites(judge or judges.load(compute), suites)


def _registry(suites: tuple[Suite, ...], seed: int, declared: dict[str, tuple[Sample, ...]]) -> SplitRegistry:
    """The division of the suites, apart from what mitigations say that they were tuned on."""
    from equipoise.data.split_registry import SplitRegistry

    registry = SplitRegistry.of(suites, seed)
    for name, samples in declared.items():
        registry.require_apart(name, samples)
    return registry


def _declared(items: list[str] | tuple[str, ...]) -> dict[str, tuple[Sample, ...]]:
    from equipoise.audit.frontier.declaration import read_declared

    declared = {}
    for item in items:
        # The last `=`: a spec has some of its own.
        name, _, file = item.rpartition("=")
        if not name or not file:
            raise UsageError(f"expected --tuned-on SPEC=FILE, got {item!r}; try --tuned-on surgical:FILE=prompts.txt")
        declared[name] = read_declared(Path(file))
    return declared


def _run(config: FrontierConfig, margin: float) -> None:
    from equipoise.audit.frontier.config import FrontierCallbacks
    from equipoise.audit.frontier.margin import shortages
    from equipoise.audit.frontier.run import run_frontier
    from equipoise.cli.options.progress import AuditProgressBar

    for text in shortages(config.registry.test, margin):
        warn(text)
    with AuditProgressBar() as bar:
        watch = FrontierCallbacks(audit=bar.callbacks(), variant=lambda text: warn(f"frontier: {text}"))
        run_frontier(config, watch)


def _report(folder: Path, json: bool, margin: float) -> None:
    from equipoise.audit.frontier.advice import advise
    from equipoise.audit.frontier.document import NAME, Frontier
    from equipoise.files import write_json
    from equipoise.report.frontier.page import write_frontier_page

    measured = Frontier.read(folder)
    advice = advise(measured, margin)
    document: dict[str, Any] = {**measured.to_json(), "advice": advice.to_json()}
    write_json(folder / NAME, document)
    page = write_frontier_page(measured, advice, folder / "frontier.html")
    if json:
        print_json(document)
    else:
        _print(measured, advice)
        print_table("", f"page    {page}", f"numbers {folder / NAME}")
    if not all(row.complete for row in measured.rows):
        warn("some samples have no reply; the same command asks them again")
        raise typer.Exit(UNFINISHED)


def _print(measured: Frontier, advice: FrontierAdvice) -> None:
    from equipoise.audit.frontier.advice import rank
    from equipoise.audit.gate.descriptions import in_percent

    rows = [
        (
            row.name,
            in_percent(row.needless),
            in_percent(row.harmful),
            "unknown" if row.membership is None else f"{100 * row.membership.share:.0f} %",
            "-" if row.cost.get("latency_ratio") is None else f"{row.cost['latency_ratio']:.2f}x",
            f"{row.cost.get('fit_seconds', 0.0):.0f} s",
        )
        for row in rank(measured.rows)
    ]
    columns = ["mitigation", "needless refusals", "harmful answers", "on the front", "reply time", "fit"]
    print_table(table("", columns, rows), "")
    print_table(advice.headline, *advice.alternatives, f"deploy: {advice.command}")
    for item in measured.left_out:
        print_table(f"left out: {item['name']}: {item['reason']}")
    for text in measured.warnings:
        print_table(f"warning: {text}")
