"""Time until 95 % of held-out questions are refused: ours with early stopping against the official recipe.

    python benchmarks/time_to_refusal.py --count 5

Same model, same pictures, same 50 general shadow questions, same run. The official recipe is `bim-paper`: 1,500
steps, 3 questions a step one after the other, no early stop by asking. Its trajectory is asked the held-out questions
every 5 steps with the clock stopped, until they are refused, so that both of its times are known: the whole recipe,
and the first moment at which it would do.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equipoise.attacks.attack_state import StopCriteria
from equipoise.attacks.budgets import Budget
from equipoise.attacks.objectives import TargetReplyLoss
from equipoise.attacks.refusal_attack import prompts_about
from equipoise.attacks.refusal_targets import most_likely_refusal
from equipoise.attacks.solvers import PaperBim
from equipoise.attacks.success_checks import refusal_rate_check
from equipoise.data.questions import general
from equipoise.media.quantize import to_pixels
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from refusal import EPSILON, Album, attack, scenes

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
ENOUGH = 0.95
EVERY = 5


def held_out(model: OpenModel, album: Album) -> Callable[[Tensor], float]:
    """The share of an album's held-out questions that a model refuses."""
    return refusal_rate_check([model], prompts_about(album.picture, album.held_out), target_rate=0.0)


class Watch:
    """Asks the held-out questions now and then, with the clock stopped, and never tells the attack."""

    def __init__(self, model: OpenModel, album: Album) -> None:
        self._rate = held_out(model, album)
        self._started = time.perf_counter()
        self.asking = 0.0
        self.reached: float | None = None

    def __call__(self, pixels: Tensor) -> float:
        """Ask, note the moment, and report that nothing was reached."""
        if self.reached is not None:
            return 0.0
        begun = time.perf_counter()
        if self._rate(pixels) >= ENOUGH:
            self.reached = begun - self._started - self.asking
        self.asking += time.perf_counter() - begun
        return 0.0


def official(model: OpenModel, album: Album, seed: int) -> dict[str, float | None]:
    """The official recipe on one picture."""
    prompts = prompts_about(album.picture, general())
    aim = most_likely_refusal(to_pixels(album.picture), [model], prompts[:3])
    objective = TargetReplyLoss((model,), tuple(prompts), aim)
    watch = Watch(model, album)
    result = PaperBim(Budget("linf", EPSILON))(
        objective, to_pixels(album.picture), seed=seed, success=watch, stop=StopCriteria(check_every=EVERY)
    )
    return {
        "whole": result.seconds - watch.asking,
        "reached": watch.reached,
        "steps": float(result.steps),
        "held_out": held_out(model, album)(result.pixels),
    }


def ours(model: OpenModel, album: Album, seed: int) -> dict[str, float | None]:
    """Ours on the same picture: the clock includes every check."""
    started = time.perf_counter()
    result = attack("general")(album.picture, [model], list(general()), seed=seed)
    seconds = time.perf_counter() - started
    return {"whole": seconds, "steps": float(result.steps), "held_out": held_out(model, album)(result.pixels)}


def main() -> None:
    """Run both on the same pictures, in turn, and write the lines of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5)
    arguments = parser.parse_args()
    model = load("testbed/llava")
    rows = []
    for index, album in enumerate(scenes(arguments.count)):
        row = {"ours": ours(model, album, index), "official": official(model, album, index)}
        rows.append(row)
        print(json.dumps(row), flush=True)
        write(rows)


def write(rows: list[dict[str, dict[str, float | None]]]) -> None:
    """Put the pictures so far into docs/performance.md."""
    whole = [r["official"]["whole"] / r["ours"]["whole"] for r in rows]  # type: ignore[operator]
    first = [r["official"]["reached"] / r["ours"]["whole"] for r in rows if r["official"]["reached"]]  # type: ignore[operator]
    lines = [
        f"`python benchmarks/time_to_refusal.py --count {len(rows)}`, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__.split('+')[0]}, medians over {len(rows)} pictures:",
        "",
        "| | ours | official recipe | ratio |",
        "|---|---|---|---|",
        f"| seconds, as each recipe ends | {_median(rows, 'ours', 'whole'):.1f} "
        f"| {_median(rows, 'official', 'whole'):.0f} "
        f"| {np.median(whole):.0f}x ({min(whole):.0f} to {max(whole):.0f}) |",
        f"| seconds until 95 % of held-out questions are refused | {_median(rows, 'ours', 'whole'):.1f} "
        f"| {_median(rows, 'official', 'reached'):.1f} ({len(first)} of {len(rows)} pictures got there) "
        f"| {np.median(first) if first else float('nan'):.1f}x |",
        f"| steps | {_median(rows, 'ours', 'steps'):.0f} | {_median(rows, 'official', 'steps'):.0f} | |",
        f"| held-out questions refused at the end | {_mean(rows, 'ours'):.2f} | {_mean(rows, 'official'):.2f} | |",
    ]
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split("<!-- time to refusal -->")[0], text.split("<!-- end time to refusal -->")[1]
    block = "\n".join(lines)
    PAGE.write_text(f"{before}<!-- time to refusal -->\n{block}\n<!-- end time to refusal -->{after}", encoding="utf-8")


def _median(rows: list[dict[str, dict[str, float | None]]], who: str, what: str) -> float:
    values = [row[who][what] for row in rows if row[who][what] is not None]
    return float(np.median(values)) if values else float("nan")


def _mean(rows: list[dict[str, dict[str, float | None]]], who: str) -> float:
    return float(np.mean([row[who]["held_out"] for row in rows]))


if __name__ == "__main__":
    main()
