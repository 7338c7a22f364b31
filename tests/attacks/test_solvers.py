"""One table drives all solvers: budget kept on the file, loss lowered, same seed same bytes, model untouched."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from equipoise.attacks.base import Attack
from equipoise.attacks.budgets import Budget
from equipoise.attacks.perturbation_result import PerturbationResult
from equipoise.attacks.solvers import SOLVERS, Apgd, Bim, Momentum, PaperBim, apgd_checkpoints, cosine
from equipoise.errors import UsageError
from equipoise.media.decode import open_picture
from equipoise.media.quantize import to_pixels
from tests.attacks.fakes import CLEAN, photo, reply, within

BUDGETS = (Budget("linf", 8 / 255), Budget("l2", 1.5))


def step_size(name: str, budget: Budget) -> dict[str, float]:
    """The paper's step sizes are for linf and 1500 steps; in l2 they would go nowhere."""
    return {"alpha": budget.epsilon / 4} if (name, budget.norm) == ("bim-paper", "l2") else {}


TABLE = [
    pytest.param(
        make(budget=budget, steps=15, **extra, **step_size(name, budget)),
        id=f"{name}-{budget.norm}{'-few' * ('random_start' in extra)}",
    )
    for name, make in SOLVERS.items()
    for budget in BUDGETS
    for extra in ({"questions_per_step": None}, {"questions_per_step": 2, "random_start": True})
    if budget.norm == "linf" or "random_start" not in extra
]


@pytest.mark.parametrize("attack", TABLE)
def test_every_solver_keeps_the_contract(attack: Attack, tmp_path: Path) -> None:
    objective = reply()
    network = objective.targets[0].network  # type: ignore[attr-defined]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = objective.score(CLEAN)

    result = attack(objective, CLEAN, seed=5)
    again = attack(objective, CLEAN, seed=5)

    pixels = to_pixels(open_picture(result.save(tmp_path / "a.b")))
    assert within(attack.budget, pixels, CLEAN)
    assert result.linf == Budget("linf", 1).measure(pixels, CLEAN) > 0
    assert objective.score(pixels) < 0.8 * first
    assert result.image.tobytes() == again.image.tobytes()
    assert (result.steps, len(result.trace), result.stopped) == (15, 15, "steps")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert torch.equal(CLEAN, to_pixels(photo()))
    assert result.warnings == ()
    assert PerturbationResult.load(tmp_path / "a.b").image.tobytes() == result.image.tobytes()


def test_seeds_differ_where_chance_is_used() -> None:
    attack = Bim(BUDGETS[0], steps=4, random_start=True)
    assert attack(reply(), CLEAN, seed=1).image.tobytes() != attack(reply(), CLEAN, seed=2).image.tobytes()


def test_cosine_decay_falls_from_the_first_to_the_last_size() -> None:
    sizes = [cosine(0.005, 1e-4, step, 1500) for step in range(1502)]
    assert sizes[0] == 0.005
    assert sizes[1500] == sizes[1501] == pytest.approx(1e-4)
    assert all(a >= b for a, b in itertools.pairwise(sizes))


def test_the_paper_rule_averages_signs_and_keeps_only_the_ball() -> None:
    attack = PaperBim(BUDGETS[0])
    assert (attack.steps, attack.questions_per_step, attack.alpha, attack.alpha_last) == (1500, 3, 0.005, 1e-4)
    assert (attack.converged_loss, attack.converged_steps) == (0.001, 30)
    objective, random = reply(), torch.Generator().manual_seed(0)
    evaluation = attack.loss_and_grad(objective, CLEAN, [0, 2, 3], random)
    signs = [objective(CLEAN, [i], random).gradient.sign() for i in (0, 2, 3)]
    assert torch.allclose(evaluation.gradient, sum(signs) / 3)
    rule = attack.update_steps(attack.budget.centered_at(CLEAN), CLEAN, random)
    assert torch.equal(next(rule), CLEAN)
    for _ in range(20):
        proposal = rule.send(evaluation)
    change = (proposal - CLEAN).abs()
    assert change.max() == pytest.approx(8 / 255, abs=1e-6)
    assert proposal.min() < 0 or proposal.max() > 1, "the official rule leaves the box; only the base class does not"


def test_momentum_without_decay_is_bim() -> None:
    kwargs = {"budget": BUDGETS[0], "steps": 6}
    plain, with_zero = Bim(**kwargs), Momentum(**kwargs, decay=0.0)  # type: ignore[arg-type]
    assert plain(reply(), CLEAN).image.tobytes() == with_zero(reply(), CLEAN).image.tobytes()


def test_apgd_halves_at_the_checkpoints_of_its_paper() -> None:
    assert sorted(apgd_checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bim(BUDGETS[0], steps=0),
        lambda: Bim(BUDGETS[0], restarts=0),
        lambda: Bim(BUDGETS[0], questions_per_step=0),
        lambda: Bim(BUDGETS[0], alpha=0.0),
        lambda: Bim(BUDGETS[0], alpha_last=-1.0),
        lambda: Momentum(BUDGETS[0], decay=1.5),
        lambda: Apgd(BUDGETS[0], momentum=1.5),
    ],
)
def test_senseless_settings_are_refused(make: object) -> None:
    with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
        make()  # type: ignore[operator]
