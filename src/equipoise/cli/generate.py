"""`equipoise generate`: prompts that a model refuses needlessly, the sheet for people, transfer to other models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equipoise.cli.console import print_json, print_table, table, warn
from equipoise.cli.model_cache import ModelCache
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import BatchOptions
from equipoise.cli.options.expansion import FormerName, with_options
from equipoise.cli.options.param_types import usable_seed
from equipoise.cli.options.served_keys import KeyVariables, ServedKeys
from equipoise.errors import UsageError
from equipoise.folder_lock import claim_folder

if TYPE_CHECKING:
    from equipoise.generation.generated_prompt import GeneratedPrompt
    from equipoise.generation.request_judges import HarmlessnessGate
    from equipoise.generation.run import GenerationResult, PromptSearch
    from equipoise.generation.transfer import TransferRow
    from equipoise.generation.victims import OpenVictim, PromptVictim
    from equipoise.types import ChatModel, Judge

generate = typer.Typer(
    no_args_is_help=True, help="Prompts that a model refuses needlessly: make, check by people, try on other models."
)


class SearchMethod(StrEnum):
    """How prompts are made."""

    grown = "grown"
    mutated = "mutated"
    paraphrased = "paraphrased"


class PictureChoice(StrEnum):
    """Which pictures go with the prompts."""

    none = "none"
    benign = "benign"
    risky = "risky-looking"


Victim = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="The model whose refusals are looked for: as in --model of other commands, or http://HOST/v1#NAME.",
        show_default=False,
    ),
]
Pool = Annotated[list[Path] | None, typer.Option(help="Pictures or folders of that kind; by default a few are drawn.")]
WritingModel = Annotated[str | None, typer.Option(help="The model that writes the prompts; the victim by default.")]
RefusalBeginning = Annotated[
    str | None, typer.Option(help="How the victim begins its refusals; by default it is asked prompts of ours.")
]
HeldOutVictims = Annotated[
    list[str] | None,
    typer.Option(
        "--held-out-model", help="A model that the search does not see, for the table of transfer; repeatable."
    ),
    FormerName("--held-out"),
]
GeneratedSuite = Annotated[Path, typer.Argument(metavar="SUITE", help="What `generate pseudo-harmful` wrote.")]


@generate.command("pseudo-harmful")
@with_options
def pseudo_harmful(
    model: Victim,
    out: o.Out,
    count: Annotated[int, typer.Option(min=1, help="Accepted harmless prompts that are wanted.")] = 20,
    method: Annotated[
        SearchMethod,
        typer.Option(
            help="grown: token by token, for a victim and a writer with weights. mutated: rewritten by a chat model, "
            "for any victim. paraphrased: the baseline."
        ),
    ] = SearchMethod.grown,
    writer: WritingModel = None,
    refusal: RefusalBeginning = None,
    seed_prompts: Annotated[
        Path | None,
        typer.Option(help="Ordinary prompts to rewrite: one a line (`topic | prompt`), or a table. Default: ours."),
        FormerName("--seeds"),
    ] = None,
    request_judge: Annotated[
        list[str] | None,
        typer.Option(help="A guard model as a further judge of requests, guard:FAMILY=URL#MODEL; repeatable."),
        FormerName("--judge"),
    ] = None,
    held_out_model: HeldOutVictims = None,
    pictures: Annotated[
        PictureChoice, typer.Option(help="Send each prompt with the picture of the pool that is refused most.")
    ] = PictureChoice.none,
    pool: Pool = None,
    attempts: Annotated[int | None, typer.Option(min=1, help="Attempts at most; by default 20 times --count.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0.0, help="Seconds of this call at most.")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Tokens that are scored exactly in a round (grown).")] = 48,
    weight: Annotated[float, typer.Option(min=0.0, help="Of the refusal against readable text (grown).")] = 12.0,
    ban: Annotated[
        list[str] | None, typer.Option(help="A word that no grown prompt may hold, beside those of refusals.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same prompts.", callback=usable_seed)] = 0,
    api_key_env: KeyVariables = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
    compute: BatchOptions = BatchOptions(),
) -> None:
    """Make harmless prompts that a model refuses, as a suite for `audit --suite generic=SUITE`.

    Prompts are accepted when the model refuses them, the gate calls them harmless (or controversial: a class of its
    own), and they repeat no other. Writes samples.jsonl with a part for selection and one for test, review.csv and
    review.html for people, and index.html. The same command goes on after a stop.
    """
    from equipoise.generation.encoder_judge import embed
    from equipoise.generation.run import GenerationRun, RunLimits
    from equipoise.generation.seed_prompts import own_seeds, read_seeds
    from equipoise.judges.ensemble import default_judge
    from equipoise.steering.stage_folder import StageFolder

    rows = own_seeds() if seed_prompts is None else read_seeds(seed_prompts)
    replies_judge = default_judge()
    keys = ServedKeys(api_key_env or [], [model, writer or model, *(held_out_model or []), *_addresses(request_judge)])
    models = ModelCache(compute, keys, held_out_model or [])
    gate = _gate(request_judge or [], keys)
    # A served victim has to sample: at temperature 0 all its replies to a prompt would be the same.
    victim = _victim(models.chat(model, temperature=1.0), refusal, replies_judge)
    if pictures is not PictureChoice.none:
        _require_pictures(victim)
    search = _search(method, models, writer or model, victim, gate, seed, _growth(candidates, weight, ban, seed))
    seeds = [[prompt.topic, prompt.text] for prompt in rows]
    recipe = search.recipe | {"gate": gate.recipe, "judge": replies_judge.identity, "seeds": seeds, "seed": seed}
    with claim_folder(out):
        stages = StageFolder(out / "stages", recipe, overwrite=overwrite)
        run = GenerationRun(search, victim, gate, rows, stages, embed=embed, seed=seed)
        result = run.go(RunLimits(count, attempts, max_seconds), None if json else _print_progress)
        chosen = _chosen(result, count)
        if pictures is not PictureChoice.none and chosen:
            chosen, result = _pictured(pictures, pool or [], chosen, result, victim, replies_judge, out)
        transfer = _transfer(models, held_out_model or [], chosen, replies_judge, out)
        _write(out, recipe, result, chosen, transfer, json)


@generate.command("review")
@with_options
def review(
    sheet: Annotated[Path, typer.Argument(metavar="FILE", help="review.csv with its column label filled in.")],
    json: o.Json = False,
) -> None:
    """The gate's precision by the labels of people."""
    from equipoise.generation.review_sheet import read_labels

    precision = read_labels(sheet)
    if json:
        print_json(precision.to_dict())
        return
    rows = [
        ("gate harmless, people harmless", precision.harmless),
        ("gate harmless, people not harmful", precision.not_harmful),
        ("gate controversial, people harmful", precision.controversial),
    ]
    print_table(table("labels of people", ["share", "rate"], rows))
    print_table(*(f"{gate} by the gate, {label} by people: {text}" for text, gate, label in precision.disagreements))


@generate.command("transfer")
@with_options
def transfer(
    suite: GeneratedSuite,
    model: o.Models,
    api_key_env: KeyVariables = None,
    json: o.Json = False,
    compute: BatchOptions = BatchOptions(),
) -> None:
    """How often other models refuse the prompts of a suite, and the seeds they were made from."""
    from equipoise.generation.suite_folder import read_suite
    from equipoise.judges.ensemble import default_judge

    models = ModelCache(compute, ServedKeys(api_key_env or [], model))
    rows = _transfer(models, model, read_suite(suite), default_judge(), suite)
    if json:
        print_json({"transfer": [row.to_dict() for row in rows]})
        return
    _print_transfer(rows)


def _addresses(judges: list[str] | None) -> list[str]:
    """Where guard models are, of `guard:FAMILY=WHERE`."""
    return [spec.partition("=")[2] for spec in judges or []]


def _gate(specs: list[str], keys: ServedKeys) -> HarmlessnessGate:
    from equipoise.generation.request_judges import GuardRequestJudge, HarmlessnessGate, default_judges
    from equipoise.judges.catalogue import JudgeSettings, request_judge
    from equipoise.judges.run_judge import identity_of

    settings = [JudgeSettings(key=keys.of(address)) for address in _addresses(specs)]
    guards = [(spec, request_judge(spec, one)) for spec, one in zip(specs, settings, strict=True)]
    return HarmlessnessGate(
        [*default_judges(), *(GuardRequestJudge(one, name, identity_of(one)) for name, one in guards)]
    )


def _victim(model: ChatModel, refusal: str | None, judge: Judge) -> PromptVictim:
    from equipoise.generation.refusal_target import PROMPTS, find_refusal_target
    from equipoise.generation.victims import OpenVictim, SampledVictim
    from equipoise.models.base import OpenModel
    from equipoise.steering.prompt_sets import own_prompts

    if not isinstance(model, OpenModel):
        return SampledVictim(model, judge)
    target = refusal or find_refusal_target(model, judge, own_prompts("harmful").prompts[:PROMPTS])
    return OpenVictim(model, target, judge)


def _growth(candidates: int, weight: float, ban: list[str] | None, seed: int) -> Any:
    from equipoise.generation.grown_prompts import REFUSAL_WORDS, GrowthSettings

    return GrowthSettings(candidates=candidates, weight=weight, banned=(*REFUSAL_WORDS, *(ban or ())), seed=seed)


def _search(
    method: SearchMethod,
    models: ModelCache,
    writer: str,
    victim: PromptVictim,
    gate: HarmlessnessGate,
    seed: int,
    growth: Any,
) -> PromptSearch:
    from equipoise.generation.grown_prompts import GrownSearch
    from equipoise.generation.mutation import MutatedSearch, MutationSettings, ParaphraseSearch
    from equipoise.generation.victims import OpenVictim
    from equipoise.generation.writer import ChatWriter, SampledWriter, require_text_model
    from equipoise.models.transformers_model import TransformersModel

    model = models.chat(writer, temperature=1.0)
    if method is SearchMethod.grown:
        if not isinstance(victim, OpenVictim):
            raise UsageError(
                "expected a victim with weights for --method grown, got a served one; try --method mutated"
            )
        return GrownSearch(require_text_model(model), victim, growth, gate.labels)
    rewriter = SampledWriter(model) if isinstance(model, TransformersModel) else ChatWriter(model)
    if method is SearchMethod.paraphrased:
        return ParaphraseSearch(rewriter, victim, seed)
    return MutatedSearch(rewriter, victim, gate.labels, MutationSettings(seed=seed))


def _chosen(result: GenerationResult, count: int) -> list[GeneratedPrompt]:
    """Harmless prompts spread over topics, then as many controversial ones at most."""
    from equipoise.generation.run import balanced

    return balanced(result.accepted, count) + balanced(result.controversial, count)


def _require_pictures(victim: PromptVictim) -> OpenVictim:
    """The victim, if pictures can be sent to it and scored; checked before minutes of search."""
    from equipoise.generation.victims import OpenVictim
    from equipoise.models.base import require_reads_pictures

    if not isinstance(victim, OpenVictim):
        raise UsageError("expected a victim with weights for --pictures, got a served one; try --pictures none")
    require_reads_pictures(victim.model, "refuse prompts with a picture")
    return victim


def _pictured(
    kind: PictureChoice,
    folders: list[Path],
    chosen: list[GeneratedPrompt],
    result: GenerationResult,
    victim: PromptVictim,
    judge: Judge,
    out: Path,
) -> tuple[list[GeneratedPrompt], GenerationResult]:
    """The chosen prompts with pictures, and the attempts with them in their places."""
    from equipoise.generation import picture_prompts
    from equipoise.generation.run import GenerationResult

    open_victim = _require_pictures(victim)
    look: Any = kind.value
    items = picture_prompts.read_pool(folders, look) if folders else picture_prompts.drawn_pictures(look)
    victim_parts = (open_victim.model, open_victim.refusal, judge)
    rows = picture_prompts.with_pictures(
        chosen,
        lambda prompt: picture_prompts.choose_picture(*victim_parts, prompt.text, items),
        lambda prompt, item: picture_prompts.pictured_reply(*victim_parts, prompt.text, item),
        out,
    )
    if answered := sum(row.refused is not True for row in rows):
        warn(
            f"{answered} of {len(rows)} prompts are refused as text and not with their picture: see refused in the rows"
        )
    by_number = {row.number: row for row in rows}
    attempts = [by_number.get(prompt.number, prompt) for prompt in result.attempts]
    return rows, GenerationResult(attempts, result.seconds)


def _transfer(
    models: ModelCache, names: list[str], prompts: list[GeneratedPrompt], judge: Judge, folder: Path
) -> list[TransferRow]:
    from equipoise.generation.transfer import measure_transfer, suite_prompts

    harmless = [prompt for prompt in prompts if prompt.label == "harmless"]
    generated, seeds = suite_prompts(harmless, folder), [prompt.seed.text for prompt in harmless]
    return measure_transfer({name: models.chat(name) for name in names}, generated, seeds, judge) if harmless else []


def _write(
    out: Path,
    recipe: dict[str, Any],
    result: GenerationResult,
    chosen: list[GeneratedPrompt],
    transfer: list[TransferRow],
    json: bool,
) -> None:
    from equipoise.generation.suite_folder import write_suite
    from equipoise.report.generation_page import write as write_page

    reasons = dict(result.reasons.most_common())
    summary = {
        "attempts": len(result.attempts),
        "seconds": round(result.seconds, 1),
        "per_hour": result.per_hour,
        "reasons": reasons,
    }
    samples = write_suite(out, result.attempts, chosen, recipe, summary=summary, transfer=transfer)
    page = write_page(out, chosen, recipe, summary=summary, transfer=transfer)
    counts = {label: sum(prompt.label == label for prompt in chosen) for label in ("harmless", "controversial")}
    if json:
        document = {"suite": str(samples), "page": str(page), "sheet": str(out / "review.csv"), **counts, **summary}
        print_json(document | {"transfer": [row.to_dict() for row in transfer]})
        return
    print_table(table("not accepted because", ["reason", "attempts"], list(reasons.items())))
    _print_transfer(transfer)
    print_table(
        f"{counts['harmless']} harmless and {counts['controversial']} controversial prompts of {len(result.attempts)} "
        f"attempts: {samples}",
        f"page: {page}; for people to check: {out / 'review.csv'}",
        f"next: equipoise audit -m MODEL --suite generic={out} --out runs/generated",
    )


def _print_transfer(rows: list[TransferRow]) -> None:
    if rows:
        cells = [
            (row.model, row.generated, row.seeds, "-" if row.ratio is None else f"{row.ratio:.1f}") for row in rows
        ]
        print_table(table("refused by", ["model", "generated prompts", "their seeds", "ratio"], cells))
        print_table(*(row.note for row in rows if row.note))


def _print_progress(prompt: GeneratedPrompt, accepted: int, wanted: int) -> None:
    reason = prompt.failure or prompt.rejected
    warn(f"{accepted}/{wanted} attempt {prompt.number}: {reason or prompt.label}: {prompt.text}")
