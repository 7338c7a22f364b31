"""Options of attacks: what a user writes becomes the arguments of `PerturbConfig`, and nothing else."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.cli.options.attack import AttackOptions, FullAttackOptions, RobustAttackOptions, parse_eot
from equipoise.cli.options.param_types import NormName
from equipoise.errors import UsageError
from equipoise.perturb import PerturbConfig
from equipoise.perturb.attack import eot_transforms

NAMES = tuple(eot_transforms())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("none", ()),
        ("", ()),
        ("all", NAMES),
        ("ALL", NAMES),
        ("jpeg", ("jpeg",)),
        ("Resize, jpeg", ("resize", "jpeg")),
        ("jpeg,jpeg,noise,", ("jpeg", "noise")),
    ],
)
def test_transformations_are_names_parted_by_commas(text: str, names: tuple[str, ...]) -> None:
    assert parse_eot(text) == names


@given(st.lists(st.sampled_from(NAMES), unique=True))
def test_names_keep_their_order(names: list[str]) -> None:
    assert parse_eot(",".join(names)) == tuple(names)


@pytest.mark.parametrize("text", [",", " , ", ",,"])
def test_commas_without_names_are_no_way_to_say_none(text: str) -> None:
    with pytest.raises(UsageError, match="--eot none"):
        parse_eot(text)


def test_a_name_among_others_is_not_expanded_and_the_config_refuses_it() -> None:
    assert parse_eot("jpeg,all") == ("jpeg", "all")
    with pytest.raises(UsageError, match="expected --eot of"):
        PerturbConfig(("a",), Path("out"), eot=parse_eot("jpeg,all"))


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("0.05", 0.05)])
def test_epsilon_is_a_number_or_a_fraction(text: str, value: float) -> None:
    assert AttackOptions(epsilon=text).largest_change == value


def test_an_epsilon_that_is_none_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match="expected a number or a fraction, got 'eight'"):
        _ = AttackOptions(epsilon="eight").largest_change


@pytest.mark.parametrize("kind", [RobustAttackOptions, FullAttackOptions])
def test_the_defaults_of_the_options_are_those_of_the_config(kind: type[RobustAttackOptions]) -> None:
    settings = kind().settings()
    assert set(settings) <= {field.name for field in fields(PerturbConfig)}
    plain = PerturbConfig(("a",), Path("out"))
    assert PerturbConfig(("a",), Path("out"), **settings).recipe == plain.recipe


def test_every_option_reaches_its_argument() -> None:
    settings = FullAttackOptions(
        epsilon="4/255", steps=7, max_seconds=2.0, seed=5, eot="noise", norm=NormName.l2, solver="apgd", refusal="No.",
        objective="set", direction=[Path("d")], elicit=Path("e"), keep_away=True, universal=True, learned_prompts=True,
        restarts=2, low_frequency=0.5, sentence_weight=0.25,
    ).settings()  # fmt: skip
    assert settings == {
        "epsilon": 4 / 255, "steps": 7, "max_seconds": 2.0, "seed": 5, "eot": ("noise",), "norm": "l2",
        "perceptual": False, "restarts": 2, "low_frequency": 0.5, "sentence_weight": 0.25,
        "solver": "apgd", "refusal": "No.", "objective": "set", "directions": (Path("d"),), "elicit": Path("e"),
        "keep_away": True, "universal": True, "learned_prompts": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"), [("RANDOM", "random"), (" Random ", "random"), ("At random.", "At random.")]
)
def test_random_is_a_word_in_any_letters(text: str, sentence: str) -> None:
    assert FullAttackOptions(refusal=text).settings()["refusal"] == sentence
