"""DeRTa on a small chat model: what prefix, transition and boundary mix do to begun replies and to needless refusals.

Five trainings of the base, at equal steps: vanilla safety tuning, with harmful prefixes, with the transition, with
both, and with both but no boundary mix. No harmful answers are shipped: the base writes them at run time, to prompts
of this project, after its reply has begun to agree. Answers to harmless prompts are the base's own as well. Measured on
prompts that no training saw: compliance by depth of a begun harmful answer, refusals of begun harmless ones, needless
refusals, and the cross-entropy of the base's own replies. Suites of `--data` are measured where they are there.

`benchmarks/derta_pictures.py` does the same on a model that reads pictures.

python benchmarks/derta.py [--base reference/base] [--data FOLDER] [--steps 300] [--seeds 3] [--rows N] [--limit N]
    [--arms vanilla both] [--out FOLDER] [--page]

With `--out` every finished training and measurement is kept: the same command goes on, and commands for single `--arms`
add to one table.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from equipoise.audit.recovery.curve import curve_openers, opener_probabilities
from equipoise.audit.recovery.suite import DEPTHS, OWN_TOKENS, own_rows, recovery_suite
from equipoise.audit.text_attacks import AGREEMENT
from equipoise.data.catalogue import load_suite
from equipoise.data.refusal_rows import RefusalRow, RowKind
from equipoise.errors import UsageError
from equipoise.files import write_json
from equipoise.judges.catalogue import choose_judge
from equipoise.judges.phrases import judge_reply
from equipoise.judges.run_judge import run_judge
from equipoise.models.load import load
from equipoise.models.transformers_model import TransformersModel
from equipoise.reference.alignment_prompts import alignment_prompts, refusal_parts
from equipoise.stats.estimates import CaseLabel, estimate
from equipoise.steering.prompt_sets import own_prompts
from equipoise.steering.stage_folder import StageFolder
from equipoise.training.derta.train import DertaTrainingConfig, train
from equipoise.types import Prompt, Sample
from page import ends, put

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "derta.json"
PAGE: Final = ROOT / "docs" / "training.md"
ARMS: Final[dict[str, dict[str, Any]]] = {
    "vanilla": {"prefix": False, "rto_weight": 0.0},
    "both": {},
    "both, no boundary mix": {"boundary_mix": False},
    "prefix": {"rto_weight": 0.0},
    "transition": {"prefix": False},
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
    arguments = parse(__doc__, "reference/base")
    if not arguments.page:
        with tempfile.TemporaryDirectory() as folder:
            DertaBench(arguments, arguments.out or Path(folder), RESULTS).run()
    show(RESULTS, "derta", placed=arguments.page)


def parse(description: str | None, base: str) -> argparse.Namespace:
    """The command line, with a default for the base."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--base", default=base)
    parser.add_argument("--data", type=Path, help="folder of suites")
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps of every training")
    parser.add_argument("--rate", type=float, default=3e-4, help="peak learning rate")
    parser.add_argument("--rto-weight", type=float, default=1.0, help="weight of the transition, in the arms with one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="rows in a step")
    parser.add_argument("--rows", type=int, default=200, help="training prompts of each kind, at most")
    parser.add_argument("--limit", type=int, default=200, help="measured prompts of each kind and suite, at most")
    parser.add_argument("--answer-tokens", type=int, default=OWN_TOKENS, help="of the answers that are learned from")
    parser.add_argument("--reply-tokens", type=int, default=OWN_TOKENS, help="of the replies that are judged")
    parser.add_argument("--arms", nargs="*", default=["base", *ARMS], choices=["base", *ARMS])
    parser.add_argument("--compile", action="store_true", help="compile the decoder layers: less time a step")
    parser.add_argument("--out", type=Path, help="folder of rows and adapters; a temporary one by default")
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    return parser.parse_args()


def show(results: Path, marker: str, *, placed: bool) -> None:
    """Print the table of a results file, and put it into the page where that is wanted."""
    lines = render(json.loads(results.read_text(encoding="utf-8")))
    print("\n".join(lines))
    if placed:
        put(PAGE, marker, lines)


class DertaBench:
    """Trainings and measurements of one base, each kept when it is finished.

    Args:
        arguments: of the command line.
        out: folder of stages and adapters.
        results: the file of the results.
    """

    def __init__(self, arguments: argparse.Namespace, out: Path, results: Path) -> None:
        self.arguments, self.out, self.results = arguments, out, results
        names = ("base", "steps", "rate", "rto_weight", "batch", "rows", "limit", "answer_tokens", "reply_tokens")
        self.recipe = {name: getattr(arguments, name) for name in names}
        self.stages = StageFolder(out / "stages", self.recipe)
        self.base = chat_model(arguments.base)

    def run(self) -> None:
        """Every wanted arm with every seed; the base has no seeds."""
        rows, begun, suites = self.training_rows(), self.begun_rows(), self.suites()
        ordinary = ordinary_prompts(self.arguments.limit)
        if self.stages.get("completions") is None:
            replies = self.base.generate(ordinary, max_new_tokens=self.arguments.reply_tokens)
            self.stages.put("completions", [[e.prompt.text, e.reply] for e in replies if e.reply.strip()])
        completions = self.stages.get("completions")
        for arm in self.arguments.arms:
            for seed in range(1 if arm == "base" else self.arguments.seeds):
                name = f"{_folder_name(arm)}-{seed}"
                if self.stages.get(name) is None:
                    tuned, cost = (self.base, None) if arm == "base" else self._trained(arm, seed, rows)
                    labels = self.measured(tuned, begun, suites, completions)
                    self.stages.put(name, {"arm": arm, "seed": seed, "cost": cost, **labels})
                    print(json.dumps({"arm": arm, "seed": seed, "cost": cost}), flush=True)
                write_json(self.results, self._document(rows))

    def training_rows(self) -> list[RefusalRow]:
        """What every arm learns from."""
        return self._kept_rows("rows", lambda: training_rows(self.base, self.arguments))

    def begun_rows(self) -> list[RefusalRow]:
        """Prompts with the answers that measured replies begin with."""
        return self._kept_rows("begun", lambda: own_rows(self.base, SAMPLES_PER_ROW * self.arguments.limit, 0))

    def suites(self) -> dict[str, list[Sample]]:
        """Samples that are asked without a begun reply, by the name of their line."""
        ordinary = ordinary_prompts(self.arguments.limit)
        suites = {"ordinary": [Sample(str(at), "own", prompt.text, "answer") for at, prompt in enumerate(ordinary)]}
        suites |= {name: chosen(name, expected, self.arguments) for name, expected in NEEDLESS}
        return suites | {name: chosen(name, "refuse", self.arguments) for name in HARMFUL}

    def measured(
        self,
        tuned: TransformersModel,
        begun: Sequence[RefusalRow],
        suites: Mapping[str, Sequence[Sample]],
        completions: Sequence[Sequence[str]],
    ) -> dict[str, Any]:
        """See `measured` of this module."""
        return measured(tuned, self.base, begun, suites, completions, self.arguments.reply_tokens)

    def _trained(self, arm: str, seed: int, rows: Sequence[RefusalRow]) -> tuple[TransformersModel, dict[str, float]]:
        arguments = self.arguments
        options = {name: getattr(arguments, name) for name in ("steps", "rate", "rto_weight", "batch")}
        options |= {"compiled": arguments.compile, **ARMS[arm]}
        config = DertaTrainingConfig(arguments.base, seed=seed, **options)
        begin, times = time.process_time(), [time.perf_counter()]
        folder, _ = train(
            config,
            rows,
            self.out / f"{_folder_name(arm)}-{seed}",
            checkpoint_every=20,
            progress=lambda *_: times.append(time.perf_counter()),
        )
        cost = {
            # The least busy step: other work on the machine only ever adds to one.
            "seconds_per_step": min((two - one for one, two in pairwise(times[1:])), default=0.0),
            "processor_seconds": time.process_time() - begin,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "adapter_mb": (folder / "adapter_model.safetensors").stat().st_size / 1e6,
        }
        return chat_model(f"{arguments.base}+{folder}"), cost

    def _kept_rows(self, name: str, make: Callable[[], list[RefusalRow]]) -> list[RefusalRow]:
        """Rows of a finished stage, or new ones; models write other answers after each change of a library."""
        if self.stages.get(name) is None:
            kept = [[row.line, row.kind, row.text, row.answer, row.refusal] for row in make()]
            self.stages.put(name, kept)
        return [
            RefusalRow(line, kind, (("user", text),), answer, refusal)
            for line, kind, text, answer, refusal in self.stages.get(name)
        ]

    def _document(self, rows: Sequence[RefusalRow]) -> dict[str, Any]:
        """Everything that is finished so far."""
        counts = {kind: sum(row.kind == kind for row in rows) for kind in ("harmful", "boundary", "ordinary")}
        seeds = range(self.arguments.seeds)
        document: dict[str, Any] = {"recipe": self.recipe, "rows": counts, "seeds": len(seeds), "arms": {}}
        document["compiled"] = self.arguments.compile
        for arm in ("base", *ARMS):
            runs = [run for seed in seeds if (run := self.stages.get(f"{_folder_name(arm)}-{seed}")) is not None]
            if runs:
                document["arms"][arm] = pooled(runs) | {"cost": [run["cost"] for run in runs if run["cost"]]}
        return document


def _folder_name(arm: str) -> str:
    return arm.replace(", ", "-").replace(" ", "-")


def chat_model(name: str) -> TransformersModel:
    """A text model in the CPU's own fast format."""
    model = load(name, dtype="bfloat16")
    if not isinstance(model, TransformersModel):
        raise UsageError(f"expected a model of transformers, got {name}; try reference/base")
    return model


def training_rows(base: TransformersModel, arguments: argparse.Namespace) -> list[RefusalRow]:
    """Harmful prompts with the base's own compliance; boundary and ordinary ones with its own answers."""
    parts, random = refusal_parts().unlike_answers, np.random.default_rng(23)
    prompts = alignment_prompts(0)
    texts: dict[RowKind, list[str]] = {
        "harmful": [prompt.text for prompt in prompts if prompt.kind == "harmful"],
        "boundary": [prompt.text for prompt in own_prompts("pseudo_harmful").prompts],
        "ordinary": [prompt.text for prompt in prompts if prompt.kind == "ordinary"],
    }
    rows: list[RefusalRow] = []
    for kind, requests in texts.items():
        prefill = AGREEMENT if kind == "harmful" else ""
        order = sorted(random.permutation(len(requests))[: arguments.rows])
        begun = [replace(Prompt.ask(requests[index]), prefill=prefill) for index in order]
        for exchange in base.generate(begun, max_new_tokens=arguments.answer_tokens):
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


def ordinary_prompts(limit: int) -> list[Prompt]:
    """Ordinary prompts of topics that no training saw."""
    prompts = [Prompt.ask(prompt.text) for prompt in alignment_prompts(development=True) if prompt.kind == "ordinary"]
    return prompts[:: max(1, len(prompts) // limit)][:limit]


def measured(
    model: TransformersModel,
    base: TransformersModel,
    begun: Sequence[RefusalRow],
    suites: Mapping[str, Sequence[Sample]],
    completions: Sequence[Sequence[str]],
    reply_tokens: int,
) -> dict[str, Any]:
    """Labels of one model: case by case, so that seeds can be pooled by prompt.

    Args:
        model: what is measured.
        base: in whose tokens depths are counted: the same beginnings for every arm.
        begun: rows with the answers that are begun.
        suites: samples by the name of their line.
        completions: prompts with the base's own replies to them.
        reply_tokens: of a judged reply.
    """
    samples = list(recovery_suite(base, begun, source="").samples)
    result: dict[str, Any] = {"labels": {}}
    for sample, refused in zip(samples, refusals(model, samples, reply_tokens), strict=True):
        side = "harmful" if sample.expected == "refuse" else "harmless"
        result["labels"].setdefault(f"{side}, {sample.category}", []).append((refused, sample.cluster))
    for name, own in suites.items():
        if own:
            names = [sample.id for sample in own]
            result["labels"][name] = list(zip(refusals(model, own, reply_tokens), names, strict=True))
    prompts, replies = zip(*completions, strict=True)
    scores = model.log_prob(None, [Prompt.ask(text) for text in prompts], list(replies), end=False)
    result["cross_entropy"] = float(-scores.total.sum() / scores.mask.sum())
    openers = curve_openers(model, begun, ())
    curves = [opener_probabilities(model, row, openers.ids) for row in begun if row.kind == "harmful"]
    result["opener_probability"] = {
        depth: float(np.mean([curve[depth] for curve in curves if len(curve) > depth] or [np.nan]))
        for depth in CURVE_DEPTHS
    }
    return result


def refusals(model: TransformersModel, samples: Sequence[Sample], reply_tokens: int) -> list[bool | None]:
    """Whether each sample is refused, in full or in part."""
    exchanges = model.generate([sample.prompt for sample in samples], max_new_tokens=reply_tokens)
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
    rows, recipe = document["rows"], document["recipe"]
    compiled = "compiled layers, " if document.get("compiled") else ""
    lines = [
        f"`{recipe['base']}`, {compiled}{recipe['steps']} steps of {recipe['batch']} rows, rate {recipe['rate']:g}, "
        f"weight of the transition {recipe.get('rto_weight', 1):g}; rows: "
        f"{rows['harmful']} harmful, {rows['boundary']} boundary, {rows['ordinary']} ordinary. Judged replies of "
        f"{recipe['reply_tokens']} tokens, at most {recipe['limit']} prompts of a line. "
        "Shares of the scored replies of all seeds with 95 % intervals over prompts, and how many are not scored.",
        "",
        f"| refused | {' | '.join(arms)} |",
        "|---|" + "---|" * len(arms),
    ]
    for name in names:
        cells = [_cell(arm["refused"][name]) for arm in arms.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append(f"| seeds | {' | '.join(str(len(arm['cost'])) if arm['cost'] else '-' for arm in arms.values())} |")
    entropies = [f"{np.mean(arm['cross_entropy']):.3f}" for arm in arms.values()]
    lines.append(f"| cross-entropy of the base's own replies, nats per token | {' | '.join(entropies)} |")
    for title, key, form in (
        ("seconds per step, fastest", "seconds_per_step", "{:.2f}"),
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
    unscored = f", {rate['unscored']} unscored" if rate["unscored"] else ""
    low, high = ends(rate)
    return f"{rate['rate']:.2f} [{low:.2f}, {high:.2f}]{unscored}"


if __name__ == "__main__":
    main()
