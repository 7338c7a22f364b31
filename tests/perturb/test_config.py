"""`PerturbConfig`: its recipe and its command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.errors import UsageError
from equipoise.models.compute import ComputeConfig
from equipoise.perturb import PerturbConfig, choose_questions


def test_the_recipe_is_json_and_keeps_the_keys_of_earlier_results() -> None:
    recipe = PerturbConfig(("a",), Path("out")).recipe
    assert json.loads(json.dumps(recipe)) == recipe
    assert set(recipe) == {
        "models", "bystanders", "shadow", "shadow_questions", "held_out_questions", "epsilon", "norm", "steps",
        "solver", "seed", "refusal", "eot", "keep_away", "max_seconds", "max_new_tokens", "dtype", "quantize",
    }  # fmt: skip
    later = PerturbConfig(("a",), Path("out"), universal=True, learned_prompts=True, defences=("median",)).recipe
    assert set(later) - set(recipe) == {"universal", "learned_prompts", "defences"}


def test_where_a_run_computes_is_no_part_of_its_recipe_but_the_number_format_is() -> None:
    plain = PerturbConfig(("a",), Path("out")).recipe
    assert PerturbConfig(("a",), Path("else"), compute=ComputeConfig("cpu", micro_batch=2)).recipe == plain
    assert PerturbConfig(("a",), Path("out"), compute=ComputeConfig(dtype="float16")).recipe != plain


@pytest.mark.parametrize(("epsilon", "text"), [(8 / 255, "8/255"), (0.02, "0.02"), (1.0, "255/255")])
def test_the_command_writes_epsilon_as_people_do(epsilon: float, text: str) -> None:
    assert f"--epsilon {text} " in PerturbConfig(("a",), Path("out"), epsilon=epsilon).command([Path("p.png")])


def test_the_command_quotes_what_a_shell_would_read() -> None:
    config = PerturbConfig(("a",), Path("my out"), questions=choose_questions(["What's this?"]), refusal="No; never.")
    command = config.command([Path("my photo.png")])
    assert "'my photo.png'" in command
    assert "'No; never.'" in command
    assert command.endswith("--out 'my out'")


@pytest.mark.parametrize(
    "settings",
    [
        {"eot": ("fog",)},
        {"solver": "magic"},
        {"keep_away": True},
        {"refusal": " "},
        {"bystanders": ("a",)},
        {"epsilon": 0.0},
        {"defences": ("nonsense",)},
    ],
)
def test_values_that_cannot_be(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PerturbConfig(("a",), Path("out"), **settings)  # type: ignore[arg-type]
