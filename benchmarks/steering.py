"""The refusal direction of `reference/lm`, and what steering with it does to prompts that it was not found with.

    python benchmarks/steering.py --data FOLDER [--model reference/lm] [--limit 60] [--seeds 3]
    python benchmarks/steering.py --page            # only the tables, from stored results

Directions are found with this project's own prompts, once for each seed of the split. They are measured on public
suites that nothing here has learned from: greedy replies, judged by the default ensemble, Wilson intervals pooled over
the seeds' replies. `full sweep` scores every candidate instead of the pruned ones, for the first seed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from equipoise.data.catalogue import load_suite
from equipoise.data.splits import split
from equipoise.judges.catalogue import choose_judge
from equipoise.judges.run_judge import run_judge
from equipoise.models.load import load
from equipoise.stats.proportions import Rate
from equipoise.steering.conditional import fit_condition
from equipoise.steering.find import DirectionSearch, FindResult, FindSettings, find_direction
from equipoise.steering.interventions import Ablation, Addition
from equipoise.steering.prompt_sets import own_prompts
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt, Verdict
from page import put

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "steering.json"
PAGE: Final = ROOT / "docs" / "steering.md"
REPLY_TOKENS: Final = 32
SUITES: Final = (
    ("HarmBench, standard", "harmbench", "refuse", "standard"),
    ("JailbreakBench, harmful", "jailbreakbench", "refuse", None),
    ("XSTest, unsafe (test types)", "xstest", "refuse", None),
    ("XSTest, safe (test types)", "xstest", "answer", None),
    ("OR-Bench hard", "or-bench/hard-1k", "borderline", None),
    ("ordinary (Alpaca)", "alpaca-harmless", "answer", None),
)
"""Row, suite, expected behaviour, beginning of the category."""


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="reference/lm")
    parser.add_argument("--limit", type=int, default=60, help="prompts of each row, at most")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    if not arguments.page:
        steerable = Steerable.of(load(arguments.model, dtype="float32"))
        rows = {title: prompts(arguments.data, *rest, arguments.limit) for title, *rest in SUITES}
        document = measure(steerable, rows, arguments.seeds)
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    render(json.loads(RESULTS.read_text(encoding="utf-8")))


def prompts(data: Path, suite: str, expected: str, category: str | None, limit: int) -> list[Prompt]:
    """Prompts of a row, evenly spread; of XSTest the test types only."""
    samples = load_suite(suite, root=data).samples
    if suite == "xstest":
        samples = split(samples).test
    chosen = [s for s in samples if s.expected == expected and (category is None or s.category.startswith(category))]
    step = max(1.0, len(chosen) / limit)
    return [chosen[int(i * step)].prompt for i in range(min(limit, len(chosen)))]


def measure(steerable: Steerable, rows: dict[str, list[Prompt]], seeds: int) -> dict[str, Any]:
    """Every figure of the tables."""
    searches: list[dict[str, Any]] = []
    labels: dict[str, dict[str, list[Verdict]]] = {}
    seconds: dict[str, list[float]] = {}

    def ask(name: str, context: AbstractContextManager[Any]) -> None:
        with context:
            for title, texts in rows.items():
                verdicts, spent = judged(steerable, texts)
                labels.setdefault(name, {}).setdefault(title, []).extend(verdicts)
                seconds.setdefault(name, []).append(spent / len(texts))
        print(name, {t: sum(v.refused is True for v in values) for t, values in labels[name].items()}, flush=True)

    ask("plain", nullcontext())
    for seed in range(seeds):
        result, spent = found(steerable, FindSettings(seed=seed))
        searches.append(summary(result, f"seed {seed}") | {"seconds": spent})
        print(searches[-1], flush=True)
        if result.direction is None:
            continue
        ask("ablated", Ablation(result.direction).applied(steerable))
        ask("added", Addition(result.direction).applied(steerable))
        condition = fit_condition(
            steerable,
            result.direction,
            own_prompts("harmful"),
            own_prompts("harmless"),
            [own_prompts("harmless"), own_prompts("ordinary")],
            seed=seed,
        )
        ask("conditional", condition.applied(steerable))
        if result.surgical is not None:
            ask("surgical", Ablation(result.surgical).applied(steerable))
    full, spent = found(steerable, FindSettings(keep=1.0))
    searches.append(summary(full, "full sweep") | {"seconds": spent})
    return {
        "model": steerable.name,
        "reply_tokens": REPLY_TOKENS,
        "searches": searches,
        "refused": {name: {t: rate(v) for t, v in part.items()} for name, part in labels.items()},
        "seconds": {name: sum(values) / len(values) for name, values in seconds.items()},
    }


def found(steerable: Steerable, settings: FindSettings) -> tuple[FindResult, float]:
    """One search with our own prompts, and its seconds."""
    started = time.monotonic()
    sets = (own_prompts("harmful"), own_prompts("harmless"), own_prompts("pseudo_harmful"))
    result = find_direction(DirectionSearch(steerable, replace(settings, reply_tokens=REPLY_TOKENS)), *sets)
    return result, round(time.monotonic() - started, 1)


def summary(result: FindResult, name: str) -> dict[str, Any]:
    """What the table says of a search."""
    chosen = {
        kind: None
        if direction is None
        else {"layer": direction.layer, "position": direction.position, **dict(direction.metrics)}
        for kind, direction in (("direction", result.direction), ("surgical", result.surgical))
    }
    return {"search": name, **chosen, "reasons": [result.reason, result.surgical_reason], "counts": result.counts}


def judged(steerable: Steerable, texts: Sequence[Prompt]) -> tuple[list[Verdict], float]:
    """Verdicts of the replies, and the seconds of the generation."""
    assert steerable.open_model is not None
    started = time.monotonic()
    exchanges = steerable.open_model.generate(texts, max_new_tokens=REPLY_TOKENS)
    spent = time.monotonic() - started
    return run_judge(choose_judge("ensemble", ()), exchanges), spent


def rate(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """A rate with its interval, as JSON."""
    value = Rate.of_refusals(verdicts)
    return {"k": value.k, "n": value.n, "low": round(value.low, 3), "high": round(value.high, 3)}


def render(document: dict[str, Any]) -> None:
    """Both tables of the page."""
    lines = ["| search | layer, position | bypass | induce | KL | surgical | passes | s |", "|---" * 8 + "|"]
    for row in document["searches"]:
        first, second = row["direction"], row["surgical"]
        cells = [row["search"]]
        if first is None:
            cells += [row["reasons"][0], "", "", ""]
        else:
            cells += [
                f"{first['layer']}, {first['position']}",
                *(f"{first[k]:.2f}" for k in ("bypass", "induce", "kl")),
            ]
        cells.append(f"{second['layer']}, {second['position']}" if second else row["reasons"][1] or "")
        cells += [str(row["counts"].get("forward passes", "")), f"{row['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    put(PAGE, "direction-searches", lines)
    names = list(document["refused"])
    lines = [f"| refused | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for title in document["refused"]["plain"]:
        cells = [document["refused"][name].get(title) for name in names]
        texts = [f"{c['k'] / c['n']:.2f} [{c['low']:.2f}, {c['high']:.2f}]" for c in cells]
        lines.append(f"| {title} | {' | '.join(texts)} |")
    plain = document["seconds"]["plain"]
    ratios = [f"{document['seconds'][name] / plain:.2f}" for name in names]
    lines.append(f"| time of a reply, over plain | {' | '.join(ratios)} |")
    put(PAGE, "steering-refusals", lines)


if __name__ == "__main__":
    main()
