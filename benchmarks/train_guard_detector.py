"""Train the embedded harm detector, or the one over `reference/base`.

    python benchmarks/train_guard_detector.py --base MINILM --most-harmless 600 --composed --out FOLDER
        [--ship src/equipoise/guard/weights]
    python benchmarks/train_guard_detector.py --glance-only --out FOLDER [--ship src/equipoise/guard/weights]
    python benchmarks/train_guard_detector.py --adapter --base reference/base --most 400 --most-harmless 250 --composed
        --compile --out FOLDER [--ship src/equipoise/reference/weights/detector]
    python benchmarks/train_guard_detector.py --adapter --base MINILM --most 400 --most-harmless 250 --composed --merged
        --out FOLDER

`MINILM` is a folder with all-MiniLM-L6-v2 (Apache-2.0). Everything else comes from EQUIPOISE_SHARED_DATA. Kill it and
start it again: it goes on from its last checkpoint. With `--glance-only` FOLDER holds a trained detector, such as a
copy of the embedded one, and only its early exit is trained. With `--adapter` an adapter alone is trained and written,
over any base, on the same rows and without an early exit. `--most` takes at most so many rows of a label and set, which
makes a large base affordable.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from detector_cards import EMBEDDED_CARD, REFERENCE_CARD, trained
from equipoise.guard.detector.folder import ADAPTER, HEAD, SETTINGS
from equipoise.guard.training_rows import LabelledReply as Row
from equipoise.training.detector import DetectorTrainingConfig, train
from equipoise.training.early_exit import EarlyExitTrainingConfig, add_early_exit
from guard_composed import composed_replies, whole_replies
from guard_rows import choices, lessons
from guard_weights import ship


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base")
    parser.add_argument("--glance-only", action="store_true")
    parser.add_argument("--adapter", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, help="3 by default, 1 with --adapter")
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, help="rows of a set and label, at most")
    parser.add_argument("--most-harmless", type=int, help="the same for harmless rows, where they should be fewer")
    parser.add_argument("--composed", action="store_true", help="with the rows of guard_composed.py")
    parser.add_argument("--compile", action="store_true", help="with --adapter: compile the layers of a decoder")
    parser.add_argument(
        "--merged", action="store_true", help="with --adapter: write the whole model, as for an encoder"
    )
    parser.add_argument("--ship", type=Path)
    arguments = parser.parse_args()
    rows = [*lessons(), *composed_replies(), *whole_replies()] if arguments.composed else lessons()
    rows, held_out = thinned(rows, arguments.most, arguments.most_harmless or arguments.most), choices()
    print(len(rows), Counter((row.dataset, row.harmful) for row in rows), len(held_out), flush=True)
    if arguments.adapter:
        recipe = adapter_recipe(
            arguments.base,
            arguments.seed,
            epochs=arguments.epochs or 1,
            compiled=arguments.compile,
            merged=arguments.merged,
        )
        train(
            recipe,
            rows,
            arguments.out,
            held_out=held_out,
            checkpoint_every=50,
            device="cpu",
            progress=lambda step, steps, loss: print_progress(step, steps, loss, every=10),
        )
        print((arguments.out / "metrics.json").read_text())
        if arguments.ship:
            ship_adapter(arguments, rows)
        return
    if not arguments.glance_only:
        # No row holds earlier turns, so none are shown to it.
        recipe = DetectorTrainingConfig(
            arguments.base,
            epochs=arguments.epochs or 3,
            rate=arguments.rate,
            seed=arguments.seed,
            bf16=True,
            surroundings=0,
        )
        train(recipe, rows, arguments.out, held_out=held_out, device="cpu", int8=True)
        print((arguments.out / "metrics.json").read_text())
    early_exit = EarlyExitTrainingConfig(seed=arguments.seed)
    result = add_early_exit(early_exit, arguments.out, rows, held_out, device="cpu", progress=print_progress, int8=True)
    print(result, flush=True)
    if arguments.ship:
        ship(arguments.out, arguments.ship, EMBEDDED_CARD.replace("{trained}", trained(rows)))


def ship_adapter(arguments: argparse.Namespace, rows: Sequence[Row]) -> None:
    """Copy an adapter and its linear unit, with a card."""
    shutil.copytree(arguments.out / ADAPTER, arguments.ship / ADAPTER, dirs_exist_ok=True)
    for name in (HEAD, SETTINGS):
        shutil.copyfile(arguments.out / name, arguments.ship / name)
    given = {
        "--adapter": True,
        f"--base {arguments.base}": True,
        f"--most {arguments.most}": arguments.most,
        f"--most-harmless {arguments.most_harmless}": arguments.most_harmless,
        "--composed": arguments.composed,
        f"--epochs {arguments.epochs}": arguments.epochs,
        "--compile": arguments.compile,
    }
    filled = {
        "options": "".join(f"{option} " for option, used in given.items() if used),
        "seed": arguments.seed,
        "epochs": "one pass" if (arguments.epochs or 1) == 1 else f"{arguments.epochs} passes",
        "trained": trained(rows),
    }
    (arguments.ship / "README.md").write_text(REFERENCE_CARD.format(**filled), encoding="utf-8")


def adapter_recipe(base: str, seed: int, *, epochs: int = 1, compiled: bool, merged: bool) -> DetectorTrainingConfig:
    """Passes over the rows with low-rank adapters over a language model in bfloat16."""
    return DetectorTrainingConfig(
        base,
        epochs=epochs,
        rate=3e-4,
        batch=8,
        seed=seed,
        lora=16,
        frozen_bf16=True,
        adapter_only=not merged,
        surroundings=0,
        windows=2,
        compiled=compiled,
    )


def thinned(rows: Sequence[Row], most: int | None, most_harmless: int | None) -> list[Row]:
    """At most so many rows of each set and label, those with the smallest sha256; None keeps all."""
    order = sorted(rows, key=lambda row: hashlib.sha256(row.id.encode()).digest())
    counts: Counter[tuple[str, bool]] = Counter()
    chosen = set()
    for row in order:
        group = (row.dataset, row.harmful)
        limit = most if row.harmful else most_harmless
        if limit is None or counts[group] < limit:
            counts[group] += 1
            chosen.add(row.id)
    return [row for row in rows if row.id in chosen]


def print_progress(step: int, steps: int, loss: float, every: int = 100) -> None:
    """A line every so many steps."""
    if step % every == 0:
        print(step, steps, round(loss, 4), flush=True)


if __name__ == "__main__":
    main()
