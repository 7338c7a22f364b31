"""The loss of DeRTa by hand: means, weights, the set of openers, and what is not counted."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.training.causal_lm import IGNORED
from equipoise.training.derta.collator import FORMS, DertaBatch
from equipoise.training.derta.labels import UNWANTED, WANTED
from equipoise.training.derta.loss import DertaLoss, opener_log_prob

PROBABILITIES = torch.tensor([0.5, 0.2, 0.2, 0.1])
"""Of the four tokens, after every token; the openers are 1 and 3, together 0.3."""
OPENERS = (1, 3)


class SameEverywhere(nn.Module):
    """A language model that predicts the same after every token, through an output layer like any other's."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(1, 4, bias=False)
        self.output.weight.data = PROBABILITIES.log()[:, None]
        self.positions = 0

    def get_output_embeddings(self) -> nn.Module:
        return self.output

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        logits = self.output(torch.ones(*input_ids.shape, 1))
        self.positions = logits.shape[1]
        return SimpleNamespace(logits=logits)


def batch(*rows: tuple[str, list[int], list[int], list[int]]) -> DertaBatch:
    """Rows of form, tokens, labels and openers, of one length."""
    forms, tokens, labels, openers = zip(*rows, strict=True)
    return DertaBatch(
        inputs={"input_ids": torch.tensor(tokens)},
        labels=torch.tensor(labels),
        openers=torch.tensor(openers),
        forms=torch.tensor([FORMS.index(form) for form in forms]),
        prompt_lengths=torch.ones(len(rows), dtype=torch.long),
    )


REFUSE = ("refuse", [0, 2, 1, 0], [IGNORED, IGNORED, 1, 0], [0, 0, 0, 0])
"""`-log 0.2` and `-log 0.5`."""
TURN = ("turn", [0, 2, 2, 0], [IGNORED] * 4, [0, WANTED, WANTED, 0])
"""Twice `-log 0.3`."""
ANSWER = ("answer", [0, 2, 1, 2], [IGNORED, 2, 1, 2], [0, UNWANTED, UNWANTED, UNWANTED])
"""Three times `-log 0.2`; twice `-log 0.7`, as the answer's own opener is not counted."""


def losses(*batches: DertaBatch, **weights: float) -> dict[str, float]:
    parts = DertaLoss(OPENERS, **weights)(SameEverywhere(), {str(at): one for at, one in enumerate(batches)})
    return {name: float(value.detach()) for name, value in parts.items()}


def test_each_part_is_the_mean_over_its_own_tokens() -> None:
    parts = losses(batch(REFUSE, TURN, ANSWER))
    assert parts["mle_safe"] == pytest.approx(-(math.log(0.2) + math.log(0.5)) / 2)
    assert parts["mle_help"] == pytest.approx(-math.log(0.2))
    assert parts["rto"] == pytest.approx(-math.log(0.3))
    assert parts["negative"] == pytest.approx(-math.log(0.7))


def test_the_loss_is_the_weighted_sum_and_comes_first() -> None:
    parts = losses(batch(REFUSE, TURN, ANSWER), rto_weight=0.5, negative_weight=2.0)
    learned = -(math.log(0.2) + math.log(0.5)) / 2 - math.log(0.2)
    assert next(iter(parts)) == "loss"
    assert parts["loss"] == pytest.approx(learned - 0.5 * math.log(0.3) - 2 * math.log(0.7))


def test_long_answers_do_not_outweigh_the_rest() -> None:
    longer = batch(REFUSE, TURN, TURN, TURN, ANSWER, ANSWER)
    assert losses(longer) == pytest.approx(losses(batch(REFUSE, TURN, ANSWER)))


def test_rows_with_and_without_pictures_have_one_mean() -> None:
    apart = losses(batch(REFUSE, TURN), batch(ANSWER))
    assert apart == pytest.approx(losses(batch(REFUSE, TURN, ANSWER)))
    # Not the mean of the two batches' means.
    short = ("refuse", [0, 2, 2, 2], [IGNORED, 2, IGNORED, IGNORED], [0] * 4)
    uneven = losses(batch(REFUSE, TURN), batch(short, ANSWER))
    assert uneven["mle_safe"] == pytest.approx(-(2 * math.log(0.2) + math.log(0.5)) / 3)


def test_a_part_without_tokens_is_zero() -> None:
    parts = losses(batch(ANSWER), rto_weight=3.0)
    assert (parts["rto"], parts["mle_safe"]) == (0.0, 0.0)
    assert parts["loss"] == pytest.approx(-math.log(0.2) - math.log(0.7))


def test_logits_are_computed_where_they_count_alone() -> None:
    model = SameEverywhere()
    DertaLoss(OPENERS)(model, {"0": batch(REFUSE, TURN, ANSWER)})
    assert model.positions == 2 + 2 + 3
    DertaLoss(OPENERS, rto_weight=0.0)(model, {"0": batch(REFUSE, TURN, ANSWER)})
    assert model.positions == 2 + 3


def test_the_gradient_of_the_transition_raises_openers_and_lowers_everything_else() -> None:
    logits = PROBABILITIES.log()[None].clone().requires_grad_(True)
    (-opener_log_prob(logits, OPENERS)).sum().backward()
    assert logits.grad is not None
    # p - p restricted to the openers, normalised: -(1 - 0.3) of each opener's share, + p of the others.
    expected = PROBABILITIES - torch.tensor([0.0, 0.2, 0.0, 0.1]) / 0.3
    assert torch.allclose(logits.grad[0], expected, atol=1e-6)


def test_a_certain_opener_in_a_harmless_answer_has_a_finite_gradient() -> None:
    model = SameEverywhere()
    model.output.weight.data = torch.tensor([[0.0], [90.0], [0.0], [0.0]])
    parts = DertaLoss(OPENERS)(model, {"0": batch(("answer", [0, 2], [IGNORED, 2], [0, UNWANTED]))})
    parts["negative"].backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(float(parts["negative"].detach()))
    assert model.output.weight.grad is not None
    assert bool(model.output.weight.grad.isfinite().all())
