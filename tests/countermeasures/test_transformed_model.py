from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from equipoise.attacks.budgets import Budget
from equipoise.attacks.objectives import TargetReplyLoss
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.attacks.solvers import Bim
from equipoise.countermeasures.catalogue import defend
from equipoise.countermeasures.transformed_model import TransformedModel
from equipoise.countermeasures.voting import MajorityVote
from equipoise.errors import UsageError
from equipoise.media.decode import open_picture
from equipoise.media.quantize import to_pixels
from equipoise.models.base import OpenModel
from equipoise.models.hf import HuggingFaceModel
from equipoise.transforms.base import Transform, uniform
from equipoise.types import Exchange, Prompt, Verdict
from tests.attacks.fakes import within
from tests.cli.fakes import BrightnessModel
from tests.countermeasures.fakes import (
    DRAWING,
    INPUT,
    PROMPTS,
    STEADY,
    RecordingModel,
    album,
    defended,
    picture,
    seen_by,
)
from tests.models.tiny_plain import PlainTorchModel

PIXELS = to_pixels(picture(1))
QUESTIONS = (PROMPTS[0], PROMPTS[1], PROMPTS[3])
REPLIES = ("yes", "a cat", "I can't")
BUDGET = Budget("linf", 8 / 255)


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def replies(model: OpenModel, prompts: Sequence[Prompt]) -> list[str]:
    return [exchange.reply for exchange in model.generate(prompts)]


@pytest.mark.parametrize("spec", INPUT)
def test_the_same_prompt_gets_the_same_reply_in_whatever_batch_and_order(spec: str) -> None:
    model = defended(spec)
    together = replies(model, PROMPTS)
    assert replies(model, PROMPTS[::-1])[::-1] == together
    assert [replies(model, [prompt])[0] for prompt in PROMPTS] == together
    assert replies(model, [PROMPTS[2], PROMPTS[2]]) == [together[2]] * 2
    assert replies(model, []) == []


@pytest.mark.parametrize("spec", DRAWING)
def test_another_seed_may_give_another_reply(spec: str) -> None:
    seeds = [defended(f"{spec}{',' if ':' in spec else ':'}seed={seed}") for seed in range(4)]
    assert len({tuple(replies(model, PROMPTS[:4])) for model in seeds}) > 1


@pytest.mark.parametrize("spec", INPUT)
def test_an_exchange_keeps_the_prompt_and_pictures_as_they_were_sent(spec: str) -> None:
    sent = [[image.tobytes() for image in prompt.pictures] for prompt in PROMPTS]
    for exchange, prompt, before in zip(defended(spec).generate(PROMPTS), PROMPTS, sent, strict=True):
        assert exchange.prompt is prompt
        assert [image.tobytes() for image in prompt.pictures] == before
        assert exchange.by == "model"


@pytest.mark.parametrize("spec", INPUT)
def test_text_passes_untouched_and_every_picture_is_changed(spec: str) -> None:
    model = defended(spec)
    core = model.core
    assert isinstance(core, RecordingModel)
    words = Prompt.ask("How are you?", system="Be kind.")
    (exchange,) = model.generate([words])
    assert core.recorded == [words]
    assert exchange.reply == replies(PlainTorchModel(), [words])[0][:12]
    core.recorded.clear()
    prompt = album(4, 5, 6)
    model.generate([prompt])
    changed = set()
    for recorded in core.recorded:
        assert [message.text for message in recorded.messages] == [message.text for message in prompt.messages]
        for now, was in zip(recorded.pictures, prompt.pictures, strict=True):
            assert now.size == was.size
            changed |= {was.tobytes()} if now.tobytes() != was.tobytes() else set()
    assert changed == {image.tobytes() for image in prompt.pictures}


def test_a_steady_defence_asks_about_exactly_the_transformed_picture() -> None:
    for spec in STEADY:
        model = defended(spec)
        assert isinstance(model, TransformedModel)
        (recorded,) = seen_by(model, PROMPTS[:1])
        assert recorded == model.transform_prompt(PROMPTS[0], rng()).messages[0].images[0].tobytes()


@pytest.mark.parametrize("spec", [*INPUT, "recover", "recover:by=noise,threshold=0", "recover:by=caption"])
def test_loss_and_gradient_are_those_of_autograd_through_the_drawn_model(spec: str) -> None:
    for model in (defended(spec), defended(spec).sample_randomness(rng(5))):
        shift = (0.1 * torch.randn(3, 4, 256, generator=rng())).requires_grad_(True)
        losses, gradient = model.loss_and_grad(PIXELS, QUESTIONS, REPLIES, question_shift=shift)
        leaf, own = PIXELS.clone().requires_grad_(True), shift.detach().clone().requires_grad_(True)
        expected = -model.log_prob(leaf, QUESTIONS, REPLIES, question_shift=own).mean
        expected_gradient, expected_shift_gradient = torch.autograd.grad(expected.sum(), (leaf, own))
        assert not losses.requires_grad
        assert torch.allclose(losses, expected.detach(), atol=1e-5)
        assert torch.allclose(gradient, expected_gradient, atol=1e-5 * float(expected_gradient.abs().max()))
        assert shift.grad is not None
        assert torch.allclose(
            shift.grad, expected_shift_gradient, atol=1e-5 * float(expected_shift_gradient.abs().max())
        )
        assert float(gradient.abs().max()) > 0


def test_a_shift_gathers_gradients_and_changes_the_loss() -> None:
    for spec in ("median", "recover:by=median"):
        model = defended(spec)
        shift = torch.zeros(3, 4, 256, requires_grad=True)
        model.loss_and_grad(PIXELS, QUESTIONS, REPLIES, question_shift=shift)
        assert shift.grad is not None
        once = shift.grad.clone()
        model.loss_and_grad(PIXELS, QUESTIONS, REPLIES, question_shift=shift)
        assert torch.allclose(shift.grad, 2 * once)
        still = model.loss_and_grad(PIXELS, QUESTIONS, REPLIES)[0]
        moved = model.loss_and_grad(PIXELS, QUESTIONS, REPLIES, question_shift=torch.full((3, 4, 256), 0.5))[0]
        assert not torch.allclose(still, moved)


def test_a_loss_is_that_of_the_transformed_pixels() -> None:
    model = defended("noise")
    assert isinstance(model, TransformedModel)
    recorded = model.transform(PIXELS, model.gradient_randomness())
    inner = model.model.log_prob(recorded, QUESTIONS, REPLIES)
    assert torch.equal(model.log_prob(PIXELS, QUESTIONS, REPLIES).tokens, inner.tokens)


def test_a_loss_transforms_the_later_pictures_too() -> None:
    recorded: list[Prompt] = []

    class Watching(RecordingModel):
        def log_prob(self, pixels: Tensor, prompts: Sequence[Prompt], *rest: Any, **more: Any) -> Any:
            recorded.extend(prompts)
            return super().log_prob(pixels, prompts, *rest, **more)

    prompt = album(4, 5, 6)
    defended("median", Watching()).log_prob(PIXELS, [prompt], ["yes"])
    was, now = prompt.pictures, recorded[0].pictures
    assert now[0].tobytes() == was[0].tobytes(), "the first gives way to the pixels and stays as it is"
    assert all(new.tobytes() != old.tobytes() for new, old in zip(now[1:], was[1:], strict=True))


@dataclass(frozen=True)
class Soft(Transform):
    """Smooth, so that finite differences mean something; no rounding to 8 bits."""

    is_random = True  # type: ignore[assignment]

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        return pixels ** uniform(1.2, 2.0, random) * 0.9 + pixels.flip(2) * 0.1


def test_gradients_match_finite_differences_through_smooth_transforms() -> None:
    toy = BrightnessModel("toy/second")
    chain = TransformedModel(TransformedModel(toy, Soft(), "soft"), Soft(), "softer", seed=3).sample_randomness(rng())
    pixels = to_pixels(picture(7)).double()
    prompts, answers = QUESTIONS[:2], ["I can't help with that.", "A wall."]
    gradient = chain.loss_and_grad(pixels, prompts, answers)[1]
    random = rng(1)
    for _ in range(5):
        way = torch.randn(pixels.shape, generator=random).double()
        ahead, behind = (
            float(-chain.log_prob(pixels + sign * 1e-3 * way, prompts, answers).mean.sum()) for sign in (1, -1)
        )
        assert float((gradient * way).sum()) == pytest.approx((ahead - behind) / 2e-3, rel=1e-3, abs=2e-3)


class Breaking(Transform):
    """Fails on the way there, or on the way back."""

    def __init__(self, where: str) -> None:
        self.where = where

    def describe(self) -> dict[str, Any]:
        return {"transform": "Breaking"}

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        if self.where == "there":
            raise RuntimeError("broken there")
        recorded = pixels * 1
        if recorded.requires_grad:
            recorded.register_hook(self._fail)
        return recorded

    def _fail(self, expected_gradient: Tensor) -> Tensor:
        raise RuntimeError("broken back")


def state_of(model: HuggingFaceModel) -> list[Any]:
    inner = model.model
    result: list[Any] = [module.training for module in inner.modules()]
    result += [
        (value.requires_grad, value.grad is None, float(value.detach().double().sum())) for value in inner.parameters()
    ]
    return [*result, sum(len(module._forward_hooks) for module in inner.modules())]


def test_the_callers_model_is_left_as_found_also_after_exceptions(tiny_llava: HuggingFaceModel) -> None:
    model = tiny_llava
    model.generate([PROMPTS[0]], max_new_tokens=2)
    model.model.train()
    next(model.model.parameters()).requires_grad_(False)
    before = state_of(model)
    for spec in ("noise", "median", "vote:copies=3", "recover:by=crop,threshold=0"):
        result = defended(spec, model)
        result.generate(PROMPTS[:2], max_new_tokens=3)
        result.loss_and_grad(PIXELS, QUESTIONS, REPLIES)
        result.sample_randomness(rng()).log_prob(PIXELS, QUESTIONS, REPLIES)
        with pytest.raises(UsageError):
            result.loss_and_grad(PIXELS, QUESTIONS, ["", "", ""])
        assert state_of(model) == before
    for where in ("there", "back"):
        for broken in (
            TransformedModel(model, Breaking(where), "broken"),
            MajorityVote(model, Breaking(where), 3, "broken"),
        ):
            with pytest.raises(RuntimeError, match=where):
                broken.loss_and_grad(PIXELS, QUESTIONS, REPLIES)
            assert state_of(model) == before
            assert torch.is_grad_enabled()


@pytest.mark.parametrize("spec", INPUT)
def test_an_attack_on_the_defended_model_keeps_its_contract(spec: str, tmp_path: Any) -> None:
    model = defended(spec)
    objective = TargetReplyLoss((model,), QUESTIONS, "I can't.", draws=2)
    assert objective.is_random == (spec in DRAWING)
    attack = Bim(BUDGET, steps=8)
    result, again = (attack(objective, PIXELS, seed=3) for _ in range(2))
    assert result.image.tobytes() == again.image.tobytes()
    saved = to_pixels(open_picture(result.save(tmp_path / "found")))
    assert within(BUDGET, saved, PIXELS)
    assert result.models[0].name == model.name
    fresh = replace(objective, draws=12)
    expected = [fresh(pixels, range(3), rng(99)).loss for pixels in (PIXELS, saved)]
    assert expected[1] < 0.97 * expected[0]


class Cannot:
    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [Verdict("full" if "I can't" in exchange.reply else "none") for exchange in exchanges]


def test_the_refusal_attack_goes_through_a_defence_and_survives_draws_it_has_not_seen() -> None:
    model = defend(PlainTorchModel(), ["noise:sigma=0.01"])
    budget = Budget("linf", 24 / 255)
    attack = RefusalAttack(budget, steps=60, reply="I can't.", questions_per_step=None, draws=2)
    result = attack(picture(8), [model], ["What is this?", "How many?"], judge=Cannot())
    assert (result.stopped, result.rate) == ("success", 1.0)
    assert within(budget, result.pixels, to_pixels(picture(8)))
    requests = [Prompt.ask("What is this?", result.image)] * 10
    fresh = [model.sample_randomness(rng(seed)).generate([requests[0]])[0].reply for seed in range(50, 60)]
    clean = [
        model.sample_randomness(rng(seed)).generate([Prompt.ask("What is this?", picture(8))])[0].reply
        for seed in range(5)
    ]
    assert sum("I can't" in reply for reply in fresh) >= 6
    assert not any("I can't" in reply for reply in clean)
