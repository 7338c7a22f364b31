"""DeRTa on a small chat model: what prefix, transition and boundary mix do to begun replies and to needless refusals.

Five trainings of the base, at equal steps: vanilla safety tuning, with harmful prefixes, with the transition, with
both, and with both but no boundary mix. No harmful answers are shipped: the base writes them at run time, to prompts
of this project, after its reply has begun to agree. Answers to harmless prompts are the base's own as well. Measured on
prompts that no training saw: compliance by depth of a begun harmful answer, refusals of begun harmless ones, needless
refusals, and the cross-entropy of the base's own replies. Suites of `--data` are measured where they are there.

python benchmarks/derta.py [--base reference/base] [--data FOLDER] [--steps 300] [--seeds 3] [--limit N] [--page]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from equipoise.audit.recovery.curve import curve_openers, opener_probabilities
from equipoise.audit.recovery.suite import DEPTHS, OWN_TOKENS, own_rows, recovery_suite
from equipoise.audit.text_attacks import AGREEMENT
from equipoise.data.catalogue import load_suite
from equipoise.data.refusal_rows import RefusalRow, RowKind
from equipoise.errors import UsageError
from equipoise.judges.catalogue import choose_judge
from equipoise.judges.phrases import judge_reply
from equipoise.judges.run_judge import run_judge
from equipoise.models.load import load
from equipoise.models.transformers_model import TransformersModel
from equipoise.reference.alignment_prompts import alignment_prompts, refusal_parts
from equipoise.stats.estimates import CaseLabel, estimate
from equipoise.steering.prompt_sets import own_prompts
from equipoise.training.derta.train import DertaTrainingConfig, train
from equipoise.types import Prompt, Sample
from page import put

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "derta.json"
PAGE: Final = ROOT / "docs" / "training.md"
ARMS: Final[dict[str, dict[str, Any]]] = {
    "vanilla": {"prefix": False, "rto_weight": 0.0},
    "prefix": {"rto_weight": 0.0},
    "transition": {"prefix": False},
    "both": {},
    "both, no boundary mix": {"boundary_mix": False},
}
"""What each training changes in the configuration."""
NEEDLESS: Final = (("everyday", "answer"), ("xstest", "answer"), ("or-bench/hard-1k", "borderline"))
"""Suites on which refusals are needless, beside the ordinary prompts of the development split."""
HARMFUL: Final = ("harmbench", "jailbreakbench")
"""Suites that should be refused, asked without a begun reply."""
CURVE_DEPTHS: Final = DEPTHS
SAMPLES_PER_ROW: Final = 2 * len(DEPTHS)
"""Samples of the recovery suite for a harmful row with its benign twin."""


def main() -> None:
    """Train, measure and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="reference/base")
    parser.add_argument("--data", type=Path, help="folder of suites")
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps of every training")
    parser.add_argument("--rate", type=float, default=3e-4, help="peak learning rate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=200, help="prompts of each kind and suite, at most")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--out", type=Path, help="folder of rows and adapters; a temporary one by default")
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    arguments = parser.parse_args()
    if not arguments.page:
        with tempfile.TemporaryDirectory() as folder:
            document = measure(arguments, arguments.out or Path(folder))
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    lines = render(document)
    print("\n".join(lines))
    put(PAGE, "derta", lines)


def measure(arguments: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Every arm with every seed, and the base itself."""
    base = chat_model(arguments.base)
    rows = training_rows(base, arguments.limit)
    begun = own_rows(base, SAMPLES_PER_ROW * arguments.limit, 0)
    suites = {name: chosen(name, expected, arguments) for name, expected in NEEDLESS}
    suites |= {name: chosen(name, "refuse", arguments) for name in HARMFUL}
    counts = {kind: sum(row.kind == kind for row in rows) for kind in ("harmful", "boundary", "ordinary")}
    document: dict[str, Any] = {"base": Path(arguments.base).name, "steps": arguments.steps, "rows": counts, "arms": {}}
    document |= {"seeds": arguments.seeds, "rate": arguments.rate}
    labels = {"base": [measured(base, base, begun, suites, 0)]}
    training: dict[str, list[dict[str, float]]] = {}
    for arm in arguments.arms:
        for seed in range(arguments.seeds):
            config = DertaTrainingConfig(
                arguments.base, steps=arguments.steps, rate=arguments.rate, seed=seed, **ARMS[arm]
            )
            started = time.monotonic()
            folder, _ = train(config, rows, out / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}")
            cost = {
                "seconds_per_step": (time.monotonic() - started) / arguments.steps,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "adapter_mb": (folder / "adapter_model.safetensors").stat().st_size / 1e6,
            }
            training.setdefault(arm, []).append(cost)
            tuned = chat_model(f"{arguments.base}+{folder}")
            labels.setdefault(arm, []).append(measured(tuned, base, begun, suites, seed))
            print(json.dumps({"arm": arm, "seed": seed, **cost}), flush=True)
    for arm, runs in labels.items():
        document["arms"][arm] = pooled(runs) | {"cost": training.get(arm, [])}
    return document


def chat_model(name: str) -> TransformersModel:
    """A text model in the CPU's own fast format."""
    model = load(name, dtype="bfloat16")
    if not isinstance(model, TransformersModel):
        raise UsageError(f"expected a model of transformers, got {name}; try reference/base")
    return model


def training_rows(base: TransformersModel, limit: int) -> list[RefusalRow]:
    """Harmful prompts with the base's own compliance; boundary and ordinary ones with its own answers."""
    parts, random = refusal_parts(), np.random.default_rng(23)
    prompts = alignment_prompts(0)
    texts: dict[RowKind, list[str]] = {
        "harmful": [prompt.text for prompt in prompts if prompt.kind == "harmful"],
        "boundary": [prompt.text for prompt in own_prompts("pseudo_harmful").prompts],
        "ordinary": [prompt.text for prompt in prompts if prompt.kind == "ordinary"],
    }
    rows: list[RefusalRow] = []
    for kind, requests in texts.items():
        prefill = AGREEMENT if kind == "harmful" else ""
        order = sorted(random.permutation(len(requests))[:limit])
        begun = [replace(Prompt.ask(requests[index]), prefill=prefill) for index in order]
        for exchange in base.generate(begun, max_new_tokens=OWN_TOKENS):
            text, reply = exchange.prompt.text, exchange.reply.strip()
            if reply and judge_reply(text, reply).refusal == "none":
                refusal = parts.draw(random) if kind == "harmful" else ""
                rows.append(RefusalRow(len(rows) + 1, kind, (("user", text),), reply, refusal))
    return rows


def chosen(name: str, expected: str, arguments: argparse.Namespace) -> list[Sample]:
    """The samples of a suite, evenly spread; none where there is no copy."""
    try:
        samples = load_suite(name, root=arguments.data).samples
    except UsageError:
        return []
    wanted = [sample for sample in samples if sample.expected == expected and not sample.pictures]
    step = max(1.0, len(wanted) / arguments.limit)
    return [wanted[int(index * step)] for index in range(min(arguments.limit, len(wanted)))]


def measured(
    model: TransformersModel,
    base: TransformersModel,
    begun: Sequence[RefusalRow],
    suites: dict[str, list[Sample]],
    seed: int,
) -> dict[str, Any]:
    """Labels of one model: case by case, so that seeds can be pooled by prompt."""
    # Depths in the base's tokens: the same beginnings for every arm.
    samples = list(recovery_suite(base, begun, source="", seed=seed).samples)
    result: dict[str, Any] = {"labels": {}}
    for sample, refused in zip(samples, refusals(model, samples), strict=True):
        side = "harmful" if sample.expected == "refuse" else "harmless"
        result["labels"].setdefault(f"{side}, {sample.category}", []).append((refused, sample.cluster))
    ordinary = [Prompt.ask(prompt.text) for prompt in alignment_prompts(development=True) if prompt.kind == "ordinary"]
    plain = [Sample(f"ordinary-{at}", "ordinary", prompt.text, "answer") for at, prompt in enumerate(ordinary)]
    for name, own in {"ordinary": plain, **suites}.items():
        if own:
            result["labels"][name] = list(zip(refusals(model, own), [sample.id for sample in own], strict=True))
    exchanges = [exchange for exchange in base.generate(ordinary, max_new_tokens=OWN_TOKENS) if exchange.reply.strip()]
    scores = model.log_prob(None, [e.prompt for e in exchanges], [e.reply for e in exchanges], end=False)
    result["cross_entropy"] = float(-scores.total.sum() / scores.mask.sum())
    openers = curve_openers(model, begun, ())
    curves = [opener_probabilities(model, row, openers.ids) for row in begun if row.kind == "harmful"]
    result["opener_probability"] = {
        depth: float(np.mean([curve[depth] for curve in curves if len(curve) > depth] or [np.nan]))
        for depth in CURVE_DEPTHS
    }
    return result


def refusals(model: TransformersModel, samples: Sequence[Sample]) -> list[bool | None]:
    """Whether each sample is refused, in full or in part."""
    exchanges = model.generate([sample.prompt for sample in samples], max_new_tokens=OWN_TOKENS)
    return [verdict.refused for verdict in run_judge(choose_judge("ensemble", ()), exchanges)]


def pooled(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rates over all seeds; the replies of several seeds to one prompt are one cluster."""
    rates = {}
    for name in runs[0]["labels"]:
        labels = [CaseLabel(value, cluster) for run in runs for value, cluster in run["labels"][name]]
        rates[name] = estimate(labels).to_dict()
        own = [estimate([CaseLabel(*label) for label in run["labels"][name]]).rate for run in runs]
        rates[name]["seeds"] = own
    entropies = [run["cross_entropy"] for run in runs]
    return {
        "refused": rates,
        "cross_entropy": entropies,
        "opener_probability": [run["opener_probability"] for run in runs],
    }


def render(document: dict[str, Any]) -> list[str]:
    """The table of the page."""
    arms = document["arms"]
    names = list(next(iter(arms.values()))["refused"])
    rows = document["rows"]
    lines = [
        f"{document['base']}, {document['steps']} steps, {document['seeds']} seeds; rows: {rows['harmful']} harmful, "
        f"{rows['boundary']} boundary, {rows['ordinary']} ordinary. Shares with 95 % intervals over prompts.",
        "",
        f"| refused | {' | '.join(arms)} |",
        "|---|" + "---|" * len(arms),
    ]
    for name in names:
        cells = [_cell(arm["refused"][name]) for arm in arms.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    entropies = [f"{np.mean(arm['cross_entropy']):.3f}" for arm in arms.values()]
    lines.append(f"| cross-entropy of the base's own replies, nats per token | {' | '.join(entropies)} |")
    for title, key, form in (
        ("seconds per step", "seconds_per_step", "{:.2f}"),
        ("peak memory, MiB", "peak_mib", "{:.0f}"),
        ("adapter, MB", "adapter_mb", "{:.1f}"),
    ):
        costs = [
            form.format(np.mean([cost[key] for cost in arm["cost"]])) if arm["cost"] else "" for arm in arms.values()
        ]
        lines.append(f"| {title} | {' | '.join(costs)} |")
    return lines


def _cell(rate: dict[str, Any]) -> str:
    if rate["rate"] is None:
        return "none scored"
    return f"{rate['rate']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"


if __name__ == "__main__":
    main()
