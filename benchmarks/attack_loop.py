"""CPU time of a step of the attack loop without the models' own work. Writes the table of docs/attacks.md.

    OMP_NUM_THREADS=1 python benchmarks/attack_loop.py

The objective here costs nothing: its gradient is drawn once. What remains is the update rule, the projection onto the
budget, the rounding to 8 bits, the trace, and with `perceptual` the penalty with its own gradient.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from equipoise.attacks.base import Attack
from equipoise.attacks.budgets import Budget
from equipoise.attacks.objectives import LossAndGrad, Objective
from equipoise.attacks.perceptual import Perceptual
from equipoise.attacks.solvers import Apgd, Bim, Momentum, PaperBim
from page import put

PAGE = Path(__file__).parents[1] / "docs" / "attacks.md"
SIZES = ((192, 160), (336, 336), (480, 640))
"""Rows and columns of pictures."""
QUESTIONS = 10
LINF, L2 = Budget("linf", 8 / 255), Budget("l2", 8.0)
STEPS = 40
ROUNDS = 5
"""The fastest counts: what else the machine does only adds."""
ATTACKS: dict[str, Attack] = {
    "`bim`": Bim(LINF, steps=STEPS),
    "`momentum`": Momentum(LINF, steps=STEPS),
    "`apgd`": Apgd(LINF, steps=STEPS),
    f"`bim-paper`, {QUESTIONS} questions": PaperBim(LINF, steps=STEPS),
    "`momentum`, `l2`": Momentum(L2, steps=STEPS),
    "`momentum`, `--perceptual`": Momentum(LINF, steps=STEPS, perceptual=Perceptual()),
}


class FreeObjective(Objective):
    """A loss that costs nothing: linear in the picture, with a gradient that is drawn once.

    Args:
        rows: of the picture.
        columns: of the picture.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._gradient = torch.randn((3, rows, columns), generator=Generator().manual_seed(0))

    @property
    def size(self) -> int:
        """As many questions as the table says."""
        return QUESTIONS

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        """The gradient as it is, beside a loss far from converged."""
        return LossAndGrad(1.0, self._gradient)

    def describe(self) -> dict[str, Any]:
        """Its name."""
        return {"objective": "free"}


def milliseconds(attack: Attack, rows: int, columns: int) -> float:
    """Processor time of a step, the least of some rounds."""
    clean = torch.randint(256, (3, rows, columns), generator=Generator().manual_seed(1)) / 255
    objective = FreeObjective(rows, columns)
    spent = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        taken = attack(objective, clean).steps
        spent.append((time.process_time() - begun) / taken)
    return 1000 * min(spent)


def main() -> None:
    """Measure every rule at every size."""
    torch.set_num_threads(1)
    lines = [f"| picture | {' | '.join(ATTACKS)} |", "|---" * (1 + len(ATTACKS)) + "|"]
    for rows, columns in SIZES:
        cells = [f"{milliseconds(attack, rows, columns):.1f} ms" for attack in ATTACKS.values()]
        lines.append(f"| {columns} x {rows} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    put(PAGE, "attack loop", lines)


if __name__ == "__main__":
    main()
