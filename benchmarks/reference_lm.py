"""What `reference/lm` refuses, on public suites (of which it has learned from AdvBench alone), beside its base.

Suites are read from a folder that you name (see docs/data.md); replies are greedy and judged by the default ensemble.
The last row of the table is the cross-entropy of the base's own replies to ordinary prompts, under the base and
under the tuned model: what the tuning changed where nothing should change.

python benchmarks/reference_lm.py --data FOLDER [--limit 200] [--model reference/lm] [--base reference/base] [--page]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from equipoise.data.catalogue import load_suite
from equipoise.judges.catalogue import choose_judge
from equipoise.judges.run_judge import run_judge
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from equipoise.reference.alignment_prompts import alignment_prompts
from equipoise.stats.proportions import Rate
from equipoise.types import Prompt, Sample
from page import put

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "reference_lm.json"
PAGE: Final = ROOT / "docs" / "reference-models.md"
GROUPS: Final = (
    ("harmbench, standard", "harmbench", "refuse", "standard"),
    ("jailbreakbench, harmful", "jailbreakbench", "refuse", None),
    ("malicious-instruct", "malicious-instruct", "refuse", None),
    ("advbench (learned from)", "advbench", "refuse", None),
    ("strongreject", "strongreject", "refuse", None),
    ("xstest, unsafe", "xstest", "refuse", None),
    ("xstest, safe", "xstest", "answer", None),
    ("jailbreakbench, harmless", "jailbreakbench", "answer", None),
    ("or-bench/hard-1k", "or-bench/hard-1k", "borderline", None),
    ("phtest, harmless", "phtest", "answer", None),
    ("everyday", "everyday", "answer", None),
    ("alpaca-harmless (ordinary)", "alpaca-harmless", "answer", None),
)
"""Row of the table, suite, expected behaviour, category (None is all)."""
REPLY_TOKENS: Final = 64


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of suites")
    parser.add_argument("--limit", type=int, default=200, help="prompts of each row, at most")
    parser.add_argument("--model", default="reference/lm")
    parser.add_argument("--base", default="reference/base")
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    arguments = parser.parse_args()
    if not arguments.page:
        models = {name: load(name, dtype="bfloat16") for name in (arguments.base, arguments.model)}
        document = {"limit": arguments.limit, "reply_tokens": REPLY_TOKENS, "rows": [], "cross_entropy": {}}
        for title, suite, expected, category in GROUPS:
            samples = chosen(load_suite(suite, root=arguments.data).samples, expected, category, arguments.limit)
            row = {"row": title, "expected": expected}
            for name, model in models.items():
                row[name] = refusals(model, samples)
            document["rows"].append(row)
            print(json.dumps(row), flush=True)
        document["cross_entropy"] = own_cross_entropy(models[arguments.base], list(models.items()))
        print(json.dumps(document["cross_entropy"]), flush=True)
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    render(json.loads(RESULTS.read_text(encoding="utf-8")))


def chosen(samples: Sequence[Sample], expected: str, category: str | None, limit: int) -> list[Sample]:
    """The samples of a row, evenly spread over the suite."""
    rows = [s for s in samples if s.expected == expected and (category is None or s.category.startswith(category))]
    if not rows:
        raise ValueError(f"expected samples with {expected}, {category or 'any category'}, got none")
    step = max(1, len(rows) / limit)
    return [rows[int(i * step)] for i in range(min(limit, len(rows)))]


def refusals(model: OpenModel, samples: Sequence[Sample]) -> dict[str, Any]:
    """How many are refused, in full or in part."""
    started = time.monotonic()
    # Similar lengths share a batch; the judge sees the suite's own samples.
    ordered = sorted(samples, key=lambda sample: len(sample.text))
    exchanges = model.generate([sample.prompt for sample in ordered], max_new_tokens=REPLY_TOKENS)
    verdicts = run_judge(choose_judge("ensemble", ()), exchanges)
    rate = Rate.of_refusals(verdicts)
    return {
        "k": rate.k,
        "n": rate.n,
        "low": round(rate.low, 3),
        "high": round(rate.high, 3),
        "unscored": rate.unscored,
        "partial": sum(verdict.refusal == "partial" for verdict in verdicts),
        "seconds": round(time.monotonic() - started, 1),
    }


def own_cross_entropy(base: OpenModel, models: Sequence[tuple[str, OpenModel]]) -> dict[str, Any]:
    """Nats per token of the base's greedy replies to the ordinary prompts of the development split."""
    prompts = [Prompt.ask(p.text) for p in alignment_prompts(development=True) if p.kind == "ordinary"]
    exchanges = [e for e in base.generate(prompts, max_new_tokens=REPLY_TOKENS) if e.reply.strip()]
    totals: dict[str, Any] = {"prompts": len(exchanges)}
    for name, model in models:
        scores = model.log_prob(None, [e.prompt for e in exchanges], [e.reply for e in exchanges], end=False)
        totals[name] = round(float(-scores.total.sum() / scores.mask.sum()), 4)
    return totals


def render(document: dict[str, Any]) -> None:
    """The table of the page."""
    names = [key for key in document["rows"][0] if key not in ("row", "expected")]
    lines = [f"| prompts | should | {' | '.join(f'`{n}` refused' for n in names)} |", "|---|---|" + "---|" * len(names)]
    for row in document["rows"]:
        cells = [
            f"{c['k']} of {c['n']} = {c['k'] / c['n']:.2f} [{c['low']:.2f}, {c['high']:.2f}]"
            for c in (row[name] for name in names)
        ]
        lines.append(f"| {row['row']} | {row['expected']} | {' | '.join(cells)} |")
    entropy = document["cross_entropy"]
    title = f"cross-entropy of the base's own replies to {entropy['prompts']} ordinary prompts, nats per token"
    lines.append(f"| {title} | | {' | '.join(f'{entropy[name]:.3f}' for name in names)} |")
    put(PAGE, "reference-lm", lines)


if __name__ == "__main__":
    main()
