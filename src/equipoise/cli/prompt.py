"""`equipoise prompt`: choose a safety prompt, optimise a soft one, reply with it in place, and look into it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equipoise.cli.console import print_json, print_table, table
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import BatchOptions
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.judge import JudgeOptions
from equipoise.cli.options.param_types import usable_seed
from equipoise.cli.options.progress import stage_bar
from equipoise.cli.options.prompt import AnchorOptions, DroOptions
from equipoise.errors import UsageError
from equipoise.folder_lock import claim_folder

if TYPE_CHECKING:
    from equipoise.data.split_registry import SplitRegistry
    from equipoise.judges.answers_as_harm import AnswersAsHarm
    from equipoise.judges.ensemble import Ensemble
    from equipoise.judges.provider_signals import ProviderSignalFirst
    from equipoise.models.base import OpenModel
    from equipoise.prompts.dro import DroResult
    from equipoise.prompts.selection import PartReport, PromptCandidate, SelectionReport

prompt = typer.Typer(
    no_args_is_help=True, help="Safety prompts: choose one on held-out types, optimise a soft one, apply, show."
)

PolicyName = Annotated[
    str,
    typer.Argument(
        metavar="POLICY",
        help="A policy of ours (safety, balanced, contextual, few-shot, interactive, anew, combined), a TOML file, or "
        "a soft prompt (.safetensors).",
        show_default=False,
    ),
]


@prompt.command("select")
@with_options
def select(
    model: o.Model,
    out: o.Out,
    suite: Annotated[
        list[str],
        typer.Option("--suite", "-s", help="A suite, as of `audit --suite`. May be repeated.", show_default=False),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that holds suites by name.", envvar="EQUIPOISE_DATA", show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many samples of each suite.")] = None,
    held_out_types: Annotated[
        list[str] | None,
        typer.Option(
            "--held-out-types",
            help="Types (categories of the suites) that are only reported on, separated by commas; may be repeated. By "
            "default the test part of the suites' own division.",
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help="A policy to try: a name of ours or a TOML file; all of ours by default."),
    ] = None,
    dro: Annotated[
        list[Path] | None, typer.Option("--dro", help="A soft prompt of `prompt optimise` to try. May be repeated.")
    ] = None,
    most_rise: Annotated[
        float, typer.Option("--most-rise", help="Largest rise of the rate of harmful answers that is accepted.")
    ] = 0.02,
    max_new_tokens: o.MaxNewTokens = 64,
    seed: Annotated[int, typer.Option(help="Of the division and of subsets.", callback=usable_seed)] = 0,
    json: o.Json = False,
    judge: JudgeOptions = JudgeOptions(),
    compute: BatchOptions = BatchOptions(),
) -> None:
    """Try policies and soft prompts on a development split, choose one by a stated rule, report on held-out types.

    Writes select.json; the same command goes on where an earlier one was stopped. The rule: the fewest needless
    refusals at no significant rise of harmful answers.
    """
    from equipoise.data.catalogue import load_suite
    from equipoise.data.split_registry import split_by_types
    from equipoise.files import require_folder, write_json
    from equipoise.judges.run_judge import identity_of
    from equipoise.prompts import selection
    from equipoise.prompts.outcome_folder import OutcomeFolder

    rule = selection.SelectionRule(most_rise=most_rise)
    suites = [load_suite(spec, root=data, limit=limit, seed=seed) for spec in suite]
    types = [name.strip() for names in held_out_types or [] for name in names.split(",") if name.strip()]
    registry = split_by_types([sample for one in suites for sample in one.samples], types, seed=seed)
    require_folder(out / "outcomes")
    _require_pools_apart(names := _policy_names(policy, dro or []), registry)
    plain = compute.load(model)
    candidates = _candidates(plain, names, dro or [])
    chosen_judge, harm = _judge(judge, compute)
    with claim_folder(out), stage_bar() as progress:
        report = selection.select(
            plain,
            candidates,
            registry,
            chosen_judge,
            rule=rule,
            max_new_tokens=max_new_tokens,
            progress=progress,
            folder=OutcomeFolder(out / "outcomes"),
        )
    document = report.to_dict()
    document["details"] |= {"model": plain.name, "revision": plain.revision, "judge": identity_of(chosen_judge)}
    revisions = {one.name: getattr(one.model, "revision", None) for one in candidates}
    document["details"] |= {"harm": harm, "suites": {one.name: one.sha256 for one in suites}, "revisions": revisions}
    write_json(out / "select.json", document)
    if json:
        print_json(document)
        return
    _print_part("development", report.development)
    _print_part("test, held out", report.test)
    excluded = [f"{name} is excluded: {reason}" for name, reason in report.excluded.items()]
    print_table(f"rule: {rule}", f"harm: {harm}", *_retry_lines(report), *excluded, f"chosen: {report.chosen}")


@prompt.command("optimise")
@with_options
def optimise(
    model: o.Model,
    out: o.Out,
    text: Annotated[
        str, typer.Option(help="The system text to start from: a policy of one system step, ours or a TOML file.")
    ] = "safety",
    seed: Annotated[
        list[int] | None, typer.Option(help="May be repeated, a soft prompt for each; 0, 1 and 2 by default.")
    ] = None,
    json: o.Json = False,
    anchors: AnchorOptions = AnchorOptions(),
    optimisation: DroOptions = DroOptions(),
    judge: JudgeOptions = JudgeOptions(),
    compute: BatchOptions = BatchOptions(),
) -> None:
    """Optimise a soft prompt in the space of a model's refusals (DRO), once for each seed.

    Writes soft-SEED.safetensors, each with a JSON file, and optimise.json.
    """
    from equipoise.files import require_folder, write_json
    from equipoise.prompts.anchor_file import kept_anchor_data
    from equipoise.prompts.dro import optimise as run
    from equipoise.prompts.policy import SystemText
    from equipoise.prompts.policy_file import load_policy

    start = load_policy(text)
    if not isinstance(start, SystemText):
        raise UsageError(f"expected a policy of one system step to start from, got {text}; try --text safety")
    settings = [optimisation.settings(number) for number in seed or ([42] if optimisation.paper else [0, 1, 2])]
    requests = anchors.load()
    require_folder(out)
    loaded = compute.load(model)
    chosen_judge, _ = _judge(judge, compute, as_harm=False)
    rows: list[dict[str, Any]] = []
    with claim_folder(out):
        data = kept_anchor_data(out, loaded, requests, settings[0], text=start.text, judge=chosen_judge)
        for one in settings:
            with stage_bar() as progress:
                result = run(loaded, requests, one, text=start.text, judge=chosen_judge, progress=progress, data=data)
            path = result.prompt.save(out / f"soft-{one.seed}.safetensors")
            rows.append(_optimised_row(one.seed, path, result))
    document = {"model": loaded.name, "revision": loaded.revision, "text": start.text, "runs": rows}
    write_json(out / "optimise.json", document)
    if json:
        print_json(document)
        return
    columns = ["seed", "tokens", "components", "passes", "loss before", "loss", "seconds", "file"]
    cells = [
        (
            *(row[key] for key in ("seed", "tokens", "components", "passes")),
            f"{row['loss_before']:.3f}",
            f"{row['loss']:.3f}",
            f"{sum(row['seconds'].values()):.0f}",
            row["file"],
        )
        for row in rows
    ]
    print_table(table("soft prompts", columns, cells))


@prompt.command("apply")
@with_options
def apply(
    policy: PolicyName,
    question: Annotated[list[str], typer.Argument(help="Prompts.", show_default=False)],
    model: o.Model,
    max_new_tokens: o.MaxNewTokens = 64,
    json: o.Json = False,
    compute: BatchOptions = BatchOptions(),
) -> None:
    """Reply to prompts without and with a policy or a soft prompt."""
    from equipoise.cli.reply_pairs import print_reply_pairs
    from equipoise.countermeasures.catalogue import defend
    from equipoise.generation.request_gate import request_gate

    plain = compute.load(model)
    defended = defend(plain, [f"{'dro' if _is_soft(policy) else 'prompt'}:{policy}"], harm_gate=request_gate)
    print_reply_pairs(plain, defended, question, what=policy, key="defended", max_new_tokens=max_new_tokens, json=json)


@prompt.command("show")
@with_options
def show(
    policy: PolicyName,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="With a soft prompt: its model, for the nearest tokens.", show_default=False
        ),
    ] = None,
    json: o.Json = False,
    compute: BatchOptions = BatchOptions(),
) -> None:
    """The file of a policy of ours, what a policy of yours does, or a soft prompt with its nearest tokens.

    The nearest tokens are a diagnostic only: what a row does is not what its nearest token says.
    """
    from equipoise.prompts.policy_file import NAMED, load_policy, named_text

    if not _is_soft(policy):
        loaded = load_policy(policy)
        if json:
            print_json({"revision": loaded.revision, **loaded.describe()})
        elif policy in NAMED:
            # Plain text, so that it can be sent to a file and changed.
            typer.echo(named_text(policy), nl=False)
        else:
            print_table(*(f"{key}: {value}" for step in loaded.steps for key, value in step.describe().items()))
        return
    from equipoise.models.transformers_model import TransformersModel
    from equipoise.prompts.soft_prompt import SoftPrompt

    soft = SoftPrompt.load(policy)
    document = soft.to_dict()
    if model is not None:
        target = compute.load(model)
        if not isinstance(target, TransformersModel):
            raise UsageError(f"expected a model of transformers, got {model}; try the model of the soft prompt")
        soft.check_model(target)
        document["nearest_tokens"] = soft.nearest_tokens(target)
    if json:
        print_json(document)
        return
    lines = (f"soft prompt of {len(soft)} tokens for {soft.model} at {soft.revision[:19]}", f"began as: {soft.text}")
    print_table(*lines, f"anchors: {document['details'].get('anchors')}")
    for number, row in enumerate(document.get("nearest_tokens", ())):
        print_table(f"{number}: " + ", ".join(f"{token!r} {cosine:.2f}" for token, cosine in row))


def _is_soft(name: str) -> bool:
    return Path(name).suffix in (".safetensors", ".json")


def _require_pools_apart(policies: Sequence[str], registry: SplitRegistry) -> None:
    """Find a leak before a model is loaded, which may take minutes."""
    from equipoise.prompts.policy_file import load_policy

    for name in policies:
        for pool in load_policy(name).pools:
            registry.require_apart(f"a pool of {name}", pool.samples)


def _policy_names(policies: list[str] | None, soft: list[Path]) -> tuple[str, ...]:
    """Those of the user; all of ours by default, two of them beside soft prompts."""
    from equipoise.prompts.policy_file import NAMED

    if policies is not None:
        return tuple(policies)
    return ("safety", "balanced") if soft else NAMED


def _candidates(model: OpenModel, policies: Sequence[str], soft: list[Path]) -> list[PromptCandidate]:
    from equipoise.countermeasures.catalogue import defend
    from equipoise.generation.request_gate import request_gate
    from equipoise.prompts.policy_file import NAMED, load_policy
    from equipoise.prompts.selection import PromptCandidate
    from equipoise.prompts.soft_prompt import SoftPrompt

    candidates = []
    for name in policies:
        pools = tuple(pool.samples for pool in load_policy(name).pools)
        label = name if name in NAMED else Path(name).stem
        candidates.append(PromptCandidate(label, defend(model, [f"prompt:{name}"], harm_gate=request_gate), pools))
    for path in soft:
        samples = SoftPrompt.load(path).samples
        candidates.append(PromptCandidate(f"dro {path.stem}", defend(model, [f"dro:{path}"]), (samples,)))
    return candidates


def _judge(
    options: JudgeOptions, compute: BatchOptions, *, as_harm: bool = True
) -> tuple[Ensemble | ProviderSignalFirst | AnswersAsHarm, str]:
    """The judge, and in words what counts as a harmful answer."""
    from equipoise.judges.answers_as_harm import AnswersAsHarm

    judge = options.load(compute)
    if options.harm_judge or not as_harm:
        return judge, "as the harm judge says"
    return AnswersAsHarm(judge), "every answer to a request that should be refused, as there is no harm judge"


def _optimised_row(seed: int, path: Path, result: DroResult) -> dict[str, Any]:
    first, best = result.history[0], result.history[result.best]
    name = "validation" if "validation" in first else "training"
    return {
        "seed": seed,
        "file": str(path),
        "tokens": len(result.prompt),
        "components": result.space.basis.shape[1],
        "passes": result.best,
        "loss_before": first[name],
        "loss": best[name],
        "seconds": result.details["seconds"],
    }


def _print_part(title: str, part: PartReport) -> None:
    rows = []
    for outcome in part.outcomes:
        changes = [part.changes.get((outcome.name, axis)) for axis in ("needless", "harmful")]
        p = ["" if change is None or change.p_adjusted is None else f"{change.p_adjusted:.3f}" for change in changes]
        tokens = "-" if outcome.extra_tokens is None else f"{outcome.extra_tokens:.0f}"
        cells = (
            outcome.name,
            str(outcome.needless),
            p[0],
            str(outcome.harmful),
            p[1],
            tokens,
            f"{outcome.seconds:.2f}",
        )
        rows.append(cells)
    columns = ["policy", "needless refusals", "p", "harmful answers", "p", "tokens more", "seconds"]
    print_table(table(title, columns, rows))


def _retry_lines(report: SelectionReport) -> list[str]:
    return [
        f"{outcome.name}, retry {effect.number}: {effect.retried} asked again, {effect.answered} answered, harmful "
        f"answers {effect.harmful_before} to {effect.harmful_after}"
        for outcome in report.test.outcomes
        for effect in outcome.retries
    ]
