"""Processor time of replies in batches of similar length against batches in the order of arrival.

    python benchmarks/generation_batches.py --data FOLDER [--model reference/lm] [--rounds 3] [--write]

Prompts are HarmBench's, some of which hold a document, and XSTest's, which are a line each, in one shuffled order. Both
ways reply to the same prompts in turn; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from equipoise.data.catalogue import load_suite
from equipoise.models import generation, transformers_model
from equipoise.models.load import load
from equipoise.models.transformers_model import TransformersModel
from equipoise.types import Prompt
from page import put

PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
SUITES: Final = ("harmbench", "xstest")


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="reference/lm")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=64, help="prompts")
    parser.add_argument("--reply-tokens", type=int, default=32)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    arguments = parser.parse_args()
    model = load(arguments.model, dtype=arguments.dtype)
    assert isinstance(model, TransformersModel)
    prompts = [s.prompt for n in SUITES for s in load_suite(n, root=arguments.data, limit=arguments.count).samples]
    random.Random(0).shuffle(prompts)
    prompts = prompts[: arguments.count]
    size = transformers_model.GENERATION_BATCH
    seconds: dict[str, list[float]] = {"similar length": [], "order of arrival": []}
    for _ in range(arguments.rounds):
        begin = time.process_time()
        model.generate(prompts, max_new_tokens=arguments.reply_tokens)
        seconds["similar length"].append(time.process_time() - begin)
        begin = time.process_time()
        for start in range(0, len(prompts), size):
            _one_batch(model, prompts[start : start + size], arguments.reply_tokens)
        seconds["order of arrival"].append(time.process_time() - begin)
        print({name: round(values[-1], 2) for name, values in seconds.items()}, flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    lines = [
        f"`python benchmarks/generation_batches.py --data FOLDER --write`: {len(prompts)} prompts of HarmBench and "
        f"XSTest to `{arguments.model}`, replies of {arguments.reply_tokens} tokens, {arguments.dtype}, "
        f"{torch.get_num_threads()} thread, medians of {arguments.rounds} rounds.",
        "",
        "| batches | processor seconds |",
        "|---|---:|",
        *(f"| {name} | {value:.1f} |" for name, value in medians.items()),
        "",
        f"Ratio {medians['order of arrival'] / medians['similar length']:.1f}.",
    ]
    print("\n".join(lines))
    if arguments.write:
        put(PAGE, "generation_batches", lines)


def _one_batch(model: TransformersModel, prompts: Sequence[Prompt], limit: int) -> None:
    """Reply to prompts in one padded batch, whatever their lengths."""
    config = generation.greedy_config(model.model, model.stop_tokens, limit)
    with model.frozen():
        generation.generate(model.model, model.processor, model._chat, prompts, config, model.name)


if __name__ == "__main__":
    main()
