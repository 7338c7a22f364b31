"""CroPA: the shifts of the questions rise while the pixels descend, for the optimisation only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator

from equipoise.attacks.budgets import Budget
from equipoise.attacks.cropa import CroPAConfig, CroPAObjective
from equipoise.attacks.objectives import PreserveReplies, TargetReplyLoss
from equipoise.attacks.solvers import Bim
from equipoise.errors import UsageError
from equipoise.types import Prompt
from tests.attacks.fakes import CLEAN, QUESTIONS, REFUSAL, NoisyModel, photo, reply
from tests.models.tiny_plain import PlainTorchModel

BIM = Bim(Budget("linf", 8 / 255), steps=12)
PROMPTS = tuple(Prompt.ask(question, photo()) for question in QUESTIONS)


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_learned_prompts_start_plain_and_then_raise_the_loss() -> None:
    plain = reply()
    learned = CroPAObjective(plain, CroPAConfig(step=0.05, every=2, limit=0.12, length=6)).reset(rng())
    losses = [learned(CLEAN, range(5), rng()).loss for _ in range(9)]
    assert losses[0] == losses[1] == pytest.approx(plain.score(CLEAN))
    assert losses[2] > losses[1]
    assert losses[4] > losses[2]
    assert float(learned.shifts[0].abs().max()) <= 0.12 + 1e-6
    assert learned.score(CLEAN) == pytest.approx(plain.score(CLEAN))


def test_only_questions_that_were_evaluated_learn() -> None:
    learned = CroPAObjective(reply(), CroPAConfig(every=1)).reset(rng())
    learned(CLEAN, [1, 3], rng())
    moved = learned.shifts[0].abs().amax((1, 2)) > 0
    assert moved.tolist() == [False, True, False, True, False]


def test_each_run_learns_from_fresh_prompts() -> None:
    learned = CroPAObjective(reply(), CroPAConfig(every=1))
    one, other = BIM(learned, CLEAN), BIM(learned, CLEAN)
    assert one.image.tobytes() == other.image.tobytes()
    assert float(learned.shifts[0].abs().max()) == 0, "an attack works on its own copy"
    assert one.trace[-1].loss < one.trace[0].loss
    assert one.recipe["objective"]["learned_prompts"]["every"] == 1


def test_models_without_shifts_are_refused_before_the_attack() -> None:
    model = PlainTorchModel(0)
    model.embedding_width = None
    with pytest.raises(UsageError, match="can be shifted"):
        CroPAObjective(TargetReplyLoss((model,), PROMPTS, REFUSAL))


def test_learned_prompts_average_over_draws_too() -> None:
    objective = TargetReplyLoss((NoisyModel(),), PROMPTS, REFUSAL, draws=3)
    learned = CroPAObjective(objective, CroPAConfig(every=1)).reset(rng())
    one, other = learned(CLEAN, range(5), rng(1)), objective(CLEAN, range(5), rng(1))
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    assert torch.allclose(one.gradient, other.gradient, atol=1e-6)
    model = objective.targets[0]
    assert isinstance(model, NoisyModel)
    assert len(model.draws) == 6
    assert float(learned.shifts[0].abs().max()) > 0


def test_a_reset_objective_shares_nothing_that_changes_with_the_one_it_comes_from() -> None:
    first = CroPAObjective(reply(), CroPAConfig(every=1))
    first(CLEAN, range(5), rng())
    second = first.reset(rng())
    assert float(second.shifts[0].abs().max()) == 0
    assert second.evaluations.tolist() == [0] * 5
    kept = first.shifts[0].clone()
    second(CLEAN, range(5), rng())
    assert torch.equal(first.shifts[0], kept)
    assert (second.target_loss, second.config) == (first.target_loss, first.config)


def test_a_question_learns_at_every_nth_of_its_own_evaluations() -> None:
    learned = CroPAObjective(reply(), CroPAConfig(every=3, step=0.01))
    moved_after = []
    for step in range(1, 7):
        before = learned.shifts[0].clone()
        learned(CLEAN, [0, 1] if step % 2 else [1], rng())
        moved_after.append((learned.shifts[0] != before).any(2).any(1).tolist()[:2])
    # Question 1 is evaluated at every step, question 0 at steps 1, 3 and 5 only.
    assert moved_after == [[False, False], [False, False], [False, True], [False, False], [True, False], [False, True]]


def test_bystanders_are_asked_the_plain_questions() -> None:
    preserve = PreserveReplies(PlainTorchModel(3), ("yes",) * 5, weight=2.0)
    plain = replace(reply(), preserve=(preserve,))
    learned = CroPAObjective(plain, CroPAConfig(every=1))
    learned(CLEAN, range(5), rng())
    (term,) = plain.bystander_loss(CLEAN, range(5), rng())
    without = CroPAObjective(reply(), learned.config)
    without.shifts = [shift.clone() for shift in learned.shifts]
    assert learned(CLEAN, range(5), rng()).loss == pytest.approx(without(CLEAN, range(5), rng()).loss + term.loss)
    assert learned.bystanders == (preserve.model,)


@pytest.mark.parametrize("settings", [{"step": 0.0}, {"every": 0}, {"limit": -0.1}, {"length": 0}])
def test_settings_that_learn_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"expected positive .*, got .*; try CroPAConfig"):
        CroPAConfig(**settings)  # type: ignore[arg-type]
