"""Peak memory of one step of an adaptive attack on a defended model of hub size, checkpointing on and off.

    python benchmarks/defended_memory.py --geometry llava-7b    # random weights in LLaVA-1.5-7B's geometry, bfloat16
    python benchmarks/defended_memory.py --geometry llava-7b-8  # the same with 8 of its 32 language layers

A step is loss and pixel gradient of a few questions about one picture through the countermeasures. Memory is what the
process holds at its worst moment beyond what it held before the step (VmHWM of /proc, reset before the step). Each case
runs in a process of its own. `layers` is the model's own gradient checkpointing, `steps` that of the diffusion.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from equipoise.countermeasures.base import Countermeasure
from equipoise.countermeasures.catalogue import defend
from equipoise.data.questions import general
from equipoise.models.base import OpenModel
from equipoise.transforms.diffusion import DiffPure
from equipoise.types import Prompt
from geometries import GEOMETRIES, build
from page import put

PAGE = Path(__file__).parents[1] / "docs" / "countermeasures.md"
RESULTS = Path(__file__).parent / "results" / "defended_memory.json"
REPLY = "I'm sorry, but I can't help with that."
CASES = (
    ((), True),
    ((), False),
    (("diffpure:t=0.1,steps=10,fit=tile",), True),
)
"""Chain, and whether checkpointing is on."""


def resident(name: str) -> int:
    """Bytes: `VmRSS` now, `VmHWM` at the worst moment since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"expected {name} in /proc/self/status, got none; try Linux")


def memory_gb() -> int:
    """Of this machine."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def one(geometry: str, specs: list[str], checkpointing: bool, count: int) -> dict[str, Any]:
    """One step of one case."""
    # Where the machine's memory does not suffice, this process goes first and nothing else with it.
    Path("/proc/self/oom_score_adj").write_text("1000")
    texts = list(general())[:count]
    model = build(geometry, [*texts, REPLY], device=torch.device("cpu"), dtype=torch.bfloat16)
    model.gradient_checkpointing = checkpointing
    defended = _without_checkpoints(defend(model, specs)) if not checkpointing else defend(model, specs)
    pixels = torch.rand(3, 240, 320, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)
    prompts = [Prompt.ask(text) for text in texts]
    weights = sum(p.numel() * p.element_size() for p in model.model.parameters())
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident("VmRSS"), time.perf_counter()
    losses, gradient = defended.loss_and_grad(pixels, prompts, [REPLY] * count)
    return {
        "specs": specs,
        "checkpointing": checkpointing,
        "weights_mb": round(weights / 2**20),
        "beyond_mb": round((resident("VmHWM") - before) / 2**20),
        "seconds": round(time.perf_counter() - start, 1),
        "finite": bool(gradient.isfinite().all() and losses.isfinite().all()),
    }


def _without_checkpoints(model: OpenModel) -> OpenModel:
    for layer in model.layers if isinstance(model, Countermeasure) else ():
        used: Any = getattr(layer, "transform", None)
        if isinstance(used, DiffPure):
            layer.transform = replace(used, checkpointing=False)  # type: ignore[attr-defined]
    return model


def main() -> None:
    """Every case in a process of its own, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", choices=sorted(GEOMETRIES), default="llava-7b")
    parser.add_argument("--questions", type=int, default=2)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        specs, checkpointing = json.loads(arguments.case)
        print(json.dumps(one(arguments.geometry, specs, checkpointing, arguments.questions)))
        return
    cases = []
    for specs, checkpointing in CASES:
        case = json.dumps([list(specs), checkpointing])
        command = [sys.executable, __file__, "--geometry", arguments.geometry, "--questions", str(arguments.questions)]
        run = subprocess.run([*command, "--case", case], capture_output=True, text=True)
        if run.returncode == -signal.SIGKILL:
            cases.append({"specs": list(specs), "checkpointing": checkpointing, "killed": True})
        else:
            run.check_returncode()
            cases.append(json.loads(run.stdout.splitlines()[-1]))
        print(cases[-1], flush=True)
        # After every case: on a CPU each takes minutes.
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        about = {
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "questions": arguments.questions,
            "room": f"more than this machine's {memory_gb()} GiB, model included",
        }
        RESULTS.write_text(json.dumps({**known, arguments.geometry: {**about, "cases": cases}}, indent=1) + "\n")
        render()


def render() -> None:
    """Write the table of docs/countermeasures.md between its markers."""
    lines = [
        "| geometry (weights) | countermeasures | checkpointing | memory beyond the model | seconds a step |",
        "|---|---|---|---|---|",
    ]
    for geometry, machine in json.loads(RESULTS.read_text()).items():
        for case in machine["cases"]:
            chain = ", ".join(f"`{spec}`" for spec in case["specs"]) or "none"
            if case.get("killed"):
                lines.append(
                    f"| {geometry} | {chain} | {'on' if case['checkpointing'] else 'off'} | {machine['room']} | |"
                )
                continue
            lines.append(
                f"| {geometry} ({case['weights_mb']:,} MiB) | {chain} | {'on' if case['checkpointing'] else 'off'} "
                f"| {case['beyond_mb']:,} MiB | {case['seconds']} |"
            )
    put(PAGE, "memory", lines)


if __name__ == "__main__":
    main()
