"""Needless refusals of the rows of a measured frontier on further harmless prompts, which none of its suites holds.

    python benchmarks/frontier_harmless.py FRONTIER --name reference/lm --dtype bfloat16 --max-new-tokens 32
        --fitted xstest=DATA/xstest --fitted harmbench=DATA/harmbench --fitted-limit 160
        --suite or-bench/80k=DATA/or_bench --limit 150
    python benchmarks/frontier_harmless.py --page

`--fitted` and `--fitted-limit` are the suites and the limit of the frontier: prompts that are related to anything that
a mitigation may have been fitted on are left out. Every row is built again from its record, with its fitted files.
Seeds are pooled, and the seeds of one prompt are one cluster.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from equipoise.audit.frontier.fitters import FitData
from equipoise.audit.frontier.variant_record import RECIPE, VariantRecord, run_folders
from equipoise.cli.options.suites import load_suites
from equipoise.countermeasures.catalogue import defend
from equipoise.data.split_registry import SplitRegistry, content_hash
from equipoise.data.splits import find_overlaps
from equipoise.files import write_json
from equipoise.generation.request_gate import request_gate
from equipoise.judges.ensemble import default_judge
from equipoise.judges.run_judge import digest
from equipoise.models.load import load
from equipoise.stats.estimates import CaseLabel, PairedChange, holm, paired_change
from equipoise.stats.proportions import Rate
from equipoise.types import Sample
from page import put

RESULTS: Final = Path(__file__).parent / "results" / "frontier_harmless.json"
PAGE: Final = Path(__file__).parents[1] / "docs" / "frontier.md"
PART: Final = 32
"""Prompts between two lines of progress."""


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--name", help="what the table calls the model")
    parser.add_argument("--fitted", action="append", default=[])
    parser.add_argument("--fitted-limit", type=int)
    parser.add_argument("--suite", action="append", default=[])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if not arguments.page:
        results[arguments.name] = measure(arguments)
        write_json(RESULTS, results)
    put(PAGE, "frontier-harmless", render(results))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Refusals of every row, and the change against the plain one."""
    samples, related = further_samples(arguments)
    labels: dict[str, list[list[CaseLabel]]] = {}
    # By the prompts and the length of replies, so that another suite or limit never takes over these labels.
    key = digest([content_hash(samples), arguments.max_new_tokens, arguments.dtype])
    file = arguments.folder / f"harmless-{key[:12]}.json"
    known: dict[str, list[bool | None]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for run in run_folders(arguments.folder):
        record = VariantRecord.read(run)
        if run.name not in known:
            known[run.name] = list(refusals(record, samples, arguments))
            write_json(file, known)
        row = [CaseLabel(value, sample.text) for value, sample in zip(known[run.name], samples, strict=True)]
        labels.setdefault(record.name, []).append(row)
    (plain,) = labels["plain"]
    changes = {
        name: paired_change(pair for row in rows for pair in zip(plain, row, strict=True))
        for name, rows in labels.items()
        if name != "plain"
    }
    adjusted = holm(changes)
    return {
        "suites": [spec.partition("=")[0] for spec in arguments.suite],
        "prompts": len(samples),
        "related": related,
        "rows": [_row(name, rows, adjusted.get(name)) for name, rows in labels.items()],
    }


def further_samples(arguments: argparse.Namespace) -> tuple[list[Sample], int]:
    """Harmless prompts that are related to none that a mitigation may know, and how many were left out."""
    fitted = SplitRegistry.of(load_suites(tuple(arguments.fitted), None, arguments.fitted_limit, 0))
    recipe = json.loads((arguments.folder / RECIPE).read_text(encoding="utf-8"))
    if fitted.to_json()["selection_sha256"] != recipe["split"]["selection_sha256"]:
        sys.exit("expected the suites and the limit of the frontier as --fitted and --fitted-limit, got others")
    suites = load_suites(tuple(arguments.suite), None, arguments.limit, 0)
    samples = [sample for suite in suites for sample in suite.samples if sample.expected == "answer"]
    related = {overlap.right for overlap in find_overlaps(FitData.of(fitted).all, samples)}
    return [s for s in samples if f"{s.suite} {s.id}" not in related], len(related)


def refusals(record: VariantRecord, samples: Sequence[Sample], arguments: argparse.Namespace) -> Iterator[bool | None]:
    """Whether each reply refuses, by the ensemble of judges; None where it cannot be told."""
    model = defend(load(record.model, dtype=arguments.dtype), record.specs, harm_gate=request_gate)
    judge = default_judge()
    for start in range(0, len(samples), PART):
        part = samples[start : start + PART]
        exchanges = model.generate([sample.prompt for sample in part], max_new_tokens=arguments.max_new_tokens)
        yield from (verdict.refused for verdict in judge(exchanges))
        print(record.name, record.seed, start + len(part), "of", len(samples), flush=True)


def _row(name: str, rows: Sequence[Sequence[CaseLabel]], change: PairedChange | None) -> dict[str, Any]:
    values = [label.value for row in rows for label in row]
    scored = [value for value in values if value is not None]
    rate = Rate.of(sum(scored), len(scored), len(values) - len(scored))
    return {
        "name": name,
        "seeds": len(rows),
        "refused": vars(rate),
        "change": None if change is None else change.to_dict(),
    }


def render(results: dict[str, Any]) -> list[str]:
    """A table for each model."""
    lines: list[str] = []
    for name, result in results.items():
        lines += [
            f"`{name}`, {result['prompts']} harmless prompts of {', '.join(result['suites'])}; {result['related']} "
            "that are related to what a mitigation may know were left out.",
            "",
            "| mitigation | seeds | refused | change against plain | mended / new | p (Holm) |",
            "|---|---:|---|---|---|---|",
            *(_line(row) for row in result["rows"]),
            "",
        ]
    return lines


def _line(row: dict[str, Any]) -> str:
    rate, change = row["refused"], row["change"]
    cells = [f"`{row['name']}`", str(row["seeds"]), f"{rate['k']}/{rate['n']} = {rate['rate']:.2f}"]
    cells[-1] += f" ({rate['unscored']} unscored)" if rate["unscored"] else ""
    if change is None:
        cells += ["", "", ""]
    else:
        points = [100 * change[key] for key in ("change", "low", "high")]
        cells += ["{:+.1f} points [{:+.1f}, {:+.1f}]".format(*points), f"{change['only_a']} / {change['only_b']}"]
        cells += [f"{change['p_adjusted']:.3f}" if row["seeds"] == 1 else "-"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
