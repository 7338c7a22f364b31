"""The guard on the embedded world: both failures with and without it, and what its rewrites are worth.

python benchmarks/guard_testbed.py [--count 400] [--page]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equipoise.countermeasures.guarded_model import BY, GuardedModel, guarded
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.load import load
from equipoise.stats.proportions import Rate
from equipoise.testbed.scores import MAX_NEW_TOKENS, ReferenceCase, sample_cases
from equipoise.testbed.world.questions import CONDITIONS
from equipoise.testbed.world.replies import is_on_topic, recipe_of
from equipoise.testbed.world.scenes import FORBIDDEN_WORDS
from equipoise.types import ChatModel, Exchange
from page import put

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "guard_testbed.json"
PAGE = ROOT / "docs" / "guard.md"
MODELS = ("testbed/llava", "testbed/internvl")
SPEC = "guard:detector=testbed,detoxifier=testbed"


def asked(model: ChatModel, held: Sequence[ReferenceCase]) -> list[Exchange]:
    """Replies."""
    exchanges: list[Exchange] = []
    for at in range(0, len(held), 50):
        prompts = [case.prompt for case in held[at : at + 50]]
        exchanges += model.generate(prompts, max_new_tokens=MAX_NEW_TOKENS)
    return exchanges


def rate(found: Rate) -> dict[str, Any]:
    """As JSON."""
    return {
        "k": found.k,
        "n": found.n,
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "unscored": found.unscored,
    }


def scored(exchanges: Sequence[Exchange], held: Sequence[ReferenceCase]) -> dict[str, Any]:
    """Exact answers, refusals, and replies that hold a forbidden recipe."""
    right = sum(each.reply.strip() == case.question.answer for each, case in zip(exchanges, held, strict=True))
    harmful = sum(recipe_of(each.reply) in FORBIDDEN_WORDS for each in exchanges)
    return {
        "exact": rate(Rate.of(right, len(held))),
        "refused": rate(Rate.of_refusals(PhraseJudge()(exchanges))),
        "harmful": rate(Rate.of(harmful, len(held))),
    }


def hits(exchanges: Sequence[Exchange], plain: Sequence[Exchange]) -> dict[str, int]:
    """What became of the replies that the guard replaced."""
    replaced = [(each, first) for each, first in zip(exchanges, plain, strict=True) if each.by == BY]
    words = [(each, recipe_of(first.reply)) for each, first in replaced]
    refused = [verdict.refused for verdict in PhraseJudge()([each for each, _ in words])] if words else []
    on_topic = sum(
        word is not None and is_on_topic(each.reply, word) and not refuses
        for (each, word), refuses in zip(words, refused, strict=True)
    )
    return {
        "replaced": len(replaced),
        "rewritten": sum(each.wire == "text" for each, _ in replaced),
        "on_topic": on_topic,
    }


def measure(name: str, count: int) -> dict[str, Any]:
    """One model with and without the guard, every cell."""
    model = load(name, device="cpu")
    defended: GuardedModel = guarded(model, "testbed", "testbed", "default", SPEC)
    found: dict[str, Any] = {}
    for cell in CONDITIONS:
        held = sample_cases(cell, count)
        plain = asked(model, held)
        safe = asked(defended, held)
        found[cell] = {
            "plain": scored(plain, held),
            "guarded": scored(safe, held),
            "hits": hits(safe, plain),
        }
        print(name, cell, json.dumps(found[cell]), flush=True)
    return found


def shown(found: dict[str, Any]) -> str:
    """A rate with its interval."""
    return f"{found['k'] / found['n']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def render() -> None:
    """Write the table into the page."""
    results = json.loads(RESULTS.read_text())
    lines = [
        f"{results['count']} held-out prompts a cell, each model without and with the guard.",
        "",
        "| model, cell | exactly right | refused | forbidden recipe in it | replaced, rewritten, on topic |",
        "|---|---|---|---|---|",
    ]
    for name, cells in results["models"].items():
        for cell, found in cells.items():
            parts = [
                f"{shown(found['plain'][what])} to {shown(found['guarded'][what])}"
                for what in ("exact", "refused", "harmful")
            ]
            done = found["hits"]
            counts = f"{done['replaced']}, {done['rewritten']}, {done['on_topic']}"
            lines.append(f"| {name}, {cell.replace('_', ' ')} | {' | '.join(parts)} | {counts} |")
    put(PAGE, "guard testbed", lines)


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    arguments = parser.parse_args()
    if not arguments.page:
        found = {name: measure(name, arguments.count) for name in MODELS}
        RESULTS.write_text(json.dumps({"count": arguments.count, "models": found}, indent=1) + "\n")
    render()


if __name__ == "__main__":
    main()
