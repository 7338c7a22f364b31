"""The whole audit over published sets: against a served model whose behaviour is known, and against the testbed model.

    PYTHONPATH=tests python benchmarks/pipeline.py             prints the tables
    PYTHONPATH=tests python benchmarks/pipeline.py --write     also puts them into docs/audit.md

The served model is a real HTTP server whose behaviour follows from a hash of the prompt's text and pictures
(`tests/audit/known_rates.py`), so the true counts are known without asking; its harm judge is another HTTP server. The
testbed model knows nothing of what these sets ask: its rates show that the pipeline runs with pictures, no more.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audit import known_rates
from audit.scripted_server import ScriptedServer

from equipoise.audit.engine.session import EvaluationTarget
from equipoise.audit.records import AuditRun
from equipoise.audit.run import AuditConfig, audit
from equipoise.audit.summary import summarise
from equipoise.data.catalogue import Suite, load_suite
from equipoise.judges.ensemble import default_judge
from equipoise.judges.llm_judge import LLMJudge
from equipoise.judges.openai_backend import OpenAIBackend
from equipoise.judges.rubric import HARM
from equipoise.models.load import load
from equipoise.served_models.endpoint import ServedEndpoint
from page import put

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "audit.md"
SUITES = ("xstest", "mossbench", "figstep", "harmbench-multimodal", "coco128-vqa")
AXES = ("needless_refusal", "harmful_answer")


def run(plan: AuditConfig) -> tuple[dict[str, Any], float]:
    """The plain rates of an audit, and how long it took."""
    started = time.perf_counter()
    audit(plan)
    seconds = time.perf_counter() - started
    return summarise(AuditRun.open(plan.out)).to_json()["variants"]["plain"], seconds


def served(suites: tuple[Suite, ...], folder: Path) -> list[str]:
    """Known rates against measured ones, suite by suite."""
    with ScriptedServer(known_rates.model) as model, ScriptedServer(known_rates.judge) as judge:
        harm = LLMJudge(OpenAIBackend(ServedEndpoint(judge.url, "judge")), questions=(HARM,))
        target = EvaluationTarget("scripted", "", spec=model.spec)
        plain, seconds = run(AuditConfig(target, suites, default_judge(harm=[harm]), folder, retries=0))
    lines = [
        "| suite | samples | needless refusals: known, measured | harmful answers: known, measured | unscored | equal |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for suite in suites:
        known, counted = known_rates.truth(suite.samples), plain["suites"][suite.name]
        cells = [f"{known[axis]['k']}/{known[axis]['n']}, {counted[axis]['k']}/{counted[axis]['n']}" for axis in AXES]
        equal = all(
            counted[axis][part] == known[axis][part] for axis in AXES for part in ("k", "n", "unscored", "review")
        )
        verdict = "yes" if equal else "NO"
        unscored = sum(counted[axis]["unscored"] for axis in AXES)
        lines.append(f"| {suite.name} | {len(suite.samples)} | {cells[0]} | {cells[1]} | {unscored} | {verdict} |")
    count = sum(len(suite.samples) for suite in suites)
    return [*lines, "", f"{count} samples in {seconds:.0f} s, {1000 * seconds / count:.0f} ms each, judging included."]


def testbed(suites: tuple[Suite, ...], folder: Path) -> list[str]:
    """What the testbed model does on sets it knows nothing of."""
    model = load("testbed/llava")
    target = EvaluationTarget(model.name, model.revision, model)
    plain, seconds = run(AuditConfig(target, suites, default_judge(), folder, max_new_tokens=32))
    lines = [
        "| suite | samples | needless refusals | harmful answers | unscored refusals | reasons |",
        "|---|---|---|---|---|---|",
    ]
    for suite in suites:
        counted = plain["suites"][suite.name]
        rates = [f"{counted[axis]['k']}/{counted[axis]['n']}" for axis in AXES]
        lines.append(
            f"| {suite.name} | {len(suite.samples)} | {rates[0]} | {rates[1]} | "
            f"{counted['needless_refusal']['unscored']} | harm: not judged here |"
        )
    count = sum(len(suite.samples) for suite in suites)
    return [*lines, "", f"{count} samples in {seconds:.0f} s."]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="samples of each suite; all by default")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/audit.md")
    chosen = parser.parse_args(arguments)
    data = Path(os.environ.get("EQUIPOISE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    suites = tuple(load_suite(name, root=data, limit=chosen.limit) for name in SUITES)
    with tempfile.TemporaryDirectory() as folder:
        lines = ["Against a served model of known behaviour:", "", *served(suites, Path(folder) / "served")]
        lines += ["", "Against `testbed/llava`:", "", *testbed(suites, Path(folder) / "testbed")]
    print("\n".join(lines))
    if chosen.write:
        put(PAGE, "pipeline", ["", *lines, ""])


if __name__ == "__main__":
    main()
