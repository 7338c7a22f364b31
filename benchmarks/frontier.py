"""Measure the frontier of one model and write its table into `docs/frontier.md`.

    python benchmarks/frontier.py --model reference/lm --name reference/lm --suite xstest=DATA/xstest --seeds 3
    python benchmarks/frontier.py --render

The work is that of `equipoise frontier`, in a folder that goes on after a stop. The results hold rates with intervals,
membership, changes, cost and what was left out; no prompt and no reply.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from page import put

RESULTS = Path(__file__).parent / "results" / "frontier.json"
PAGE = Path(__file__).parents[1] / "docs" / "frontier.md"
ATTACKS = {
    "static": "attacked without knowledge of it: refused",
    "adaptive": "attacked through it: refused",
}
"""Kinds of attacked pictures with their titles."""


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the command in a process of its own; returns what the results keep."""
    command = [sys.executable, "-m", "equipoise.cli.main", "frontier", arguments.model, "--out", str(arguments.out)]
    for option, values in (("--suite", arguments.suite), ("--with", arguments.mitigation)):
        for value in values or ():
            command += [option, value]
    command += ["--seeds", str(arguments.seeds), *(["--attack", "refusal"] if arguments.attack else [])]
    command += ["--budget", str(arguments.budget)] if arguments.budget else []
    command += ["--limit", str(arguments.limit)] if arguments.limit else []
    start = time.monotonic()
    done = subprocess.run([*command, *arguments.more], check=False)
    # 12: some prompts failed; the table says how many are unscored.
    if done.returncode not in (0, 12):
        sys.exit(done.returncode)
    document = json.loads((arguments.out / "frontier.json").read_text(encoding="utf-8"))
    spent = json.loads((arguments.out / "spent.json").read_text(encoding="utf-8"))["seconds"]
    keep = ("name", "rates", "membership", "changes", "attacked", "cost", "tuning", "tuned_on", "doubts", "replies")
    return {
        "model": document["recipe"]["model"],
        "split": document["recipe"]["split"],
        "judge": document["judge"],
        "rows": [{key: row[key] for key in keep} for row in document["rows"]],
        "left_out": document["left_out"],
        "headline": document["advice"]["headline"],
        "ship": document["advice"]["ship"],
        "minutes": round(spent / 60, 1),
        "last_command_minutes": round((time.monotonic() - start) / 60, 1),
    }


def render(results: dict[str, Any]) -> str:
    """The tables of all models."""
    parts = []
    for name, result in results.items():
        tests = sum(suite["test"] for suite in result["split"]["suites"])
        parts += [f"`{name}`, {tests} test prompts, {result['minutes']} minutes of work. {result['headline']}", ""]
        attacks = ATTACKS if any(row["attacked"] for row in result["rows"]) else {}
        titles = ["mitigation", "needless refusals", "harmful answers", "on the front", *attacks.values()]
        titles += ["reply time", "fit", "tuned on"]
        parts += [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
        parts += [_row(row, attacks) for row in result["rows"]]
        parts += ["", *(f"Left out: `{item['name']}`: {item['reason']}." for item in result["left_out"]), ""]
    return "\n".join(parts).strip()


def _row(row: dict[str, Any], attacks: Mapping[str, str]) -> str:
    share, latency = row["membership"], row["cost"]["latency_ratio"]
    cells = [
        f"`{row['name']}`",
        *(_rate(row["rates"][axis]) for axis in ("needless_refusal", "harmful_answer")),
        "unknown" if share is None else f"{100 * share['share']:.0f} %",
        *(_rate(row["attacked"][kind]) if kind in row["attacked"] else "not attacked" for kind in attacks),
        "not measured" if latency is None else f"{latency:.2f}x",
        f"{row['cost']['fit_seconds']:.0f} s",
        row["tuning"],
    ]
    return f"| {' | '.join(cells)} |"


def _rate(rate: dict[str, Any]) -> str:
    if rate["rate"] is None:
        return f"unknown ({rate['unscored']} unscored)"
    return f"{rate['rate']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}] {rate['k']}/{rate['n']}"


def main() -> None:
    """Measure, render, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as for `equipoise frontier`")
    parser.add_argument("--name", help="what the table calls it; the model's name by default")
    parser.add_argument("--suite", action="append")
    parser.add_argument("--with", dest="mitigation", action="append")
    parser.add_argument("--out", type=Path, default=Path("frontier-benchmark"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--attack", action="store_true", help="measure attacked pictures, too")
    parser.add_argument("--render", action="store_true", help="write the table from the results that are there")
    arguments, arguments_more = parser.parse_known_args()
    arguments.more = arguments_more
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if arguments.model:
        results[arguments.name or arguments.model] = measure(arguments)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    elif not arguments.render:
        parser.error("expected --model or --render")
    put(PAGE, "frontier", [render(results) if results else "Not measured yet."])


if __name__ == "__main__":
    main()
