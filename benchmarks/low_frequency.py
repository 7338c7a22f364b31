"""A coarse grid in place of every pixel (`--low-frequency`): refusals, steps and visibility. Writes docs/attacks.md.

    python benchmarks/low_frequency.py [--count 6]

Scenes of the embedded world on `testbed/llava`, 8/255, general shadow questions, at most 60 steps; the saved 8-bit
picture answers the scene's held-out questions by greedy decoding.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from equipoise.attacks.budgets import Budget
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.attacks.refusal_evaluation import evaluate
from equipoise.data.questions import general
from equipoise.models.load import load
from page import put
from refusal import scenes

PAGE = Path(__file__).parents[1] / "docs" / "attacks.md"
SHARES = (None, 1.0, 0.5)
STEPS = 60


def main() -> None:
    """Attack every scene with every share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=6, help="scenes")
    count = parser.parse_args().count
    model, albums = load("testbed/llava"), scenes(count)
    lines = [
        f"{count} scenes, five held-out questions each:",
        "",
        "| share | refused | steps | PSNR, dB | SSIM |",
        "|---|---|---|---|---|",
    ]
    for share in SHARES:
        attack = RefusalAttack(Budget("linf", 8 / 255), steps=STEPS, low_frequency=share)
        results = [attack(album.picture, [model], general(), seed=i) for i, album in enumerate(albums)]
        refused = [
            evaluate(model, result.image, album.held_out).refusals.k
            for result, album in zip(results, albums, strict=True)
        ]
        cells = [
            "every pixel" if share is None else f"{share:g}",
            ", ".join(map(str, refused)),
            ", ".join(str(result.steps) for result in results),
            ", ".join("-" if math.isinf(result.psnr) else f"{result.psnr:.1f}" for result in results),
            ", ".join(f"{result.ssim:.2f}" for result in results),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    put(PAGE, "low frequency", lines)


if __name__ == "__main__":
    main()
