"""Train the embedded harm detector.

    python benchmarks/train_guard_detector.py --base MINILM --out FOLDER [--ship src/equipoise/guard/weights]

`MINILM` is a folder with all-MiniLM-L6-v2 (Apache-2.0). Everything else comes from EQUIPOISE_SHARED_DATA. Kill it and
start it again: it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from equipoise.training.detector import Recipe, train
from guard_rows import choices, lessons


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows, held = lessons(), choices()
    print(len(rows), Counter((row.dataset, row.harmful) for row in rows), len(held), flush=True)
    recipe = Recipe(
        arguments.base, epochs=arguments.epochs, rate=arguments.rate, seed=arguments.seed, bf16=True, batch=16
    )
    train(recipe, rows, arguments.out, held_out=held, device="cpu", int8=True)
    print((arguments.out / "metrics.json").read_text())


if __name__ == "__main__":
    main()
