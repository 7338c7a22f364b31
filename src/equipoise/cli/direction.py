"""`equipoise direction`: find the refusal direction of a model, measure it, and reply with it in place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from equipoise.cli.console import print_json, print_table, table, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import BatchOptions
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.param_types import usable_seed
from equipoise.cli.options.progress import stage_bar
from equipoise.cli.options.prompt_sets import class_prompts
from equipoise.cli.options.workers import WorkerOptions
from equipoise.errors import UsageError
from equipoise.folder_lock import claim_folder

if TYPE_CHECKING:
    from equipoise.steering.candidates import Candidate
    from equipoise.steering.capture_workers import CaptureWorkers
    from equipoise.steering.conditional import ConditionalAddition
    from equipoise.steering.find import DirectionSearch, FindResult
    from equipoise.steering.measurement import DirectionMeasurement
    from equipoise.steering.prompt_sets import OwnSet, PromptSet
    from equipoise.steering.steerable import Steerable

direction = typer.Typer(
    no_args_is_help=True, help="The direction in a model's activations that decides refusals: find, measure, apply."
)

DirectionFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="What `direction find` wrote: a .safetensors file.", show_default=False)
]
Harmful = Annotated[
    Path | None,
    typer.Option(help="Prompts that should be refused: one a line, or a table with a column prompt. Default: ours."),
]
Harmless = Annotated[Path | None, typer.Option(help="Prompts that should be answered, likewise. Default: ours.")]
Pseudo = Annotated[
    Path | None,
    typer.Option("--pseudo-harmful", help="Harmless prompts that only look harmful, likewise. Default: ours."),
]
Contrast = Annotated[
    Path | None,
    typer.Option(
        "--contrast-harmful",
        help="Harmful prompts in the words of --pseudo-harmful, whose refusals must stay, likewise. Default: ours.",
    ),
]
Count = Annotated[
    int | None,
    typer.Option("--count", min=16, help="Prompts of each set, at most; all by default.", show_default=False),
]
ReplyTokensOption = Annotated[int, typer.Option("--reply-tokens", min=1, help="Length of the replies that are judged.")]
Keep = Annotated[float, typer.Option(help="Share of the candidates that go through the expensive sweeps; 1 is all.")]
DirectionSeed = Annotated[int, typer.Option(help="Of splits and of random directions.", callback=usable_seed)]

VECTORS: Final = ("refusal", "surgical", "conditional")
"""Names of the files that `direction find` may write."""


@direction.command("find")
@with_options
def find(
    model: o.Model,
    out: o.Out,
    harmful: Harmful = None,
    harmless: Harmless = None,
    pseudo_harmful: Pseudo = None,
    contrast_harmful: Contrast = None,
    count: Count = None,
    keep: Keep = 0.2,
    kl_limit: Annotated[
        float, typer.Option(help="Largest divergence of a direction on prompts that the model answers, in nats.")
    ] = 0.1,
    fpr: Annotated[
        float, typer.Option("--fpr", help="Share of harmless prompts that the condition may steer.")
    ] = 0.025,
    reply_tokens: ReplyTokensOption = 32,
    seed: DirectionSeed = 0,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
    compute: BatchOptions = BatchOptions(),
    workers: WorkerOptions = WorkerOptions(),
) -> None:
    """Find the refusal direction, and what `--defend surgical:` and `--defend conditional:` need.

    Writes refusal.safetensors, surgical.safetensors and conditional.safetensors, each with a JSON file, and find.json
    with every candidate. That no direction is valid is a result as well. The same command goes on after a stop.

    With --workers N or --ray, replies, activations and the scores of candidates are divided among workers, to the same
    last bit; this process loads the model as well.
    """
    _check_shares(keep, fpr, kl_limit)
    from dataclasses import asdict

    from equipoise.files import write_json
    from equipoise.judges.run_judge import identity_of
    from equipoise.steering.find import DirectionSearch, FindSettings, find_direction
    from equipoise.steering.stage_folder import StageFolder
    from equipoise.steering.steerable import Steerable

    sets = {
        "harmful": _prompts(harmful, "harmful", count),
        "harmless": _prompts(harmless, "harmless", count),
        "pseudo_harmful": _prompts(pseudo_harmful, "pseudo_harmful", count),
        "contrast_harmful": _prompts(contrast_harmful, "contrast_harmful", count),
    }
    steerable = Steerable.of(compute.load(model))
    settings = FindSettings(seed=seed, keep=keep, kl_limit=kl_limit, reply_tokens=reply_tokens)
    with (
        claim_folder(out),
        stage_bar() as progress,
        _capture_workers(workers, compute, model, out) as capturing,
    ):
        search = DirectionSearch(steerable, settings, progress=progress, workers=capturing)
        recipe = _recipe(steerable, sets, asdict(settings) | {"judge": identity_of(search.judge)})
        search.stages = StageFolder(out / "stages", recipe, overwrite=overwrite)
        if search.stages.replaced:
            _remove_results(out, [*VECTORS, "find"])
        result = find_direction(search, *sets.values())
        files: dict[str, str] = {}
        document: dict[str, Any] = {"model": steerable.name, "revision": steerable.revision, "recipe": recipe}
        document |= result.to_dict() | {"self_test": asdict(steerable.self_test), "condition": None}
        if result.direction is not None:
            files["refusal"] = str(result.direction.save(out / "refusal.safetensors"))
        conditional, document["added"] = _conditional(search, result, sets, fpr)
        if conditional is not None:
            files["conditional"] = str(conditional.save(out / "conditional.safetensors"))
            _warn_unsupported(conditional)
            document["condition"] = conditional.describe() | dict(conditional.condition.calibration)
        if result.surgical is not None:
            files["surgical"] = str(result.surgical.save(out / "surgical.safetensors"))
        # A vector that this run did not write is one of another run.
        _remove_results(out, set(VECTORS) - set(files))
        document["files"] = files
        write_json(out / "find.json", document)
    if json:
        print_json(document)
        return
    _print_result(result, document["added"], files)


@direction.command("measure")
@with_options
def measure(
    file: DirectionFile,
    model: o.Model,
    out: o.Out,
    harmful: Harmful = None,
    harmless: Harmless = None,
    pseudo_harmful: Pseudo = None,
    count: Count = None,
    coefficient: Annotated[
        list[float] | None, typer.Option(help="Of an addition; may be repeated. By default -1, -0.5, 0.5, 1 and 1.5.")
    ] = None,
    random_directions: Annotated[
        int, typer.Option("--random", min=20, help="Random directions of equal length to compare with.")
    ] = 20,
    reply_tokens: ReplyTokensOption = 32,
    seed: DirectionSeed = 0,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
    compute: BatchOptions = BatchOptions(),
) -> None:
    """Measure a direction: separation by layer, refusals under ablation and addition, a random null, side damage.

    Writes measure.json and measure.html. Give prompts that the direction was not found with. The same command goes on
    after a stop.
    """
    from dataclasses import asdict, replace

    from equipoise.files import write_json
    from equipoise.judges.run_judge import identity_of
    from equipoise.report.direction_page import write as write_page
    from equipoise.steering.direction import Direction
    from equipoise.steering.measure import DirectionMeasurer, MeasureSettings, measure_direction
    from equipoise.steering.openers import RefusalOpeners
    from equipoise.steering.stage_folder import StageFolder
    from equipoise.steering.steerable import Steerable

    loaded = Direction.load(file)
    if "openers" not in loaded.details:
        raise UsageError(f"expected a refusal direction in {file}, got a {loaded.kind} vector; try refusal.safetensors")
    sets = {
        "harmful": _prompts(harmful, "harmful", count),
        "harmless": _prompts(harmless, "harmless", count),
        "pseudo_harmful": _prompts(pseudo_harmful, "pseudo_harmful", count),
    }
    settings = MeasureSettings(random_directions=random_directions, reply_tokens=reply_tokens, seed=seed)
    if coefficient:
        settings = replace(settings, coefficients=tuple(sorted(set(coefficient))))
    steerable = Steerable.of(compute.load(model))
    with claim_folder(out), stage_bar() as progress:
        measurer = DirectionMeasurer(steerable, loaded, sets, settings, progress=progress)
        decides = {"direction": loaded.digest, "judge": identity_of(measurer.judge)}
        recipe = _recipe(steerable, sets, asdict(settings) | decides)
        measurer.stages = StageFolder(out / "stages", recipe, overwrite=overwrite)
        measurement = measure_direction(measurer, RefusalOpeners.from_dict(loaded.details["openers"]))
    shared = [name for name, source in sets.items() if loaded.data.get(name) == source.sha256]
    document = measurement.to_dict() | {"recipe": recipe, "found_with": shared}
    write_json(out / "measure.json", document)
    page = write_page(measurement, out, found_with=shared)
    if json:
        print_json(document | {"page": str(page)})
        return
    _print_measurement(measurement, page)


@direction.command("apply")
@with_options
def apply(
    file: DirectionFile,
    prompt: Annotated[list[str], typer.Argument(help="Prompts.", show_default=False)],
    model: o.Model,
    mode: Annotated[str, typer.Option(help="ablate, add, or conditional (a file of a condition).")] = "ablate",
    coefficient: Annotated[float, typer.Option(help="Times the direction.")] = 1.0,
    max_new_tokens: o.MaxNewTokens = 64,
    json: o.Json = False,
    compute: BatchOptions = BatchOptions(),
) -> None:
    """Reply to prompts without and with a direction in place; nothing is written."""
    names = {"ablate": "steer", "add": "steer", "conditional": "conditional"}
    if mode not in names:
        raise UsageError(f"expected --mode ablate, add or conditional, got {mode!r}; try ablate")
    from equipoise.cli.reply_pairs import print_reply_pairs
    from equipoise.countermeasures.steered_model import steered

    plain = compute.load(model)
    spec = f"{names[mode]}:{file}" + ("" if mode == "conditional" else f",{mode},{coefficient:g}")
    changed = steered(plain, names[mode], str(file), spec, mode=mode, coefficient=coefficient)
    print_reply_pairs(plain, changed, prompt, what=mode, key="steered", max_new_tokens=max_new_tokens, json=json)


def _remove_results(out: Path, names: Iterable[str]) -> None:
    for name in names:
        for suffix in (".safetensors", ".json"):
            (out / name).with_suffix(suffix).unlink(missing_ok=True)


@contextmanager
def _capture_workers(
    options: WorkerOptions, compute: BatchOptions, model: str, out: Path
) -> Iterator[CaptureWorkers | None]:
    """The workers of a search, which end with the `with`; None without any."""
    executor = options.executor
    if executor is None:
        yield None
        return
    from equipoise.execution.shards import ShardStore
    from equipoise.steering.capture_workers import CaptureTask, CaptureWorkers

    store = ShardStore(out / ".shards")
    try:
        with executor.open(CaptureTask(partial(compute.load, model)), store, warn) as group:
            yield CaptureWorkers(group, store)
    finally:
        store.remove_empty()


def _prompts(path: Path | None, own: OwnSet, count: int | None) -> PromptSet:
    return class_prompts(path, own).first(count)


def _check_shares(keep: float, fpr: float, kl_limit: float) -> None:
    if not 0 < keep <= 1 or not 0 < fpr < 1 or not 0 < kl_limit < math.inf:
        raise UsageError(
            f"expected --keep in (0, 1], --fpr in (0, 1) and a finite --kl-limit above 0, got {keep:g}, {fpr:g} and "
            f"{kl_limit:g}; try 0.2, 0.025 and 0.1"
        )


def _recipe(steerable: Steerable, sets: dict[str, PromptSet], settings: dict[str, Any]) -> dict[str, Any]:
    sources = {name: [source.sha256, len(source)] for name, source in sets.items()}
    weights = {"revision": steerable.revision, "dtype": steerable.number_format}
    return weights | {"prompts": sources, "settings": settings}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _verdict(candidate: Candidate) -> str:
    # Candidates are checked from the least bypass on, until one passes.
    if candidate.rejected is not None:
        return candidate.rejected
    return "valid" if candidate.kl is not None else "not checked: one with a lower bypass is valid"


def _conditional(
    search: DirectionSearch, result: FindResult, sets: dict[str, PromptSet], fpr: float
) -> tuple[ConditionalAddition | None, dict[str, Any] | None]:
    """Steering under a condition, and what is known of its direction where that only brings refusals."""
    from equipoise.steering.added_direction import direction_to_add
    from equipoise.steering.conditional import fit_condition
    from equipoise.steering.prompt_sets import own_prompts

    direction, added = direction_to_add(search, result, sets["harmful"], sets["harmless"])
    document = None if added is None else {name: value for name, value in vars(added).items() if name != "direction"}
    if direction is None:
        return None, document
    return fit_condition(
        search.steerable,
        direction,
        sets["harmful"],
        sets["harmless"],
        [own_prompts("ordinary")],
        false_positives=fpr,
        seed=search.settings.seed,
        progress=search.progress,
    ), document


def _warn_unsupported(conditional: ConditionalAddition) -> None:
    """Say where too few harmless prompts stand behind the promise of a condition."""
    from equipoise.stats.thresholds import scores_needed

    threshold = conditional.condition.calibration["threshold"]
    rate, count, confidence = (threshold[name] for name in ("target_rate", "count", "confidence"))
    if not threshold["supported"]:
        needed = scores_needed(rate, confidence)
        warn(
            f"the bound of --fpr {rate:g} does not hold: with {count} harmless prompts for its threshold the condition "
            f"may steer up to {threshold['bound']:.3f} of such prompts ({100 * confidence:g} % confidence); {needed} "
            f"would do, which takes {2 * (needed - count)} more in --harmless, as half of them set the threshold"
        )


def _print_result(result: FindResult, added: dict[str, Any] | None, files: dict[str, str]) -> None:
    scored = [candidate for candidate in result.candidates if candidate.bypass is not None]
    rows = [
        (c.layer, c.position, f"{c.auroc:.3f}", *map(_number, (c.bypass, c.induce, c.kl)), _verdict(c)) for c in scored
    ]
    if rows:
        columns = ["layer", "position", "AUROC", "bypass", "induce", "KL", "verdict"]
        print_table(table("candidates, best separated first", columns, rows))
    print_table(*(f"{name}: {value}" for name, value in result.counts.items()))
    if result.direction is None:
        print_table(f"no valid direction: {result.reason}")
        if added is not None and added["reason"]:
            print_table(f"none to add either: {added['reason']}")
        elif added is not None:
            print_table(
                f"one to add {added['coefficient']:g} times under a condition: {added['refused']} of "
                f"{added['prompts']} prompts that the model answers are then refused"
            )
    else:
        cosine = result.direction.details["split_half_cosine"]
        print_table(
            f"direction at layer {result.direction.layer}, position {result.direction.position}, length "
            f"{result.direction.norm:.3g}, split-half cosine {cosine:.3f}"
        )
    if result.surgical_reason:
        print_table(f"no surgical vector: {result.surgical_reason}")
    print_table(*(f"{name}: {path}" for name, path in files.items()))


def _print_measurement(measurement: DirectionMeasurement, page: Path) -> None:
    names = list(measurement.counts)
    rows = [
        (part.name, *(str(part.rates[name]) for name in names)) for part in (*measurement.conditions, *measurement.dose)
    ]
    print_table(table("refused", ["edit", *names], rows))
    for null in measurement.null:
        print_table(
            f"{null.name}: {null.plain:.2f} plain, {null.value:.2f} with the direction; {null.stronger} of "
            f"{len(null.random)} random directions are at least as strong (p = {null.p:.3f})"
        )
    for part in measurement.entropies:
        print_table(
            f"cross-entropy of {part.name}: {part.plain:.3f} plain, {part.ablated:.3f} ablated, {part.added:.3f} added"
        )
    print_table(f"page: {page}")
