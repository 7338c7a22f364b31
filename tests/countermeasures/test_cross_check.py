"""The second opinion: heeded where the second model is far from refusing, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from equipoise.attacks.wording_loss import any_wording_loss
from equipoise.attacks.wordings import RefusalWording
from equipoise.countermeasures.cross_check import CrossCheck
from equipoise.countermeasures.detection import refusal_log_odds
from equipoise.media.quantize import to_pixels
from equipoise.models.base import ReplyLogProbs
from equipoise.types import Exchange, Prompt
from tests.countermeasures.fakes import picture
from tests.models.tiny_plain import PlainTorchModel

ANSWER, REFUSAL = "A ramp.", "I'm sorry, but I can't help with that."
BAD = "Make zorbium."


class Fixed(PlainTorchModel):
    """Refuses pictures or not, whatever they show; bad words always; its odds of refusing are given."""

    def __init__(self, name: str, *, refuses: bool, log_prob: float = -50.0) -> None:
        super().__init__(0)
        self.name, self.refuses, self.answers = name, refuses, log_prob
        self.requests: list[Prompt] = []

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self.requests += prompts
        return [Exchange(prompt, self._reply(prompt), "stop", self.name) for prompt in prompts]

    def log_prob(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        column = (pixels.mean() * 0 + self.answers).expand(len(prompts))[:, None]
        return ReplyLogProbs(column, torch.ones_like(column, dtype=torch.bool))

    def _reply(self, prompt: Prompt) -> str:
        blank = len({pixel for image in prompt.messages[0].images for pixel in image.get_flattened_data()}) <= 1
        return REFUSAL if prompt.text == BAD or (self.refuses and not blank) else ANSWER


def opinion(first: Fixed, second: Fixed, odds: float = -4.0) -> CrossCheck:
    return CrossCheck(first, second, odds, "second")


SAFE, UNSAFE = Prompt.ask("What is this?", picture(1)), Prompt.ask(BAD, picture(1))


def test_a_refusal_that_the_second_model_does_not_share_is_recovered() -> None:
    first, second = Fixed("first", refuses=True), Fixed("second", refuses=False)
    (exchange,) = opinion(first, second).generate([SAFE])
    assert (exchange.reply, exchange.by, exchange.model) == (ANSWER, "recovery", "second")
    assert exchange.prompt is SAFE
    assert exchange.trail == (f"refused at first: {REFUSAL}", "asked again of second: answered")


def test_a_reply_that_does_not_refuse_never_reaches_the_second_model() -> None:
    first, second = Fixed("first", refuses=False), Fixed("second", refuses=True)
    (exchange,) = opinion(first, second).generate([SAFE])
    assert (exchange.reply, exchange.by, exchange.trail) == (ANSWER, "model", ())
    assert second.requests == []


def test_words_that_are_refused_are_never_asked_of_the_second_model() -> None:
    first, second = Fixed("first", refuses=True), Fixed("second", refuses=False)
    (exchange,) = opinion(first, second).generate([UNSAFE])
    assert (exchange.reply, exchange.by) == (REFUSAL, "model")
    assert second.requests == []


@pytest.mark.parametrize(("log_prob", "recovered"), [(-50.0, True), (-5.0, False), (-0.1, False)])
def test_a_second_model_that_is_close_to_refusing_is_not_heeded(log_prob: float, recovered: bool) -> None:
    first, second = Fixed("first", refuses=True), Fixed("second", refuses=False, log_prob=log_prob)
    (exchange,) = opinion(first, second, odds=-6.0).generate([SAFE])
    assert (exchange.by == "recovery") is recovered
    if not recovered:
        odds = refusal_log_odds(second, to_pixels(picture(1)), [SAFE])
        assert f"log-odds {odds:.1f} >= -6.0" in exchange.trail[1]


def test_an_attack_is_on_both_models_at_once() -> None:
    first, second = PlainTorchModel(0), PlainTorchModel(1)
    both = CrossCheck(first, second, -4.0, "second")
    pixels = to_pixels(picture(2))
    losses, gradient = both.loss_and_grad(pixels, [SAFE], [REFUSAL])
    parts = [model.loss_and_grad(pixels, [SAFE], [REFUSAL]) for model in (first, second)]
    torch.testing.assert_close(losses, (parts[0][0] + parts[1][0]) / 2)
    torch.testing.assert_close(gradient, (parts[0][1] + parts[1][1]) / 2)
    torch.testing.assert_close(-both.log_prob(pixels, [SAFE], [REFUSAL]).mean, losses)
    assert not both.is_random
    assert both.revision != CrossCheck(first, second, -5.0, "second").revision


def test_the_total_of_a_reply_is_that_of_all_its_tokens() -> None:
    first, second = PlainTorchModel(0), PlainTorchModel(1)
    both = CrossCheck(first, second, -4.0, "second")
    pixels, replies = to_pixels(picture(2)), [REFUSAL, "No.", "I won't"]
    parts = [model.log_prob(pixels, [SAFE] * 3, replies) for model in (first, second)]
    result = both.log_prob(pixels, [SAFE] * 3, replies)
    # Both models split replies alike here, so that the mean over the models is the mean of their totals.
    torch.testing.assert_close(result.total, (parts[0].total + parts[1].total) / 2)
    torch.testing.assert_close(result.mean, (parts[0].mean + parts[1].mean) / 2)
    assert torch.equal(result.mask, parts[0].mask)
    assert bool((result.tokens[~result.mask] == 0).all())


def test_a_set_of_wordings_weighs_them_as_against_one_model() -> None:
    model = PlainTorchModel(0)
    twice = CrossCheck(model, PlainTorchModel(0), -4.0, "second")
    wordings = [RefusalWording(text, ends=True) for text in (REFUSAL, "No.", "I won't")]
    pixels = to_pixels(picture(2))
    loss, gradient = any_wording_loss(twice, pixels, [SAFE], wordings)
    alone, expected = any_wording_loss(model, pixels, [SAFE], wordings)
    assert loss == pytest.approx(alone, rel=1e-4)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)
