"""One step (loss and pixel gradient) with the shared prefix against the two plain ways, at 1 to 50 questions.

    python benchmarks/shared_prefix.py                                          # both small models, on the CPU
    python benchmarks/shared_prefix.py --device cuda --geometry llava-7b        # LLaVA-1.5-7B's sizes, bfloat16

(a) is one question at a time, as the official code of MLLM-Refusal does; (b) is one batch with a row for each question
and the picture repeated. Both are plain transformers: all logits, one backward pass. The three are run in turn within
each round and compared by the median of the rounds' ratios, so that a busy machine slows all of them alike. Memory is
measured in a process of its own for each number. Weights are random: times do not depend on them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from equipoise.data.questions import general
from equipoise.models.hf import HuggingFaceModel
from equipoise.types import Prompt
from geometries import GEOMETRIES, build
from page import put

MEMORY = ("shared_mb", "one_mb", "batch_mb")
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
REPLIES = {"general": "I'm sorry, but I can't help with that.", "short": "I cannot help with that."}
SHAPES = ("star", "ring", "cross", "circle", "square")
SHORT = (
    "What colour is the {}?",
    "Where is the {}?",
    "Is there a {}?",
    "Is the {} red?",
    "Find the {}.",
    "Count each {}.",
    "How big is the {}?",
    "Which {} is left?",
    "Is the {} blue?",
    "Name the {}.",
)
Step = Callable[[], tuple[Tensor, Tensor]]
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


def questions(kind: str) -> list[str]:
    """50 different questions: the project's general ones, or short ones as those of the embedded world."""
    return list(general()) if kind == "general" else [form.format(shape) for shape in SHAPES for form in SHORT]


def steps(model: HuggingFaceModel, kind: str, count: int) -> dict[str, Step]:
    """The three ways to the same losses and gradient."""
    pixels = torch.rand(3, 240, 320, generator=torch.Generator().manual_seed(0)).to(model.device)
    prompts, replies = [Prompt.ask(text) for text in questions(kind)[:count]], [REPLIES[kind]] * count
    rows = model.encode(pixels, prompts, replies)
    path = model.differentiable_processor

    def plain(chosen: list[Any], image: Tensor) -> Tensor:
        longest = max(len(row.tokens) for row in chosen)
        tokens = torch.stack([functional.pad(row.tokens, (0, longest - len(row.tokens))) for row in chosen])
        labels = torch.full_like(tokens, -100)
        for line, row in zip(labels, chosen, strict=True):
            line[row.prompt_length : len(row.tokens)] = row.tokens[row.prompt_length :]
        tokens, labels = tokens.to(model.device), labels.to(model.device)
        attended = torch.arange(longest) < torch.tensor([[len(row.tokens)] for row in chosen])
        values = image.repeat(len(chosen), 1, 1, 1)
        logits = model.model(
            input_ids=tokens, attention_mask=attended.long().to(model.device), pixel_values=values, use_cache=False
        ).logits
        losses = functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none"
        ).sum(1) / (labels != -100).sum(1)
        losses.sum().backward()
        return losses.detach()

    def step(batches: list[list[Any]]) -> tuple[Tensor, Tensor]:
        # The picture goes through the processor once, whichever way the questions go.
        leaf = pixels.clone().requires_grad_(True)
        image = path(leaf, (), rows[0].text)["pixel_values"]
        cut = image.detach().requires_grad_(True)
        losses = torch.cat([plain(batch, cut) for batch in batches])
        image.backward(cut.grad)
        return losses, leaf.grad

    return {
        "shared": lambda: model.loss_and_grad(pixels, prompts, replies),
        "one": lambda: step([[row] for row in rows]),
        "batch": lambda: step([rows]),
    }


def seconds(step: Step, device: torch.device, clock: Clock) -> float:
    """How long one step takes."""
    _wait(device)
    start = clock()
    step()
    _wait(device)
    return clock() - start


def matmul_rate(device: torch.device, dtype: torch.dtype, clock: Clock) -> float:
    """Floating-point operations a second in large matrix products, as this machine gives them just now."""
    side = 4096 if device.type == "cuda" else 1024
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds(lambda: (one @ other, one), device, clock)


def operations(step: Step) -> int:
    """Counted floating-point operations of one step (fused CPU attention is not among them)."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def compare(
    model: HuggingFaceModel, kind: str, count: int, rounds: int, limit: float, clock: Clock
) -> dict[str, float]:
    """Times in milliseconds, ratios, equality and share of the matmul rate for one number of questions."""
    ways = steps(model, kind, count)
    results = {name: step() for name, step in ways.items()}
    apart = max(
        float((results["shared"][1] - results[name][1]).norm() / results[name][1].norm()) for name in ("one", "batch")
    )
    times: dict[str, list[float]] = {name: [] for name in (*ways, "rate")}
    begun = time.perf_counter()
    while len(times["shared"]) < rounds and (len(times["shared"]) < 3 or time.perf_counter() - begun < limit):
        # Another one begins each round: who runs first finds the caches cold.
        turn = len(times["rate"]) % len(ways)
        for name, step in [*ways.items()][turn:] + [*ways.items()][:turn]:
            times[name].append(seconds(step, model.device, clock))
        times["rate"].append(matmul_rate(model.device, model.model.dtype, clock))
    flops = {name: operations(step) for name, step in ways.items()}
    share = [flops["shared"] / spent / rate for spent, rate in zip(times["shared"], times["rate"], strict=True)]

    def ratio(name: str) -> float:
        return statistics.median(o / s for o, s in zip(times[name], times["shared"], strict=True))

    return {
        "questions": count,
        "rounds": len(times["shared"]),
        **{f"{name}_ms": 1000 * statistics.median(times[name]) for name in ways},
        "over_one": ratio("one"),
        "over_batch": ratio("batch"),
        "fewer_than_one": flops["one"] / flops["shared"],
        "fewer_than_batch": flops["batch"] / flops["shared"],
        "matmul_share": statistics.median(share),
        "gradient_apart": apart,
    }


def memory(arguments: argparse.Namespace) -> None:
    """Print the megabytes that one way takes beside the model, as a process of its own measures them."""
    model = _model(arguments.geometry[0], arguments)
    count = arguments.questions[0]
    steps(model, arguments.text, 2)["shared"]()
    step = steps(model, arguments.text, count)[arguments.memory_of]
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        peak = torch.cuda.max_memory_allocated() - before
    else:
        # What earlier steps freed is given back to the system, or it would hide what this one takes.
        ctypes.CDLL(None).malloc_trim(0)
        # Writing 5 makes Linux forget the highest memory so far, which loading and the self-check have set.
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        step()
        peak = _status("VmHWM") - before
    print(json.dumps(peak / 2**20))


def memories(geometry: str, count: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Peak memory of the three ways."""
    memory = {}
    for name in ("shared", "one", "batch"):
        line = [sys.executable, __file__, "--geometry", geometry, "--questions", str(count), "--memory-of", name]
        line += ["--device", arguments.device, "--text", arguments.text, "--threads", str(arguments.threads)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        memory[f"{name}_mb"] = float(done.stdout.splitlines()[-1]) if done.returncode == 0 else float("nan")
    return memory


def table(geometry: str, kind: str, lines: list[dict[str, float]]) -> str:
    """The lines of one model as Markdown."""
    sizes = GEOMETRIES[geometry]
    tokens = (sizes.side // sizes.patch) ** 2
    head = (
        f"**{geometry}**, {kind} questions: {tokens} image tokens, {sizes.text[2]} layers of {sizes.text[0]}\n\n"
        "| questions | shared ms | (a) one at a time ms | (b) batch ms | faster than (a) (operations) "
        "| faster than (b) (operations) | of matmul rate | memory MiB shared / (a) / (b) |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(
        f"| {line['questions']} | {line['shared_ms']:.0f} | {line['one_ms']:.0f} | {line['batch_ms']:.0f} "
        f"| {line['over_one']:.2f}x ({line['fewer_than_one']:.2f}x) "
        f"| {line['over_batch']:.2f}x ({line['fewer_than_batch']:.2f}x) | {line['matmul_share']:.0%} "
        f"| {' / '.join(f'{line[key]:.0f}' for key in MEMORY) if all(key in line for key in MEMORY) else 'left out'} |"
        for line in lines
    )


def main() -> None:
    """Measure, print, and with `--write` put the tables on the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", nargs="+", choices=GEOMETRIES, default=["testbed", "llava-576"])
    parser.add_argument("--questions", nargs="+", type=int, default=[1, 3, 10, 50])
    parser.add_argument("--text", choices=REPLIES, default="general", help="general: about 25 tokens; short: about 15")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=15, help="at most so many rounds for a number of questions")
    parser.add_argument("--limit", type=float, default=60.0, help="and no new round after so many seconds (3 at least)")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: processor seconds of this process, for a busy machine"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave memory out")
    parser.add_argument("--memory-of", choices=("shared", "one", "batch"), help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/performance.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        memory(arguments)
        return
    parts = []
    for geometry in arguments.geometry:
        model = _model(geometry, arguments)
        lines = []
        for count in arguments.questions:
            line = compare(model, arguments.text, count, arguments.rounds, arguments.limit, CLOCKS[arguments.clock])
            if not arguments.no_memory:
                line |= memories(geometry, count, arguments)
            print(geometry, json.dumps({key: round(value, 6) for key, value in line.items()}), flush=True)
            lines.append(line)
        parts.append(f"{table(geometry, arguments.text, lines)}\n\nSharing: {model.sharing}.")
    recipe = f"`python benchmarks/shared_prefix.py {' '.join(sys.argv[1:])}`".replace(" `", "`")
    section = "\n\n".join([f"{recipe}, {_machine(arguments)}", *parts])
    print(section)
    if arguments.write:
        put(PAGE, f"shared_prefix {torch.device(arguments.device).type} {arguments.text}", [section])


def _model(geometry: str, arguments: argparse.Namespace) -> HuggingFaceModel:
    device = torch.device(arguments.device)
    model = build(
        geometry,
        [REPLIES[arguments.text], *questions(arguments.text)],
        device=device,
        dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
    )
    model.model.requires_grad_(False)
    return model


def _status(field: str) -> int:
    """Bytes that Linux reports for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _machine(arguments: argparse.Namespace) -> str:
    if torch.device(arguments.device).type == "cuda":
        return f"{torch.cuda.get_device_name()}, bfloat16, torch {torch.__version__}"
    load = f"load average {os.getloadavg()[0]:.1f} at the end, {arguments.clock} time"
    return f"{arguments.threads} threads of {platform.machine()}, float32, torch {torch.__version__}, {load}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
