"""Whether the demo's audit and the tests of one checkout are slower than those of another: processor time, in one run.

    python benchmarks/speed_of_checkouts.py --old CHECKOUT_OR_COMMIT --new CHECKOUT --python PYTHON [--rounds 2]

The audit is that of the first demo (`equipoise audit` with its defaults, on the embedded world), which both checkouts
have. The tests are those with the same name in both; a test that was renamed or is new has nothing to be compared with.
Processor time (user and system, of all child processes) is taken and not that of the clock, since other programs may
share the machine. Results go to benchmarks/results/speed_of_checkouts.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from golden import taken_out

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "speed_of_checkouts.json"
COMMAND: Final = "from equipoise.cli.main import main; main()"
"""The command line, as its entry point calls it."""


def processor_seconds(python: str, checkout: Path, words: Sequence[str]) -> tuple[float, str]:
    """User and system time of a command in a checkout, and what it printed."""
    variables = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run([python, *words], cwd=checkout, env=variables, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(seconds, 1), run.stdout + run.stderr


def test_names(python: str, checkout: Path) -> list[str]:
    """The names of all tests of a checkout."""
    words = ["-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"]
    return [line.strip() for line in processor_seconds(python, checkout, words)[1].splitlines() if "::" in line]


def audits(python: str, checkouts: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Seconds of the audit in both, by turns, and the ratio of the medians."""
    seconds: dict[str, list[float]] = {name: [] for name in checkouts}
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            with tempfile.TemporaryDirectory() as folder:
                words = ["-c", COMMAND, "audit", "--out", f"{folder}/run"]
                spent, output = processor_seconds(python, checkout, words)
                if not (Path(folder) / "run" / "report.html").exists():
                    raise RuntimeError(f"expected a report of the {name} checkout, got {output[-500:]!r}")
                seconds[name].append(spent)
            print("audit", name, seconds[name][-1], flush=True)
    return {**seconds, "ratio": _ratio(statistics.median(seconds["new"]), statistics.median(seconds["old"]))}


def tests(python: str, checkouts: dict[str, Path]) -> dict[str, Any]:
    """Seconds of the tests that both have, and the ratio."""
    names = {name: test_names(python, checkout) for name, checkout in checkouts.items()}
    shared = sorted(set(names["old"]) & set(names["new"]))
    figures: dict[str, Any] = {"shared": len(shared), **{f"all {name}": len(rows) for name, rows in names.items()}}
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "names"
        chosen.write_text("\n".join(shared) + "\n", encoding="utf-8")
        for name, checkout in checkouts.items():
            words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"@{chosen}"]
            seconds, output = processor_seconds(python, checkout, words)
            counted = re.findall(r"(\d+) (passed|failed|skipped|error)", output.splitlines()[-1])
            figures[name] = {"seconds": seconds, **{word: int(number) for number, word in counted}}
            print("tests", name, figures[name], flush=True)
    return {**figures, "ratio": _ratio(figures["new"]["seconds"], figures["old"]["seconds"])}


def _ratio(new: float, old: float) -> float:
    return round(new / old, 2)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", required=True, help="a checkout, or a commit of this repository")
    parser.add_argument("--new", type=Path, default=ROOT)
    parser.add_argument("--python", required=True, help="an interpreter with the requirements of both")
    parser.add_argument("--rounds", type=int, default=2, help="of the audit")
    options = parser.parse_args()
    with taken_out(options.old, ROOT) as old:
        checkouts = {"old": old, "new": options.new.resolve()}
        document = {"old": options.old, "audit": audits(options.python, checkouts, options.rounds)}
        document["tests"] = tests(options.python, checkouts)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
