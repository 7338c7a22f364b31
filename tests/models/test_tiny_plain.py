from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from equipoise.errors import UsageError
from equipoise.models.base import OpenModel
from equipoise.types import ChatModel, Prompt
from tests.models.tiny_plain import PlainTorchModel

PROMPTS = [Prompt.ask("What is it?"), Prompt.ask("How many?")]
REPLIES = ["I cannot help.", "No."]


@pytest.fixture
def smooth() -> Tensor:
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, (48, 64), mode="bilinear")[0]
    return (fine * 255).round() / 255


def test_it_is_a_model() -> None:
    model = PlainTorchModel()
    assert isinstance(model, OpenModel)
    assert isinstance(model, ChatModel)


def test_its_reply_is_the_most_likely_one(smooth: Tensor) -> None:
    model = PlainTorchModel()
    picture = to_pil_image((smooth * 255).round().to(torch.uint8))
    exchange = model.generate([Prompt.ask("What is it?", picture)])[0]
    if exchange.reply:
        own = model.log_prob(smooth, PROMPTS[:1], [exchange.reply], end=exchange.finish == "stop").total
        other = model.log_prob(smooth, PROMPTS[:1], [exchange.reply[::-1] + "!"]).total
        assert own > other


def test_signed_steps_change_the_reply(smooth: Tensor) -> None:
    model, perturbed = PlainTorchModel(), smooth.clone()
    first = model.loss_and_grad(perturbed, PROMPTS, [REPLIES[0]] * 2)[0]
    for _ in range(40):
        _, gradient = model.loss_and_grad(perturbed, PROMPTS, [REPLIES[0]] * 2)
        step = perturbed - gradient.sign() / 255
        perturbed = torch.clamp(step, smooth - 8 / 255, smooth + 8 / 255).clamp(0, 1)
    assert model.loss_and_grad(perturbed, PROMPTS, [REPLIES[0]] * 2)[0].sum() < 0.01 * first.sum()
    picture = to_pil_image((perturbed * 255).round().to(torch.uint8))
    assert model.generate([Prompt.ask("Is it day?", picture)])[0].reply == REPLIES[0]


def test_the_default_gradient_is_that_of_the_log_probabilities(smooth: Tensor) -> None:
    model = PlainTorchModel()
    shift = torch.zeros(2, 4, model.embedding_width, requires_grad=True)
    losses, gradient = model.loss_and_grad(smooth, PROMPTS, REPLIES, question_shift=shift)
    leaf = smooth.clone().requires_grad_()
    log_probs = model.log_prob(leaf, PROMPTS, REPLIES)
    (-log_probs.mean).sum().backward()
    torch.testing.assert_close(-log_probs.mean, losses)
    torch.testing.assert_close(gradient, leaf.grad)
    assert shift.grad.shape == shift.shape
    once = shift.grad.clone()
    model.loss_and_grad(smooth, PROMPTS, REPLIES, question_shift=shift)
    torch.testing.assert_close(shift.grad, 2 * once)


def test_empty_replies_are_refused(smooth: Tensor) -> None:
    with pytest.raises(UsageError):
        PlainTorchModel().log_prob(smooth, PROMPTS, ["", "No."])


def test_a_prompt_without_picture_is_answered() -> None:
    assert PlainTorchModel().generate([Prompt.ask("Why?", Image.new("L", (9, 9))), PROMPTS[0]], max_new_tokens=3)
