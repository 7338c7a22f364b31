from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Generator

from equipoise.attacks.aimed_wordings import AimKind, Aims
from equipoise.attacks.budgets import Budget
from equipoise.attacks.cropa import CroPAObjective
from equipoise.attacks.objectives import EOTObjective, PreserveReplies, TargetReplyLoss
from equipoise.attacks.refusal_targets import TARGET_REFUSALS, draw_target
from equipoise.attacks.solvers import Bim
from equipoise.attacks.wordings import OwnRefusals, RefusalWording
from equipoise.errors import UsageError
from equipoise.transforms.base import Identity
from equipoise.transforms.eot import EOTConfig
from equipoise.transforms.geometry import Resize
from equipoise.transforms.jpeg import Jpeg
from equipoise.types import Prompt
from tests.attacks.fakes import CLEAN, QUESTIONS, REFUSAL, NoisyModel, grad_of, photo, reply
from tests.models.tiny_plain import PlainTorchModel

BIM = Bim(Budget("linf", 8 / 255), steps=12)
PROMPTS = tuple(Prompt.ask(question, photo()) for question in QUESTIONS)


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_the_loss_is_the_mean_over_questions_summed_over_models() -> None:
    both, all_items = reply(0, 1), range(5)
    evaluation = both(CLEAN, all_items, rng())
    losses = gradient = 0
    for model in both.targets:
        leaf = CLEAN.clone().requires_grad_(True)
        loss = -model.log_prob(leaf, both.questions, [REFUSAL] * 5).mean.mean()
        losses += float(loss.detach())  # type: ignore[assignment]
        gradient += torch.autograd.grad(loss, leaf)[0]  # type: ignore[assignment]
    assert evaluation.loss == pytest.approx(losses, rel=1e-5)
    assert torch.allclose(evaluation.gradient, torch.as_tensor(gradient), atol=1e-6)
    single = [both(CLEAN, [i], rng()) for i in all_items]
    assert sum(one.loss for one in single) / 5 == pytest.approx(evaluation.loss, rel=1e-5)
    assert torch.allclose(sum(one.gradient for one in single) / 5, evaluation.gradient, atol=1e-6)


def test_the_end_of_the_reply_is_part_of_the_loss_if_asked() -> None:
    assert reply().score(CLEAN) != replace(reply(), end=False).score(CLEAN)


def test_two_targets_are_lowered_together() -> None:
    both = reply(0, 1)
    result = BIM(both, CLEAN).pixels
    for seed in (0, 1):
        assert reply(seed).score(result) < 0.85 * reply(seed).score(CLEAN)


def test_keep_away_holds_the_true_reply_of_a_bystander() -> None:
    # The bystander is the target's twin: what misleads one misleads the other, unless the term holds it back.
    target, bystander = PlainTorchModel(0), PlainTorchModel(0)
    away = PreserveReplies.observe(bystander, PROMPTS, max_new_tokens=8)
    assert all(away.replies)
    free = TargetReplyLoss((target,), PROMPTS, REFUSAL)
    bound = replace(free, preserve=(replace(away, weight=3.0),))
    assert bound.bystanders == (bystander,)
    truth = TargetReplyLoss((bystander,), PROMPTS[:1], away.replies[0])
    assert truth.score(BIM(bound, CLEAN).pixels) < truth.score(BIM(free, CLEAN).pixels) - 0.5


def test_an_empty_true_reply_is_left_out() -> None:
    away = PreserveReplies(PlainTorchModel(1), ("", "yes", "", "no", ""))
    some = replace(reply(), preserve=(away,))
    assert some(CLEAN, [0, 2], rng()).loss == pytest.approx(reply()(CLEAN, [0, 2], rng()).loss)
    assert some(CLEAN, [0, 1], rng()).loss > reply()(CLEAN, [0, 1], rng()).loss


def test_expectation_is_the_mean_over_transforms_with_a_gradient_through_them() -> None:
    plain = reply()
    same = EOTObjective(plain, EOTConfig((Identity(),), samples=2))
    assert same(CLEAN, range(5), rng()).loss == pytest.approx(plain.score(CLEAN))
    assert torch.allclose(same(CLEAN, range(5), rng()).gradient, plain(CLEAN, range(5), rng()).gradient)
    half = EOTObjective(plain, EOTConfig((Resize(0.5, 0.5),), samples=1, plain=False))
    leaf = CLEAN.clone().requires_grad_(True)
    random = rng()
    half.eot.draw(random)
    recorded = Resize(0.5, 0.5)(leaf, random)
    losses = -plain.targets[0].log_prob(recorded, plain.questions, [REFUSAL] * 5).mean
    (gradient,) = torch.autograd.grad(losses.mean(), leaf)
    assert torch.allclose(half(CLEAN, range(5), rng()).gradient, gradient, atol=1e-6)


def test_an_attack_with_expectation_survives_jpeg_better_than_one_without() -> None:
    attack = replace(BIM, steps=30)
    jpeg = Jpeg(75, 75)
    plain = attack(reply(), CLEAN).pixels
    robust = attack(EOTObjective(reply(), EOTConfig((jpeg,), samples=1)), CLEAN).pixels
    after = [reply().score(jpeg(pixels, rng())) for pixels in (plain, robust)]
    assert after[1] < after[0]


def test_ranking_with_expectation_does_not_depend_on_chance() -> None:
    robust = EOTObjective(reply(), EOTConfig())
    assert robust.is_random
    assert robust.score(CLEAN) == robust.score(CLEAN)


def test_objectives_that_ask_for_nothing_are_refused() -> None:
    model = PlainTorchModel(0)
    for make in (
        lambda: TargetReplyLoss((), PROMPTS, REFUSAL),
        lambda: TargetReplyLoss((model,), (), REFUSAL),
        lambda: TargetReplyLoss((model,), PROMPTS, "  "),
        lambda: TargetReplyLoss((model,), PROMPTS, REFUSAL, preserve=(PreserveReplies(model, ("one",)),)),
    ):
        with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
            make()


def test_a_look_at_a_random_model_is_the_mean_over_draws() -> None:
    for inside in (
        TargetReplyLoss((NoisyModel(),), PROMPTS, REFUSAL, draws=3),
        TargetReplyLoss((NoisyModel(),), PROMPTS, REFUSAL),
    ):
        model = inside.targets[0]
        assert isinstance(model, NoisyModel)
        assert inside.is_random
        evaluation = inside(CLEAN, [0, 2], rng())
        assert len(set(model.draws)) == len(model.draws) == inside.draws
        random = rng()
        single = [model.sample_randomness(random) for _ in range(inside.draws)]
        result = [drawn.loss_and_grad(CLEAN, [PROMPTS[0], PROMPTS[2]], [REFUSAL] * 2) for drawn in single]
        losses = torch.stack([losses.mean() for losses, _ in result])
        assert evaluation.loss == pytest.approx(float(losses.mean()), rel=1e-5)
        assert torch.allclose(evaluation.gradient, sum(g for _, g in result) / 2 / inside.draws, atol=1e-6)
        assert inside.describe()["draws"] == inside.draws


def test_steps_draw_anew_and_scores_draw_the_same() -> None:
    objective = TargetReplyLoss((NoisyModel(),), PROMPTS, REFUSAL, draws=2)
    model, random = objective.targets[0], rng()
    assert isinstance(model, NoisyModel)
    assert objective(CLEAN, [0], random).loss != objective(CLEAN, [0], random).loss
    assert len(set(model.draws)) == 4
    assert objective.score(CLEAN) == objective.score(CLEAN)


def test_models_without_chance_are_looked_at_once_however_many_draws() -> None:
    plain = reply()
    assert not plain.is_random
    assert replace(plain, draws=5)(CLEAN, [1], rng()).loss == plain(CLEAN, [1], rng()).loss
    looks: list[int] = []

    class Counting(PlainTorchModel):
        def log_prob(self, *args: object, **more: object) -> object:  # type: ignore[override]
            looks.append(1)
            return super().log_prob(*args, **more)  # type: ignore[arg-type]

    TargetReplyLoss((Counting(),), PROMPTS, REFUSAL, draws=5)(CLEAN, [1], rng())
    assert len(looks) == 1


def test_a_random_bystander_makes_the_loss_random_and_is_drawn_too() -> None:
    away = PreserveReplies(NoisyModel(), ("yes",) * 5)
    bound = replace(reply(), preserve=(away,), draws=3)
    assert bound.is_random
    bound(CLEAN, [0], rng())
    assert len(set(away.model.draws)) == 3  # type: ignore[attr-defined]


def test_an_attack_on_a_random_model_gives_the_same_bytes_again_and_lowers_the_expected_loss() -> None:
    objective = TargetReplyLoss((NoisyModel(),), PROMPTS, REFUSAL, draws=2)
    one, again = (BIM(objective, CLEAN, seed=2) for _ in range(2))
    assert one.image.tobytes() == again.image.tobytes()
    many = replace(objective, draws=8)
    assert many(one.pixels, range(5), rng(7)).loss < 0.9 * many(CLEAN, range(5), rng(7)).loss


def test_less_than_one_draw_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected at least 1 draw, got 0; try"):
        replace(reply(), draws=0)


def test_our_refusals_are_many_distinct_and_drawn_by_seed() -> None:
    assert len(TARGET_REFUSALS) == len({text.casefold() for text in TARGET_REFUSALS}) >= 20
    assert draw_target(3) == draw_target(3)
    assert len({draw_target(seed) for seed in range(200)}) == len(TARGET_REFUSALS)


def aimed(*own: Sequence[str], kind: AimKind = "sentence") -> TargetReplyLoss:
    """Toy targets, each aimed at the first of its own words, or at all of them."""
    models = tuple(PlainTorchModel(seed) for seed in range(len(own)))
    refusals = [
        OwnRefusals("plain", f"seed-{i}", 1, 1, tuple(map(RefusalWording, texts))) for i, texts in enumerate(own)
    ]
    aims = Aims(models, refusals, kind)
    return TargetReplyLoss(models, tuple(map(Prompt.ask, QUESTIONS)), "unused", aims=aims)


def test_every_target_has_the_loss_of_its_own_aim() -> None:
    together = aimed(["No."], ["I can't."])
    parts = [
        TargetReplyLoss((PlainTorchModel(seed),), together.questions, text)
        for seed, text in enumerate(("No.", "I can't."))
    ]
    assert together.score(CLEAN) == pytest.approx(sum(part.score(CLEAN) for part in parts), rel=1e-5)
    torch.testing.assert_close(grad_of(together, CLEAN), sum(grad_of(part, CLEAN) for part in parts))
    assert together.aim_of(1) == ("I can't.", True)
    assert together.describe()["reply"] == "No."


def test_a_set_is_no_less_likely_than_its_likeliest_wording() -> None:
    texts = ["No.", "I can't.", "Never."]
    both = aimed(texts, kind="set")
    assert both.aims is not None
    both.aims.choose(CLEAN, both.questions[:1])
    assert set(both.aims[0].texts) == set(texts)
    single = TargetReplyLoss(both.targets, both.questions, both.aims[0].texts[0])
    # In nats of a whole reply: a sum of probabilities is at least its largest term.
    longest = max(len(text) for text in texts) + 1
    assert both.score(CLEAN) <= single.score(CLEAN) * longest
    assert torch.isfinite(grad_of(both, CLEAN)).all()


def test_the_version_rises_with_the_aim_through_every_wrapper() -> None:
    plain = aimed(["No."])
    wrapped = EOTObjective(CroPAObjective(plain), EOTConfig((Resize(),), 1))
    assert (plain.version, wrapped.version) == (0, 0)
    assert plain.aims is not None
    plain.aims.version = 3
    assert (plain.version, wrapped.version) == (3, 3)
    assert TargetReplyLoss(plain.targets, plain.questions, "No.").version == 0


def test_learned_prompts_use_the_aim_of_each_target() -> None:
    plain = aimed(["No."], ["I can't."])
    learned = CroPAObjective(plain)
    first = learned(CLEAN, range(plain.size), Generator().manual_seed(0))
    assert first.loss == pytest.approx(plain.score(CLEAN), rel=1e-5)


def test_a_reply_that_was_cut_off_is_not_asked_to_end_there() -> None:
    model = PlainTorchModel(1)
    replies = ("yes", "no", "maybe", "red", "blue")
    whole, cut = PreserveReplies(model, replies), PreserveReplies(model, replies, 1.0, frozenset({1, 3}))

    def loss(own: PreserveReplies, items: list[int], *, end: bool = True) -> float:
        objective = TargetReplyLoss((PlainTorchModel(),), PROMPTS, REFUSAL, end=end, preserve=(own,))
        return sum(term.loss for term in objective.bystander_loss(CLEAN, items, Generator().manual_seed(0)))

    expected = 3 / 5 * loss(whole, [0, 2, 4]) + 2 / 5 * loss(whole, [1, 3], end=False)
    assert loss(cut, [0, 1, 2, 3, 4]) == pytest.approx(expected, rel=1e-5)
    assert loss(whole, [0, 1, 2, 3, 4]) != pytest.approx(expected, rel=1e-3)
