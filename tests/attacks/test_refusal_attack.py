from __future__ import annotations

from collections.abc import Sequence

import pytest
from PIL.Image import Image
from torch import Generator

from equipoise.attacks.budgets import Budget
from equipoise.attacks.cropa import CroPAConfig
from equipoise.attacks.refusal_attack import RefusalAttack, RefusalEvaluation, evaluate, perturb_to_refuse
from equipoise.attacks.refusal_targets import TARGET_REFUSALS
from equipoise.attacks.success_checks import refusal_rate_check
from equipoise.data.pictures import open_picture, to_pixels
from equipoise.errors import UsageError
from equipoise.transforms.eot import EOTConfig
from equipoise.transforms.geometry import Resize
from equipoise.transforms.jpeg import Jpeg
from equipoise.types import Exchange, Prompt, Verdict
from tests.attacks.fakes import QUESTIONS, REFUSAL, NoisyModel, photo, within
from tests.models.tiny_plain import PlainTorchModel

BUDGET = Budget("linf", 16 / 255)
ATTACK = RefusalAttack(BUDGET, "momentum", steps=60, reply="Sorry, I can't.", questions_per_step=None)
PICTURE = photo()


class Cannot:
    """A judge for the toy's spelling: a reply refuses that holds the words, and is unscored when empty."""

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [
            Verdict("full" if "I can't" in exchange.reply else "none")
            if exchange.reply
            else Verdict(None, unscored="empty reply")
            for exchange in exchanges
        ]


class Always:
    """A judge to whom everything is a refusal."""

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [Verdict("full")] * len(exchanges)


class Scripted(PlainTorchModel):
    """Says what it is told, and counts."""

    def __init__(self, replies: Sequence[str]) -> None:
        super().__init__()
        self.replies, self.received = list(replies), 0

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        answers = self.replies[self.received : self.received + len(prompts)]
        self.received += len(prompts)
        return [Exchange(prompt, reply, "stop", "scripted") for prompt, reply in zip(prompts, answers, strict=True)]


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


def test_a_check_stops_asking_when_the_target_is_out_of_reach() -> None:
    prompts = [Prompt.ask("What is it?", PICTURE)] * 30
    pixels = to_pixels(PICTURE)
    yes, no = "I can't.", "A cat."
    model = Scripted([yes] * 30)
    assert refusal_rate_check([model], prompts, judge=Cannot())(pixels) == 1.0
    assert model.received == 30
    model = Scripted([yes] * 7 + [no] + [yes] * 22)
    assert refusal_rate_check([model], prompts, judge=Cannot())(pixels) == 7 / 8
    assert model.received == 8
    model = Scripted([yes] * 27 + [no] * 3)
    assert refusal_rate_check([model], prompts, judge=Cannot(), target_rate=0.9)(pixels) == 0.9
    first, second = Scripted([no] * 30), Scripted([yes] * 30)
    assert refusal_rate_check([first, second], prompts, judge=Cannot())(pixels) == 0.0
    assert second.received == 0
    unscored = Scripted([""] * 30)
    assert refusal_rate_check([unscored], prompts, judge=Cannot())(pixels) == 0.0


def test_undecided_replies_are_counted_apart() -> None:
    model = Scripted(["I can't.", "", "A cat.", "I can't."])
    evaluation = evaluate(model, PICTURE, ["a?", "b?", "c?", "d?"], judge=Cannot())
    assert (evaluation.refusals.k, evaluation.refusals.n, evaluation.refusals.unscored) == (2, 3, 1)
    partial = RefusalEvaluation.of([], [Verdict("partial"), Verdict("none"), Verdict("full")])
    assert (partial.refusals.k, partial.refusals.n, partial.partial) == (2, 3, 1)


def test_the_pictures_of_the_questions_are_replaced_in_a_check() -> None:
    recorded: list[Image] = []

    class RecordingModel(Scripted):
        def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
            recorded.extend(prompt.messages[0].images[0] for prompt in prompts)
            return super().generate(prompts, max_new_tokens=max_new_tokens)

    prompt = Prompt.ask("What?", PICTURE, system="Be kind.")
    refusal_rate_check([RecordingModel([REFUSAL])], [prompt], judge=Cannot())(to_pixels(photo(4)))
    assert recorded[0].tobytes() == photo(4).tobytes()


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


def test_a_check_counts_what_survives_every_transform() -> None:
    class Sharp(Scripted):
        """Refuses a picture only as long as nothing has been done to it."""

        def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
            whole = [prompt.messages[0].images[0].tobytes() == PICTURE.tobytes() for prompt in prompts]
            return [
                Exchange(p, "I can't." if w else "A cat.", "stop", "sharp") for p, w in zip(prompts, whole, strict=True)
            ]

    prompts = [Prompt.ask("a?", PICTURE)]
    pixels = to_pixels(PICTURE)
    assert refusal_rate_check([Sharp([])], prompts, judge=Cannot())(pixels) == 1.0
    assert refusal_rate_check([Sharp([])], prompts, judge=Cannot(), transforms=[Resize(0.5, 0.5)])(pixels) == 0.0


def test_a_check_of_a_random_defence_never_uses_the_deployed_draw_and_always_the_same_others() -> None:
    model = NoisyModel()  # fails where its deployed draw is looked at
    prompts = [Prompt.ask("a?", PICTURE)]
    check = refusal_rate_check([model], prompts, judge=Always(), draws=3)
    assert check(to_pixels(PICTURE)) == 1.0
    assert len(set(model.draws)) == len(model.draws) == 3
    check(to_pixels(photo(4)))
    assert model.draws[3:] == model.draws[:3]


def test_a_check_counts_the_draw_that_refuses_least() -> None:
    class Lucky(NoisyModel):
        """Its third draw answers."""

        drawn = 0

        def sample_randomness(self, random: Generator) -> Scripted:
            Lucky.drawn += 1
            return Scripted(["A cat." if Lucky.drawn == 3 else "I can't."] * 9)

    prompts = [Prompt.ask("a?", PICTURE)]
    assert refusal_rate_check([Lucky()], prompts, judge=Cannot(), draws=2)(to_pixels(PICTURE)) == 1.0
    Lucky.drawn = 0
    assert refusal_rate_check([Lucky()], prompts, judge=Cannot(), draws=3)(to_pixels(PICTURE)) == 0.0
    with pytest.raises(UsageError, match="at least 1 draw"):
        refusal_rate_check([Lucky()], prompts, draws=0)


def test_the_draws_of_an_attack_reach_its_steps_and_its_checks() -> None:
    model = NoisyModel()
    attack = RefusalAttack(BUDGET, steps=2, questions_per_step=1, check_every=2, draws=3)
    result = attack(PICTURE, [model], QUESTIONS[:2], judge=Cannot())
    assert result.recipe["objective"]["draws"] == 3
    assert len(set(model.draws)) > 6
