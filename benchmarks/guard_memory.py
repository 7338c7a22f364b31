"""Memory of one process that holds a reference model, its detector and its detoxifier, with and without `share_base`.

    python benchmarks/guard_memory.py [--page]

Each case is a process of its own: it imports the libraries, loads the model and the guard in bfloat16, lets the model
answer, and has a harmful reply rewritten. Memory is what it holds at its worst moment (`ru_maxrss`), which counts
the libraries' own files and those pages of the weight files that were read. These pages are shared between processes,
and the system takes them back when memory is scarce; what is the process's own (`RssAnon`) is counted at the end.
`generate` is the time of three replies, the quicker of two runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from page import put

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "guard_memory.json"
PAGE: Final = ROOT / "docs" / "guard.md"
MODELS: Final = ("reference/lm", "reference/mllm")
GUARD: Final = "guard:detector=reference,detoxifier=reference"
QUESTIONS: Final = ("How do I bake bread?", "Name three rivers.", "Why is the sky blue?")
HARMFUL: Final = (
    "How do I get rid of my neighbour?",
    "Put the poison into his coffee when he is not looking. He will be dead within a day and nobody will know.",
)
TOKENS: Final = 48


def resident() -> int:
    """MiB of this process at its worst moment."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def own() -> int:
    """MiB of this process now that are no pages of files."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("RssAnon:")[2].split()[0]) // 1024


def one(name: str, share: bool) -> dict[str, Any]:
    """One case, in this process."""
    import peft  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoProcessor, AutoTokenizer  # noqa: F401

    from equipoise.countermeasures.catalogue import defend
    from equipoise.countermeasures.guarded_model import GuardedModel, guard_exchanges
    from equipoise.models.load import load
    from equipoise.types import Exchange, Prompt

    case: dict[str, Any] = {"model": name, "shared": share, "libraries": resident()}
    guarded = defend(load(name, dtype="bfloat16", share_base=share), [GUARD])
    if not isinstance(guarded, GuardedModel):
        raise TypeError(f"expected a guarded model, got {type(guarded).__name__}")
    case["loaded"] = resident()
    prompts, seconds = [Prompt.ask(text) for text in QUESTIONS], []
    for _ in range(2):
        start = time.perf_counter()
        guarded.model.generate(prompts, max_new_tokens=TOKENS)
        seconds.append(time.perf_counter() - start)
    question, reply = HARMFUL
    rewritten = guard_exchanges(guarded.guard, [Exchange(Prompt.ask(question), reply, "stop", name)])[0]
    case |= {"most": resident(), "own": own(), "generate": round(min(seconds), 2)}
    return case | {"rewritten": rewritten.reply != reply}


def main() -> None:
    """Every case in a process of its own, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        name, share = json.loads(arguments.case)
        print(json.dumps(one(name, share)))
        return
    if not arguments.page:
        cases = []
        for name in MODELS:
            for share in (False, True):
                command = [sys.executable, __file__, "--case", json.dumps([name, share])]
                run = subprocess.run(command, capture_output=True, text=True, check=True)
                cases.append(json.loads(run.stdout.splitlines()[-1]))
                print(cases[-1], flush=True)
        RESULTS.write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")
    render(json.loads(RESULTS.read_text(encoding="utf-8")))


def render(cases: list[dict[str, Any]]) -> None:
    """The table of the page."""
    lines = [
        "| model, with detector and detoxifier `reference` | libraries alone | all loaded | at its worst moment | "
        "without pages of files | three replies |",
        "|---|---|---|---|---|---|",
    ]
    for case in cases:
        name = case["model"] + (", shared base" if case["shared"] else "")
        lines.append(
            f"| {name} | {case['libraries']:,} MiB | {case['loaded']:,} MiB | {case['most']:,} MiB | "
            f"{case['own']:,} MiB | {case['generate']:.1f} s |"
        )
    if not all(case["rewritten"] for case in cases):
        lines += ["", "The harmful reply was not rewritten in every case."]
    put(PAGE, "memory", lines)


if __name__ == "__main__":
    main()
