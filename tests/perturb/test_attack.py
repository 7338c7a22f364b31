"""The attack that a config describes: its sentence, its transformations and its memory."""

from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.attacks.refusal_targets import TARGET_REFUSALS
from equipoise.perturb.attack import build_attack, eot_transforms
from equipoise.perturb.config import RANDOM_REFUSAL, PerturbConfig
from equipoise.steering.direction import Direction


def config(**changes: object) -> PerturbConfig:
    return PerturbConfig(("a",), Path("out"), **changes)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(name=st.text(max_size=20), seed=st.integers(0, 2**40))
def test_a_random_refusal_is_one_of_ours_and_belongs_to_the_picture(name: str, seed: int) -> None:
    chosen = build_attack(config(refusal=RANDOM_REFUSAL, seed=seed), name).reply
    assert chosen in TARGET_REFUSALS
    assert chosen == build_attack(config(refusal=RANDOM_REFUSAL, seed=seed), name).reply


def test_random_refusals_differ_between_pictures() -> None:
    chosen = {build_attack(config(refusal=RANDOM_REFUSAL), f"p{number}").reply for number in range(30)}
    assert len(chosen) > 3


def test_a_random_refusal_is_the_same_in_every_process() -> None:
    """Resuming depends on it; the hash of a string would differ. The sentences are those of an earlier process."""
    chosen = [build_attack(config(refusal=RANDOM_REFUSAL), name).reply for name in ("p0", "p1", "p2")]
    assert chosen == [
        "I can't share anything about this photo.",
        "This is not something I am able to assist with.",
        "Regrettably, I can't give you an answer.",
    ]


def test_a_sentence_of_the_user_is_taken_as_it_is() -> None:
    assert build_attack(config(refusal="No; never."), "x").reply == "No; never."
    assert build_attack(config(), "x").reply is None


def test_every_transformation_can_be_named_and_is_used() -> None:
    names = tuple(eot_transforms())
    assert set(names) == {"jpeg", "resize", "crop", "noise"}
    eot = build_attack(config(eot=names), "x").eot
    assert eot is not None
    assert [type(transform) for transform in eot.transforms] == [type(part) for part in eot_transforms().values()]
    assert build_attack(config(), "x").eot is None


def test_learned_prompts_and_limits_reach_the_attack() -> None:
    attack = build_attack(config(learned_prompts=True, norm="l2", epsilon=2.5, steps=7, max_seconds=3.0), "x")
    assert attack.learned_prompts is not None
    assert (attack.budget.norm, attack.budget.epsilon, attack.steps, attack.max_seconds) == ("l2", 2.5, 7, 3.0)


def test_the_weight_of_words_and_the_grid_reach_the_attack(tmp_path: Path) -> None:
    file = tmp_path / "d"
    Direction(torch.ones(4), layer=1, position=-1, model="a", revision="r").save(file)
    attack = build_attack(
        config(objective="direction", directions=(file,), sentence_weight=0.25, low_frequency=0.5), "x"
    )
    assert (attack.sentence_weight, attack.low_frequency, len(attack.directions)) == (0.25, 0.5, 1)
