"""MLLM-Protector's own promise in English: a reference model alone, and behind the gateway with the `reference` guard.

`equipoise serve` holds the model, `equipoise guard serve` with detector and detoxifier `reference` stands before it,
and the `openai` SDK asks both the same harmful requests, in text and drawn into pictures, and ordinary ones. A reply is
an *answer* where the ensemble of judges calls it no refusal; an answer to a harmful request counts as harmful unless
the gateway has rewritten it. Beside that: replies that `embedded`, which the guard does not ask, calls harmful.
Refusals of ordinary requests are needless. `reference/base`, which was never aligned, is asked what is text alone.

python benchmarks/guarded_reference.py --data FOLDER [--model reference/mllm] [--limit 60] [--reply-tokens 48]
    [--out FOLDER] [--page]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from equipoise.data.catalogue import load_suite
from equipoise.data.typographic import typographic
from equipoise.files import write_json
from equipoise.guard.detector import load as load_detector
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.policy import Policy
from equipoise.judges.catalogue import choose_judge
from equipoise.judges.run_judge import run_judge
from equipoise.reference.mllm import suite as scenes
from equipoise.stats.proportions import Rate
from equipoise.steering.stage_folder import StageFolder
from equipoise.types import Exchange, Sample
from mm_safetybench import spread
from page import put
from real_upstream import body, gateway, listening, sdk

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "guarded_reference.json"
PAGE: Final = ROOT / "docs" / "guard.md"
MODELS: Final = ("reference/mllm", "reference/base")
GUARD: Final = "reference"
HARMFUL: Final = ("harmbench", "jailbreakbench", "malicious-instruct", "xstest")
ORDINARY: Final = ("alpaca-harmless", "everyday", "xstest")


def main() -> None:
    """Ask and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of suites")
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--limit", type=int, default=60, help="prompts of a group, at most")
    parser.add_argument("--reply-tokens", type=int, default=48)
    parser.add_argument("--out", type=Path, help="folder of finished parts")
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    arguments = parser.parse_args()
    if not arguments.page:
        with tempfile.TemporaryDirectory() as folder:
            measure(arguments, arguments.out or Path(folder))
    render(json.loads(RESULTS.read_text(encoding="utf-8")))


def measure(arguments: argparse.Namespace, out: Path) -> None:
    """Every group through the model's server and through the gateway; a finished group is kept."""
    name, tokens = arguments.model, arguments.reply_tokens
    recipe = {"limit": arguments.limit, "reply_tokens": tokens}
    stages = StageFolder(out, {**recipe, "model": name})
    rows: dict[str, dict[str, int]] = {}
    with (
        tempfile.TemporaryDirectory() as temporary,
        listening(["serve", name, "--port", "0", "--dtype", "bfloat16"], Path(temporary)) as bare,
        gateway(bare, Path(temporary), f"sqlite:///{temporary}/record.db", GUARD) as guarded,
    ):
        for group, samples in grouped(arguments.data, arguments.limit).items():
            if name == "reference/base" and any(sample.pictures for sample in samples):
                continue
            stage = group.replace(", ", "-")
            if stages.get(stage) is None:
                before, after = (replies(base, name, samples, tokens) for base in (bare, guarded))
                stages.put(stage, counted(samples, before, after))
            rows[group] = stages.get(stage)
            print(group, rows[group], flush=True)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    write_json(RESULTS, known | {name: {**recipe, "rows": rows}})


def grouped(data: Path, limit: int) -> dict[str, list[Sample]]:
    """Prompts by group, evenly spread over their suites."""
    groups: dict[str, list[Sample]] = {}
    for suite in HARMFUL:
        groups[f"harmful, {suite}"] = _of(suite, data, limit, lambda sample: sample.expected == "refuse")
    drawable = _of("jailbreakbench", data, limit, lambda sample: sample.expected == "refuse")
    groups["harmful, drawn"] = list(typographic(drawable))
    own = [sample for sample in scenes.samples(seed=31) if sample.category == "scene question"]
    groups["ordinary, scenes"] = spread(own, limit)
    for suite in ORDINARY:
        groups[f"ordinary, {suite}"] = _of(suite, data, limit, lambda sample: sample.expected == "answer")
    return groups


def _of(suite: str, data: Path, limit: int, wanted: Callable[[Sample], bool]) -> list[Sample]:
    samples = load_suite(suite, root=data).samples
    return spread([sample for sample in samples if wanted(sample) and not sample.pictures], limit)


def replies(base: str, model: str, samples: Sequence[Sample], reply_tokens: int) -> list[str]:
    """By the `openai` SDK, one after the other."""
    return [sdk(base, body(sample.prompt, model, reply_tokens)) for sample in samples]


def counted(samples: Sequence[Sample], before: Sequence[str], after: Sequence[str]) -> dict[str, int]:
    """Answers, refusals and replies that another detector calls harmful, before and after."""
    detector, threshold = load_detector("embedded"), Policy().output.threshold
    same = [first == second for first, second in zip(before, after, strict=True)]
    counts = {"n": len(samples), "changed": same.count(False)}
    for title, texts in (("before", before), ("after", after)):
        exchanges = [
            Exchange(sample.prompt, text, "stop", "reference") for sample, text in zip(samples, texts, strict=True)
        ]
        refused = [verdict.refused for verdict in run_judge(choose_judge("ensemble", ()), exchanges)]
        kept = same if title == "after" else [True] * len(samples)
        harms = detector([GuardInput(text, sample.prompt.text) for sample, text in zip(samples, texts, strict=True)])
        counts[f"answered_{title}"] = sum(verdict is False and own for verdict, own in zip(refused, kept, strict=True))
        counts[f"rewritten_{title}"] = sum(
            verdict is False and not own for verdict, own in zip(refused, kept, strict=True)
        )
        counts[f"refused_{title}"] = sum(verdict is True for verdict in refused)
        counts[f"embedded_{title}"] = sum((score.harm or 0.0) >= threshold for score in harms)
    return counts


def render(document: dict[str, Any]) -> None:
    """A table for each model."""
    lines: list[str] = []
    for model in (name for name in MODELS if name in document):
        results = document[model]
        lines += [
            *([""] if lines else []),
            f"**{model}**, at most {results['limit']} prompts of a group, replies of {results['reply_tokens']} tokens. "
            "Answered: by the judge no refusal, and not rewritten; 95 % intervals.",
            "",
            "| prompts | answered, alone and guarded | refused, alone and guarded | rewritten | "
            "harmful by `embedded` |",
            "|---|---|---|---|---|",
        ]
        for name, row in results["rows"].items():
            cells = [
                " to ".join(_share(row[f"{what}_{title}"], row["n"]) for title in ("before", "after"))
                for what in ("answered", "refused")
            ]
            cells += [str(row["rewritten_after"]), f"{row['embedded_before']} to {row['embedded_after']}"]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    put(PAGE, "guarded reference", lines)


def _share(count: int, total: int) -> str:
    rate = Rate.of(count, total)
    return f"{count} of {total} [{rate.low:.2f}, {rate.high:.2f}]"


if __name__ == "__main__":
    main()
