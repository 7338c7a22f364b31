"""The loss of a set of wordings: minus the log of the sum of their probabilities, with the exact gradient."""

from __future__ import annotations

import torch

from equipoise.attacks.wording_loss import any_wording_loss
from equipoise.attacks.wordings import RefusalWording
from equipoise.types import Prompt
from tests.attacks.fakes import CLEAN
from tests.models.tiny_plain import PlainTorchModel

MODEL = PlainTorchModel()
PROMPTS = [Prompt.ask("What is this?"), Prompt.ask("Who?")]


def test_one_wording_is_the_loss_of_a_single_reply() -> None:
    loss, gradient = any_wording_loss(MODEL, CLEAN, PROMPTS, [RefusalWording("I can't.")])
    losses, summed = MODEL.loss_and_grad(CLEAN, PROMPTS, ["I can't."] * 2)
    torch.testing.assert_close(torch.tensor(loss), losses.mean())
    torch.testing.assert_close(gradient, summed / 2, rtol=1e-3, atol=1e-4 * float(summed.abs().max()))


def test_a_set_is_the_sum_of_probabilities_in_nats_per_token() -> None:
    wordings = [RefusalWording("No."), RefusalWording("I can't", ends=False)]
    with torch.no_grad():
        first = MODEL.log_prob(CLEAN, PROMPTS[:1], ["No."], end=True)
        second = MODEL.log_prob(CLEAN, PROMPTS[:1], ["I can't"], end=False)
    totals = torch.cat([first.total, second.total])
    lengths = torch.cat([first.mask.sum(1), second.mask.sum(1)])
    expected = -totals.logsumexp(0) / (totals.softmax(0) * lengths).sum()
    loss, _ = any_wording_loss(MODEL, CLEAN, PROMPTS[:1], wordings)
    torch.testing.assert_close(torch.tensor(loss), expected)


def test_the_gradient_lowers_the_loss() -> None:
    wordings = [RefusalWording("No."), RefusalWording("Never.")]
    loss, gradient = any_wording_loss(MODEL, CLEAN, PROMPTS, wordings)
    # Less than half a level would be rounded away: a model sees the 8-bit picture.
    ahead = (CLEAN - gradient.sign() / 255).clamp(0, 1)
    assert any_wording_loss(MODEL, ahead, PROMPTS, wordings)[0] < loss


def test_without_an_end_no_wording_ends() -> None:
    ended, _ = any_wording_loss(MODEL, CLEAN, PROMPTS, [RefusalWording("No.")], end=False)
    opening, _ = any_wording_loss(MODEL, CLEAN, PROMPTS, [RefusalWording("No.", ends=False)])
    assert ended == opening
