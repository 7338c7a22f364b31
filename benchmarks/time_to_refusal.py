"""Time until 95 % of held-out questions are refused: ours with early stopping against the official recipe.

    python benchmarks/time_to_refusal.py --count 10      # goes on where it was stopped
    python benchmarks/time_to_refusal.py --render

Same model, same pictures, same 50 general shadow questions, same run. The official recipe is `bim-paper`: 1,500
steps, 3 questions a step one after the other, no early stop by asking. Its trajectory is asked the held-out questions
every 5 steps with the clock stopped, until they are refused, so that both of its times are known: the whole recipe,
and the first moment at which it would do (an oracle, as nobody can ask the held-out questions).

Both aim at the model's own refusals, which are elicited once for a model, before the clock; the page says how long that
takes. Ratios are of the same picture; their intervals are percentiles of the median under resampling of pictures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.attacks.attack_state import StopCriteria
from equipoise.attacks.budgets import Budget
from equipoise.attacks.elicitation import elicit
from equipoise.attacks.objectives import TargetReplyLoss
from equipoise.attacks.refusal_evaluation import prompts_about
from equipoise.attacks.refusal_targets import most_likely_refusal
from equipoise.attacks.solvers import PaperBim
from equipoise.attacks.success_checks import refusal_rate_check
from equipoise.attacks.wordings import OwnRefusals
from equipoise.data.questions import general
from equipoise.files import write_whole
from equipoise.media.quantize import to_pixels
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from page import put
from refusal import EPSILON, Album, attack, scenes

RESULTS = Path(__file__).parent / "results" / "time_to_refusal.json"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
Row = dict[str, dict[str, Any]]
"""`ours` and `official` on one picture: `whole` and `reached` in seconds, `steps`, the share `held_out`. With `run`:
the `threads` and the `torch` that it was measured with."""
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


def ours(model: OpenModel, own: OwnRefusals, album: Album, seed: int) -> dict[str, float | None]:
    """Ours on the same picture: the clock includes every check and the choice of the aim."""
    started = time.perf_counter()
    settings = replace(attack("general"), own_refusals=(own,))
    result = settings(album.picture, [model], list(general()), seed=seed)
    seconds = time.perf_counter() - started
    return {"whole": seconds, "steps": float(result.steps), "held_out": held_out(model, album)(result.pixels)}


def main() -> None:
    """Run both on the same pictures, in turn, and write the lines of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--render", action="store_true")
    arguments = parser.parse_args()
    rows: list[Row] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if not arguments.render and len(rows) < arguments.count:
        model: Any = load("testbed/llava")
        started = time.perf_counter()
        own = elicit(model)
        print(f"asked what it refuses: {time.perf_counter() - started:.1f} s (cached by revision)", flush=True)
        for index, album in list(enumerate(scenes(arguments.count)))[len(rows) :]:
            run = {"threads": torch.get_num_threads(), "torch": torch.__version__.split("+")[0]}
            rows.append({"ours": ours(model, own, album, index), "official": official(model, album, index), "run": run})
            print(json.dumps(rows[-1]), flush=True)
            RESULTS.parent.mkdir(exist_ok=True)
            write_whole(RESULTS, json.dumps(rows, indent=1) + "\n")
    write(rows)


def ratio(rows: list[Row], what: str) -> str:
    """The median over pictures of a time of the official recipe over ours, with a 95 % interval by bootstrap."""
    values = [row["official"][what] / row["ours"]["whole"] for row in rows if row["official"][what] is not None]
    if not values:
        return "-"
    random = np.random.default_rng(0)
    medians = np.median(random.choice(values, (10_000, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return f"{np.median(values):.1f}x [{low:.1f}, {high:.1f}]"


def write(rows: list[Row]) -> None:
    """Put the pictures so far into docs/performance.md."""
    reached = sum(row["official"]["reached"] is not None for row in rows)
    lines = [
        f"`python benchmarks/time_to_refusal.py --count {len(rows)}`, {measured_with(rows)}, medians over {len(rows)} "
        "pictures, 95 % intervals by bootstrap:",
        "",
        "| recipe | seconds | steps | held-out questions refused at the end | times ours |",
        "|---|---|---|---|---|",
        f"| official, as it ends | {_median(rows, 'official', 'whole'):.0f} | {_median(rows, 'official', 'steps'):.0f} "
        f"| {_mean(rows, 'official'):.2f} | {ratio(rows, 'whole')} |",
        f"| official, stopped by an oracle at 95 % of held-out questions | {_median(rows, 'official', 'reached'):.1f} "
        f"({reached} of {len(rows)} pictures got there) | | | {ratio(rows, 'reached')} |",
        f"| ours | {_median(rows, 'ours', 'whole'):.1f} | {_median(rows, 'ours', 'steps'):.0f} "
        f"| {_mean(rows, 'ours'):.2f} | 1 |",
    ]
    put(PAGE, "time to refusal", lines)


def measured_with(rows: list[Row]) -> str:
    """The threads and the torch of the measurement, whatever machine renders it."""
    runs = dict.fromkeys((row["run"]["threads"], row["run"]["torch"]) for row in rows if "run" in row)
    texts = [f"{threads} thread{'s' if threads > 1 else ''}, torch {version}" for threads, version in runs]
    if any("run" not in row for row in rows):
        texts.append("threads and torch not kept")
    return " and ".join(texts)


def _median(rows: list[Row], who: str, what: str) -> float:
    values = [row[who][what] for row in rows if row[who][what] is not None]
    return float(np.median(values)) if values else float("nan")


def _mean(rows: list[Row], who: str) -> float:
    return float(np.mean([row[who]["held_out"] for row in rows]))


if __name__ == "__main__":
    main()
