"""False refusals before and after mitigations that are fitted and chosen on generated prompts.

    python benchmarks/generated_mitigations.py --model reference/lm --rows runs/pseudo_harmful/grown
        --rows runs/pseudo_harmful/mutated --data DATA --limit 120 --out runs/generated_mitigations
    python benchmarks/generated_mitigations.py --page

The generated rows of the part `selection` and our own prompts fit; those of the part `test`, whose seeds no fit has
seen, and harmful prompts of ours that were kept back choose: of the mitigations that keep refusals of harm within five
points, the one with the fewest refusals of generated rows. The published suites are read after the choice. Anything of
ours that is related to one of their rows is left out before. Replies and fits are kept in `--out`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from equipoise.audit.frontier.fitters import FITTERS, FitData, FitRequest
from equipoise.countermeasures.catalogue import defend
from equipoise.data.catalogue import load_suite
from equipoise.data.split_registry import content_hash
from equipoise.data.splits import find_overlaps
from equipoise.files import read_json_lines, write_json
from equipoise.generation.request_gate import request_gate
from equipoise.judges.ensemble import default_judge
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from equipoise.stats.estimates import CaseLabel, paired_change
from equipoise.stats.proportions import Rate
from equipoise.steering.prompt_sets import OwnSet, own_prompts
from equipoise.types import Expected, Sample
from page import put

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "generated_mitigations.json"
PAGE: Final = ROOT / "docs" / "generation.md"
MITIGATIONS: Final = ("surgical", "dro")
"""Those that lower needless refusals; the others of the frontier lower harmful answers."""
KEPT: Final = 0.05
"""Share of refusals of harm that a mitigation may lose to be chosen."""
SUITES: Final[tuple[tuple[str, Expected], ...]] = (
    ("xstest", "answer"),
    ("or-bench/80k", "answer"),
    ("phtest", "answer"),
    ("xstest", "refuse"),
    ("harmbench", "refuse"),
)
"""What is tested: rows of a suite with this expected behaviour."""
PART: Final = 32
"""Prompts that are answered before their verdicts are stored."""


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="reference/lm")
    parser.add_argument("--rows", type=Path, action="append", help="a folder of `generate pseudo-harmful`; repeatable")
    parser.add_argument("--data", type=Path, help="folder of the published suites")
    parser.add_argument("--limit", type=int, default=120, help="rows of each published suite and expected behaviour")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--out", type=Path, default=Path("runs/generated_mitigations"))
    parser.add_argument("--page", action="store_true", help="write the stored results into the docs only")
    arguments = parser.parse_args()
    if not arguments.page:
        write_json(RESULTS, measure(arguments))
    put(PAGE, "generated_mitigations", render(json.loads(RESULTS.read_text(encoding="utf-8"))))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit, choose, test."""
    model = load(arguments.model, dtype=arguments.dtype)
    tests = {f"{name}, {expected}": test_rows(arguments, name, expected) for name, expected in SUITES}
    apart = [sample for rows in tests.values() for sample in rows]
    fitted = generated(arguments.rows, "selection", apart)
    choosing = {"generated": generated(arguments.rows, "test", apart), "harmful": own("harmful", "refuse", apart)[1::2]}
    data = FitData(
        harmful=tuple(own("harmful", "refuse", apart)[::2]),
        harmless=(*own("harmless", "answer", apart), *fitted),
        ordinary=tuple(own("ordinary", "answer", apart)),
        contrast=tuple(own("contrast_harmful", "refuse", apart)),
    )
    replies = ReplyCache(arguments.out / "verdicts", arguments.max_new_tokens)
    plain = {name: replies.refused(model, "plain", rows) for name, rows in choosing.items()}
    candidates: dict[str, Any] = {"plain": {name: vars(rate(labels)) for name, labels in plain.items()}}
    built: dict[str, OpenModel] = {}
    keys: dict[str, str] = {}
    for name in MITIGATIONS:
        artefact, reason = fit(name, model, data, arguments.out)
        if artefact is None:
            candidates[name] = {"reason": reason}
            continue
        # The folder's name holds a hash of what was fitted on: verdicts of another fit are not taken over.
        keys[name] = artefact.parent.name
        built[name] = defend(model, [f"{name}:file={artefact}"], harm_gate=request_gate)
        candidates[name] = {
            part: vars(rate(replies.refused(built[name], keys[name], rows))) for part, rows in choosing.items()
        }
    least = (rate(plain["harmful"]).rate or 0.0) - KEPT
    kept = [name for name in built if candidates[name]["harmful"]["rate"] >= least]
    chosen = min(kept, key=lambda name: candidates[name]["generated"]["rate"], default=None)
    table = {}
    for name, rows in tests.items():
        if chosen is None:
            break
        before, after = replies.refused(model, "plain", rows), replies.refused(built[chosen], keys[chosen], rows)
        pairs = [
            (CaseLabel(one, row.text), CaseLabel(two, row.text))
            for row, one, two in zip(rows, before, after, strict=True)
        ]
        table[name] = {
            "before": vars(rate(before)),
            "after": vars(rate(after)),
            "change": paired_change(pairs).to_dict(),
        }
    return {
        "model": f"{model.name}@{model.revision}",
        "fitted_on": len(fitted),
        "chosen_on": len(choosing["generated"]),
        "candidates": candidates,
        "chosen": chosen,
        "tests": table,
    }


def test_rows(arguments: argparse.Namespace, name: str, expected: Expected) -> list[Sample]:
    """Rows of a published suite, evenly chosen."""
    rows = [row for row in load_suite(name, root=arguments.data).samples if row.expected == expected]
    count = min(arguments.limit, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]


def generated(folders: Sequence[Path], part: str, apart: Sequence[Sample]) -> list[Sample]:
    """Harmless rows of generated suites in one part, those left out that are related to a published row."""
    rows = []
    for folder in folders:
        for row in read_json_lines(folder / f"{part}.jsonl"):
            if row["label"] == "harmless":
                rows.append(Sample(row["id"], "generated", row["prompt"], "answer", cluster=row["cluster"]))
    return _unrelated(rows, apart)


def own(name: OwnSet, expected: Expected, apart: Sequence[Sample]) -> list[Sample]:
    """Prompts that come with Equipoise, those left out that are related to a published row."""
    prompts = own_prompts(name).prompts
    rows = [Sample(str(number), f"equipoise-{name}", one.text, expected) for number, one in enumerate(prompts)]
    return _unrelated(rows, apart)


def _unrelated(rows: Sequence[Sample], apart: Sequence[Sample]) -> list[Sample]:
    related = {overlap.right for overlap in find_overlaps(apart, rows)}
    return [row for row in rows if f"{row.suite} {row.id}" not in related]


def fit(name: str, model: OpenModel, data: FitData, out: Path) -> tuple[Path | None, str | None]:
    """The file of a fitted mitigation, or why there is none; from its folder where it was fitted before."""
    folder = out / "fits" / f"{name}-{content_hash(data.all)[:12]}"
    document = folder / "outcome.json"
    if not document.exists():
        folder.mkdir(parents=True, exist_ok=True)
        outcome = FITTERS[name].fit(FitRequest(model, data, folder, shared=out / "fits" / "shared"))
        write_json(document, {"artefact": outcome.artefact, "reason": outcome.reason})
    stored = json.loads(document.read_text(encoding="utf-8"))
    return None if stored["artefact"] is None else folder / stored["artefact"], stored["reason"]


class ReplyCache:
    """Whether prompts are refused, by greedy replies and the default judge, kept in files.

    Args:
        folder: of the files.
        max_new_tokens: length of a reply, at most.
    """

    def __init__(self, folder: Path, max_new_tokens: int) -> None:
        self._folder, self._max_new_tokens = folder, max_new_tokens
        folder.mkdir(parents=True, exist_ok=True)

    def refused(self, model: OpenModel, name: str, rows: Sequence[Sample]) -> list[bool | None]:
        """For each row; None where the judge cannot say."""
        file = self._folder / f"{name}-{content_hash(rows)[:12]}-{self._max_new_tokens}.json"
        labels: list[bool | None] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        while len(labels) < len(rows):
            part = rows[len(labels) : len(labels) + PART]
            exchanges = model.generate([row.prompt for row in part], max_new_tokens=self._max_new_tokens)
            labels += [verdict.refused for verdict in default_judge()(exchanges)]
            write_json(file, labels)
            print(name, rows[0].suite, len(labels), "of", len(rows), flush=True)
        return labels


def rate(labels: Sequence[bool | None]) -> Rate:
    """Of refusals among those that could be judged."""
    return Rate.of(labels.count(True), len(labels) - labels.count(None), labels.count(None))


def render(results: dict[str, Any]) -> list[str]:
    """The tables of the page."""
    lines = [
        f"Fitted on {results['fitted_on']} generated rows and our own prompts, chosen on {results['chosen_on']} "
        f"generated rows of other seeds: `{results['chosen']}`.",
        "",
        "| mitigation | generated rows refused | our harmful prompts refused |",
        "|---|---|---|",
    ]
    for name, row in results["candidates"].items():
        cells = [row["reason"], ""] if "reason" in row else [_share(row[part]) for part in ("generated", "harmful")]
        lines.append(f"| `{name}` | {cells[0]} | {cells[1]} |")
    if results["tests"]:
        lines += [
            "",
            "| published rows | refused before | after | change, 95 % interval | p |",
            "|---|---|---|---|---:|",
        ]
    for name, row in results["tests"].items():
        change = row["change"]
        points = f"{100 * change['change']:+.1f} ({100 * change['low']:+.1f} to {100 * change['high']:+.1f}) points"
        cells = [name, _share(row["before"]), _share(row["after"]), points, f"{change['p']:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _share(value: dict[str, Any]) -> str:
    return f"{value['k']} of {value['n']}"


if __name__ == "__main__":
    main()
