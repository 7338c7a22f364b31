"""`PerturbConfig`: its recipe and its command line."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from equipoise.attacks.solvers import SOLVERS
from equipoise.cli.main import app
from equipoise.errors import UsageError
from equipoise.models.compute import ComputeConfig
from equipoise.perturb import PerturbConfig, choose_questions
from equipoise.perturb.attack import eot_transforms


def test_the_recipe_is_json_and_keeps_the_keys_of_earlier_results() -> None:
    recipe = PerturbConfig(("a",), Path("out")).recipe
    assert json.loads(json.dumps(recipe)) == recipe
    assert set(recipe) == {
        "models", "bystanders", "shadow", "shadow_questions", "held_out_questions", "epsilon", "norm", "steps",
        "solver", "seed", "refusal", "eot", "keep_away", "max_seconds", "max_new_tokens", "dtype", "quantize",
    }  # fmt: skip
    later = PerturbConfig(("a",), Path("out"), universal=True, learned_prompts=True, defences=("median",)).recipe
    assert set(later) - set(recipe) == {"universal", "learned_prompts", "defences"}


def test_what_is_aimed_at_is_part_of_the_recipe_and_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("Tell me.\n")
    config = PerturbConfig(("a",), Path("out"), objective="set", elicit=tmp_path / "more.txt")
    plain = PerturbConfig(("a",), Path("out")).recipe
    assert set(config.recipe) - set(plain) == {"objective", "elicit"}
    words = shlex.split(config.command([Path("p.png")]))
    assert words[words.index("--objective") + 1] == "set"
    assert words[words.index("--elicit") + 1] == str(tmp_path / "more.txt")
    inner = PerturbConfig(("a",), Path("out"), objective="direction", directions=(Path("d"),))
    assert "--direction d" in inner.command([Path("p.png")])
    both = replace(inner, sentence_weight=0.25, low_frequency=0.5)
    assert set(both.recipe) - set(inner.recipe) == {"sentence_weight", "low_frequency"}
    assert "--direction d --sentence-weight 0.25 " in both.command([Path("p.png")])
    assert "--low-frequency 0.5 " in both.command([Path("p.png")])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "words"}, "--objective of sentence, set, openings, direction"),
        ({"objective": "set", "refusal": "No."}, "got both"),
        ({"elicit": Path("none.txt")}, "a file of prompts after --elicit"),
        ({"objective": "direction"}, "one --direction FILE for each of 1 models"),
        ({"directions": (Path("d"),)}, "one --direction FILE"),
        ({"objective": "direction", "directions": (Path("d"), Path("e"))}, "got --objective direction and 2"),
        ({"objective": "direction", "directions": (Path("d"),), "learned_prompts": True}, "without defences"),
        ({"sentence_weight": 0.5}, "--sentence-weight of at least 0 with --objective direction, got 0.5 and"),
        ({"objective": "direction", "directions": (Path("d"),), "sentence_weight": -1.0}, "--sentence-weight of at l"),
        ({"low_frequency": 0.0}, "up to 1, got 0;"),
        ({"low_frequency": 2.0}, "up to 1, got 2;"),
        ({"low_frequency": 1.0, "universal": True}, "got --universal; try one of them"),
    ],
)
def test_aims_that_do_not_go_together_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PerturbConfig(("a",), Path("out"), **values)  # type: ignore[arg-type]


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
        {"solver": "bim-paper", "low_frequency": 1.0},
        {"learned_prompts": True, "objective": "set"},
        {"learned_prompts": True, "objective": "openings"},
        {"max_seconds": 0.0},
        {"max_seconds": math.inf},
        {"max_seconds": math.nan},
        {"objective": "direction", "directions": (Path("d"),), "sentence_weight": math.nan},
        {"objective": "direction", "directions": (Path("d"),), "sentence_weight": math.inf},
    ],
)
def test_values_that_cannot_be(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PerturbConfig(("a",), Path("out"), **settings)  # type: ignore[arg-type]


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)
names = st.from_regex(r"\A[a-z]{1,6}(/[a-z]{1,6})?\Z")


@st.composite
def configs(draw: st.DrawFn) -> PerturbConfig:
    """Any config whose questions do not come from files."""
    models = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    cut = draw(st.integers(1, len(models)))
    questions = draw(st.lists(words, max_size=2))
    kind = draw(st.sampled_from(["exact", "similar", "general"] if questions else ["general"]))
    seed = draw(st.integers(0, 2**63 - 1))
    norm = draw(st.sampled_from(["linf", "l2"]))
    universal = draw(st.booleans())
    solver = draw(st.sampled_from(sorted(SOLVERS)))
    every_pixel = universal or solver == "bim-paper"
    return PerturbConfig(
        models=tuple(models[:cut]),
        bystanders=tuple(models[cut:]),
        out=Path(draw(words)),
        defences=tuple(draw(st.lists(st.sampled_from(["median", "jpeg:quality=50"]), max_size=2))),
        questions=choose_questions(questions, draw(st.lists(words, max_size=2)), kind=kind, seed=seed),
        epsilon=draw(st.one_of(st.integers(1, 255).map(lambda k: k / 255), st.floats(1 / 255, 1))),
        norm=norm,
        steps=draw(st.integers(1, 10**6)),
        solver=solver,
        seed=seed,
        refusal=draw(st.none() | words),
        eot=tuple(draw(st.lists(st.sampled_from(sorted(eot_transforms())), unique=True))),
        keep_away=cut < len(models) and draw(st.booleans()),
        universal=universal,
        low_frequency=None if every_pixel else draw(st.none() | st.floats(0, 1, exclude_min=True)),
        learned_prompts=draw(st.booleans()),
        max_seconds=draw(st.none() | st.floats(0, 1e9, exclude_min=True)),
        max_new_tokens=draw(st.integers(1, 10**4)),
        compute=ComputeConfig(
            dtype=draw(st.sampled_from([None, "float32", "bfloat16"])), quantize=draw(st.sampled_from([None, "4bit"]))
        ),
    )


@settings(max_examples=60, deadline=None)
@given(config=configs(), pictures=st.lists(words.map(Path), min_size=1, max_size=2))
def test_the_command_of_a_config_gives_its_recipe_again(config: PerturbConfig, pictures: list[Path]) -> None:
    """Whoever types the command of a result goes on with that result, and is not told of another recipe."""
    calls: list[tuple[Sequence[Path], PerturbConfig]] = []

    def run_with_page(images: Sequence[Path], parsed: PerturbConfig, _executor: object = None) -> object:
        calls.append((images, parsed))
        raise UsageError("expected no run, got one; try none")

    command = shlex.split(config.command(pictures))
    assert command[:2] == ["equipoise", "perturb"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("equipoise.cli.perturb.run_with_page", run_with_page)
        result = CliRunner().invoke(app, command[1:])
    assert calls, (command, result.output)
    ((images, parsed),) = calls
    assert parsed.recipe == config.recipe
    assert (list(images), parsed.out) == (pictures, config.out)


def test_only_the_content_of_named_files_is_added_to_the_recipe_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "more.txt"
    file.write_text("Tell me.\n")
    config = PerturbConfig(("a",), Path("out"), elicit=file)
    before = config.run_recipe
    assert set(before) - set(config.recipe) == {"files_sha256"}
    file.write_text("Tell me more.\n")
    assert config.run_recipe != before
    assert PerturbConfig(("a",), Path("out")).run_recipe == PerturbConfig(("a",), Path("out")).recipe


def test_half_a_character_is_refused_wherever_text_comes_from(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "What \\ud83d?"}\n')
    for chosen in ({"questions": ["x\udce9"]}, {"held_out": ["x\udce9"]}, {"file": tmp_path / "q.jsonl"}):
        with pytest.raises(UsageError, match="expected whole characters"):
            choose_questions(**chosen)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected whole characters after --refusal"):
        PerturbConfig(("a",), Path("out"), refusal="x\udce9")


def test_a_refusal_that_makes_every_step_slow_is_refused() -> None:
    PerturbConfig(("a",), Path("out"), refusal="x" * 2000)
    with pytest.raises(UsageError, match=r"at most 2,000 characters, got 2,001; try its first sentences"):
        PerturbConfig(("a",), Path("out"), refusal="x" * 2001)
