from __future__ import annotations

from dataclasses import replace

import pytest

from equipoise.attacks.aimed_wordings import AimKind
from equipoise.attacks.budgets import Budget
from equipoise.attacks.cropa import CroPAConfig
from equipoise.attacks.refusal_attack import RefusalAttack, perturb_to_refuse
from equipoise.attacks.refusal_evaluation import RefusalEvaluation, evaluate
from equipoise.attacks.refusal_targets import TARGET_REFUSALS
from equipoise.attacks.wordings import OwnRefusals, RefusalWording
from equipoise.countermeasures.catalogue import defend
from equipoise.errors import UsageError
from equipoise.media.decode import open_picture
from equipoise.media.quantize import to_pixels
from equipoise.transforms.eot import EOTConfig
from equipoise.transforms.jpeg import Jpeg
from equipoise.types import Verdict
from tests.attacks.fakes import QUESTIONS, Cannot, NoisyModel, Scripted, photo, within
from tests.models.tiny_plain import PlainTorchModel

BUDGET = Budget("linf", 16 / 255)
ATTACK = RefusalAttack(BUDGET, "momentum", steps=60, reply="Sorry, I can't.", questions_per_step=None)
PICTURE = photo()


def test_a_picture_makes_the_toy_refuse_on_the_file_and_stops_early(tmp_path: object) -> None:
    model = PlainTorchModel(0)
    clean = evaluate(model, PICTURE, QUESTIONS, judge=Cannot())
    assert clean.refusals.k == 0
    result = ATTACK(PICTURE, [model], QUESTIONS, judge=Cannot())
    picture = open_picture(result.save(f"{tmp_path}/a"))
    after = evaluate(model, picture, QUESTIONS, judge=Cannot())
    assert after.refusals.rate == 1.0
    assert (result.stopped, result.rate) == ("success", 1.0)
    assert result.steps < ATTACK.steps
    assert within(BUDGET, to_pixels(picture), to_pixels(PICTURE))
    assert result.recipe["objective"]["reply"] == "Sorry, I can't."


def test_one_call_draws_a_refusal_and_gives_the_same_bytes_again() -> None:
    model = PlainTorchModel(0)

    def run(seed: int) -> tuple[str, bytes]:
        result = perturb_to_refuse(
            PICTURE, model, QUESTIONS, attack=RefusalAttack(steps=3), seed=seed, bystanders=[PlainTorchModel(1)]
        )
        assert result.bystanders[0].revision == "seed-1"
        return result.recipe["objective"]["reply"], result.image.tobytes()

    assert run(1) == run(1)
    assert run(1)[0] in TARGET_REFUSALS


@pytest.mark.parametrize("solver", ["bim", "bim-paper", "apgd"])
def test_every_solver_and_extra_is_reached_by_name(solver: str) -> None:
    attack = RefusalAttack(BUDGET, solver, 2, eot=EOTConfig((Jpeg(),), 1), learned_prompts=CroPAConfig(), check_every=0)
    result = attack(PICTURE, [PlainTorchModel(0)], QUESTIONS)
    assert result.rate is None
    assert result.steps == 2
    assert result.recipe["questions_per_step"] == (3 if solver == "bim-paper" else 10)
    assert result.recipe["objective"]["eot"]["transforms"][0]["transform"] == "Jpeg"
    assert "learned_prompts" in result.recipe["objective"]


def test_the_budget_is_that_of_the_papers_unless_another_is_given() -> None:
    assert RefusalAttack().budget == Budget("linf", 8 / 255)
    assert RefusalAttack(BUDGET).budget == BUDGET


def test_pictures_can_be_perturbed_together() -> None:
    pictures = [photo(0), photo(1, 36, 50)]
    result = ATTACK.run_universal(pictures, [PlainTorchModel(0)], QUESTIONS[:2], judge=Cannot())
    for one, picture in zip(result.pictures, pictures, strict=True):
        assert one.image.size == picture.size
        assert within(BUDGET, one.pixels, to_pixels(picture))
        assert one.trace[-1].loss < one.trace[0].loss


def test_undecided_replies_are_counted_apart() -> None:
    model = Scripted(["I can't.", "", "A cat.", "I can't."])
    evaluation = evaluate(model, PICTURE, ["a?", "b?", "c?", "d?"], judge=Cannot())
    assert (evaluation.refusals.k, evaluation.refusals.n, evaluation.refusals.unscored) == (2, 3, 1)
    partial = RefusalEvaluation.of([], [Verdict("partial"), Verdict("none"), Verdict("full")])
    assert (partial.refusals.k, partial.refusals.n, partial.partial) == (2, 3, 1)


def test_the_structural_judge_is_the_default() -> None:
    model = Scripted(["I'm sorry, but I can't help with that.", "A red car."])
    assert evaluate(model, PICTURE, ["a?", "b?"]).refusals.k == 1


def test_senseless_requests_are_refused() -> None:
    model = PlainTorchModel(0)
    for make in (
        lambda: RefusalAttack(BUDGET, "adam"),
        lambda: RefusalAttack(BUDGET, check_every=-1),
        lambda: perturb_to_refuse(PICTURE, model, []),
        lambda: perturb_to_refuse(PICTURE, model, ["  "]),
        lambda: perturb_to_refuse(PICTURE, [], ["What?"]),
        lambda: perturb_to_refuse(PICTURE, model, ["What?"], attack=RefusalAttack(steps=0)),
        lambda: ATTACK.run_universal([], [model], ["What?"]),
    ):
        with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
            make()


def test_the_draws_of_an_attack_reach_its_steps_and_its_checks() -> None:
    model = NoisyModel()
    attack = RefusalAttack(BUDGET, steps=2, questions_per_step=1, check_every=2, draws=3)
    result = attack(PICTURE, [model], QUESTIONS[:2], judge=Cannot())
    assert result.recipe["objective"]["draws"] == 3
    assert len(set(model.draws)) > 6


def test_one_text_in_place_of_several_questions_is_not_taken_for_its_letters() -> None:
    for call in (
        lambda: ATTACK(PICTURE, [PlainTorchModel(0)], "Hi"),
        lambda: evaluate(PlainTorchModel(0), PICTURE, "Hi"),
    ):
        with pytest.raises(UsageError, match=r"got the text 'Hi'; try \[question\]"):
            call()


def test_an_attack_aims_at_the_targets_own_words_and_names_them() -> None:
    own = OwnRefusals("plain", "seed-0", 4, 4, (RefusalWording("I can't, my friend."),))
    attack = RefusalAttack(BUDGET, steps=80, questions_per_step=None, own_refusals=(own,))
    result = attack(PICTURE, [PlainTorchModel(0)], QUESTIONS, judge=Cannot())
    assert result.recipe["objective"]["aims"] == {"plain": ["I can't, my friend."]}
    assert result.recipe["objective"]["aim_changes"] == []
    assert (result.recipe["chosen_by"], result.rate) == ("check", 1.0)
    fixed = ATTACK(PICTURE, [PlainTorchModel(0)], QUESTIONS, judge=Cannot())
    assert "aims" not in fixed.recipe["objective"]


def test_a_target_that_refuses_nothing_is_a_warning_and_is_aimed_at_a_sentence_of_ours() -> None:
    own = OwnRefusals("plain", "seed-0", 4, 0)
    result = RefusalAttack(BUDGET, steps=1, own_refusals=(own,))(PICTURE, [PlainTorchModel(0)], QUESTIONS)
    assert any("plain refused none of 4" in warning for warning in result.warnings)
    assert result.recipe["objective"]["aims"]["plain"][0] in TARGET_REFUSALS
    fixed = RefusalAttack(BUDGET, steps=1, own_refusals=(own,), reply="No.")
    assert not any("refused none" in w for w in fixed(PICTURE, [PlainTorchModel(0)], QUESTIONS).warnings)


def test_a_defended_target_refuses_in_the_words_of_the_model_inside() -> None:
    own = OwnRefusals("plain", "seed-0", 4, 4, (RefusalWording("Not this one."),))
    result = RefusalAttack(BUDGET, steps=1, own_refusals=(own,))(
        PICTURE, [defend(PlainTorchModel(0), ["median:size=3", "bits:depth=5"])], QUESTIONS
    )
    assert result.recipe["objective"]["reply"] == "Not this one."
    # A folder may be called like a chain.
    odd = PlainTorchModel(0)
    odd.name = "models/a + b"
    attack = RefusalAttack(BUDGET, steps=1, own_refusals=(replace(own, model=odd.name),))
    assert attack(PICTURE, [odd], QUESTIONS).recipe["objective"]["reply"] == "Not this one."


@pytest.mark.parametrize("aim", ["set", "openings"])
def test_sets_and_openings_lower_their_loss_too(aim: AimKind) -> None:
    texts = (RefusalWording("I can't."), RefusalWording("I can't say."))
    own = OwnRefusals("plain", "seed-0", 4, 4, texts, (RefusalWording("I can't", ends=False),))
    attack = RefusalAttack(BUDGET, steps=40, questions_per_step=None, own_refusals=(own,), aim=aim)
    result = attack(PICTURE, [PlainTorchModel(0)], QUESTIONS, judge=Cannot())
    assert result.recipe["objective"]["aim_kind"] == aim
    assert result.trace[-1].loss < result.trace[0].loss


def test_an_unknown_aim_is_refused() -> None:
    with pytest.raises(UsageError, match="an aim of sentence, set, openings"):
        RefusalAttack(aim="words")  # type: ignore[arg-type]
