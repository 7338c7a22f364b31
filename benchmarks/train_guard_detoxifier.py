"""Train the detoxifier in English, an adapter over `reference/base` (MLLM-Protector, arXiv:2401.02906, section 3.2).

    python benchmarks/train_guard_detoxifier.py --out FOLDER [--ship src/equipoise/reference/weights/detoxifier]

Rows come from `benchmarks/rewrite_rows.py` and EQUIPOISE_SHARED_DATA. The replies of `reference/base` to harmful
requests are kept in FOLDER. Kill it and start it again: it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Final

from equipoise.files import read_json_lines, write_whole
from equipoise.models.load import load
from equipoise.training.detoxifier import DetoxifierTrainingConfig, row_warnings, train
from equipoise.types import Prompt
from rewrite_rows import HarmfulReply, harmful_requests, lessons

BASE: Final = "reference/base"
REPLY_TOKENS: Final = 80
"""Of a reply of the base to a harmful request."""
BATCH: Final = 32


def main() -> None:
    """Answer harmful requests, train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", type=Path, help="copy the adapter into this folder")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = lessons(own_replies(arguments.out / "own_replies.jsonl"), arguments.seed)
    print(len(rows), Counter(row.id.rpartition("-")[0] for row in rows), row_warnings(rows), flush=True)
    recipe = DetoxifierTrainingConfig(
        BASE,
        epochs=arguments.epochs,
        rate=arguments.rate,
        batch=8,
        seed=arguments.seed,
        lora=16,
        frozen_bf16=True,
        adapter_only=True,
        compiled=True,
        longest=320,
    )
    train(recipe, rows, arguments.out, checkpoint_every=50, device="cpu", progress=print_progress)
    if arguments.ship:
        arguments.ship.mkdir(parents=True, exist_ok=True)
        for name in ("adapter_config.json", "adapter_model.safetensors", "base.json"):
            shutil.copyfile(arguments.out / name, arguments.ship / name)


def own_replies(file: Path) -> list[HarmfulReply]:
    """What `reference/base`, which refuses almost nothing, replies to harmful requests; kept in a file."""
    if not file.exists():
        requests = harmful_requests()
        model = load(BASE, dtype="bfloat16")
        replies: list[str] = []
        for start in range(0, len(requests), BATCH):
            prompts = [Prompt.ask(text) for text in requests[start : start + BATCH]]
            replies += [exchange.reply for exchange in model.generate(prompts, max_new_tokens=REPLY_TOKENS)]
            print("replies", len(replies), len(requests), flush=True)
        write_whole(file, "".join(json.dumps(pair) + "\n" for pair in zip(requests, replies, strict=True)))
    pairs = enumerate(read_json_lines(file))
    return [HarmfulReply(f"own-{at}", "own", question, reply) for at, (question, reply) in pairs if reply]


def print_progress(step: int, steps: int, loss: float) -> None:
    """A line every ten steps."""
    if step % 10 == 0:
        print(step, steps, round(loss, 4), flush=True)


if __name__ == "__main__":
    main()
