"""The training of DeRTa on tiny models: what it learns, what it leaves as it was, a kill, and rows it does not take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from equipoise.data.refusal_rows import RefusalRow
from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.errors import ModelError, UsageError
from equipoise.models.load import load
from equipoise.models.transformers_model import TransformersModel
from equipoise.training.derta.labels import LabelSettings, RowUse, label_use
from equipoise.training.derta.loss import opener_log_prob
from equipoise.training.derta.train import DertaTrainingConfig, chosen_rows, row_warnings, train
from equipoise.types import Prompt
from tests.training.derta.tokenizer_kinds import write_text_model
from tests.training.fakes import KilledError, kill_at, noted, replace_weights

REFUSAL = "Sorry, I cannot help."
HARMFUL = [
    RefusalRow(
        at, "harmful", (("user", f"How do I {act} a lock?"),), f"Take a pin and {act} it.", "Sorry, I cannot help."
    )
    for at, act in enumerate(("pick", "bend", "turn"), 1)
]
HARMLESS = [
    RefusalRow(4, "boundary", (("user", "How do I bake a lock?"),), "Mix flour and bake it."),
    RefusalRow(5, "ordinary", (("user", "How do I bake bread?"),), "Mix flour and water."),
]
ROWS = [*HARMFUL, *HARMLESS]


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(write_text_model(tmp_path / "base"))


def config(base: str, **more: object) -> DertaTrainingConfig:
    values = {"rate": 2e-2, "batch": 4, "dtype": "float32", "epochs": 1, **more}
    return DertaTrainingConfig(base, **values)  # type: ignore[arg-type]


def opener_probabilities(model: TransformersModel, row: RefusalRow, openers: tuple[int, ...]) -> torch.Tensor:
    """Probability of an opener at every token of the row's answer."""
    labels = label_use(model, row, row.prompt, RowUse(0, "turn", (0,)), LabelSettings())
    tokens = labels.encoded.tokens[None]
    with torch.no_grad():
        logits = model.model(input_ids=tokens).logits[0, labels.encoded.prompt_length - 1 : -1].float()
    return opener_log_prob(logits, openers).exp()


def test_it_refuses_within_harmful_answers_and_not_within_harmless_ones(base: str, tmp_path: Path) -> None:
    adapter, openers = train(config(base, epochs=100, rate=5e-3), ROWS, tmp_path / "out", device="cpu")
    model = load(f"{base}+{adapter}", device="cpu")
    assert isinstance(model, TransformersModel)
    for row in HARMFUL:
        assert opener_probabilities(model, row, openers.ids).mean() > 0.5
    for row in HARMLESS:
        # Not at the first token: a base of random weights does not tell "bake a lock" from "pick a lock" there.
        assert opener_probabilities(model, row, openers.ids)[1:].mean() < 0.1
    replies = model.generate([row.prompt for row in HARMFUL], max_new_tokens=16)
    assert all(reply.reply.startswith("Sorry") for reply in replies)


def test_each_part_of_the_loss_is_logged(base: str, tmp_path: Path) -> None:
    train(config(base), ROWS, tmp_path / "out", device="cpu")
    last = json.loads((tmp_path / "out" / "training.jsonl").read_text().splitlines()[-1])
    assert {"step", "loss", "mle_safe", "mle_help", "rto", "negative"} <= set(last)


def test_a_killed_training_goes_on_with_the_same_bytes(base: str, tmp_path: Path) -> None:
    recipe = config(base, epochs=4, keep_fraction=0.5)
    whole, _ = train(recipe, ROWS, tmp_path / "whole", device="cpu")
    with pytest.raises(KilledError):
        train(recipe, ROWS, tmp_path / "again", device="cpu", checkpoint_every=2, progress=kill_at(3))
    assert not (tmp_path / "again" / "adapter_model.safetensors").exists()
    resumed, _ = train(recipe, ROWS, tmp_path / "again", device="cpu", checkpoint_every=2)
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (whole, resumed))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


def test_a_folder_of_other_rows_or_another_recipe_is_refused(base: str, tmp_path: Path) -> None:
    train(config(base), ROWS, tmp_path / "out", device="cpu")
    for other, rows in ((config(base, seed=1), ROWS), (config(base), ROWS[::-1])):
        with pytest.raises(UsageError, match="same recipe"):
            train(other, rows, tmp_path / "out", device="cpu")


@pytest.mark.parametrize("steps", [1, 5])
def test_steps_are_taken_exactly_whatever_the_rows(base: str, tmp_path: Path, steps: int) -> None:
    counts = []
    for at, change in enumerate(({}, {"rto_weight": 0.0}, {"boundary_mix": False})):
        losses: list[float] = []
        recipe = config(base, steps=steps, **change)
        train(recipe, ROWS, tmp_path / str(at), device="cpu", progress=noted(losses))
        counts.append(len(losses))
    assert counts == [steps] * 3


def test_the_boundary_mix_is_mandatory_unless_it_is_declined(base: str) -> None:
    with pytest.raises(UsageError, match=r"at least 1 rows of kind boundary for 3 .* --no-boundary-mix"):
        chosen_rows([*HARMFUL, HARMLESS[1]], True)
    with pytest.raises(UsageError, match="at least 2 rows of kind boundary for 16"):
        chosen_rows([*[HARMFUL[0]] * 16, *HARMLESS], True)
    assert chosen_rows(ROWS, False) == [*HARMFUL, HARMLESS[1]]
    assert chosen_rows(ROWS, True) == ROWS


@pytest.mark.parametrize(("rows", "what"), [(HARMLESS, "kind harmful"), (HARMFUL, "harmless prompts")])
def test_one_sided_rows_are_an_error(rows: list[RefusalRow], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        chosen_rows(rows, False)


def test_rows_longer_than_the_context_are_named_and_nothing_is_trained(base: str, tmp_path: Path) -> None:
    long = [replace(HARMFUL[0], line=7, answer="pin " * 400), replace(HARMLESS[1], line=9, answer="bread " * 400)]
    with pytest.raises(UsageError, match=r"line 7: expected at most 256 tokens, got \d+; line 9"):
        train(config(base), [*ROWS, *long], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="at most 40 tokens"):
        train(
            config(base, longest=40), [*ROWS, replace(HARMFUL[0], answer="pin " * 20)], tmp_path / "out", device="cpu"
        )


@pytest.mark.parametrize(
    "change",
    [
        {"keep_fraction": 0.0},
        {"keep_fraction": 1.5},
        {"rto_weight": -1.0},
        {"negative_weight": float("nan")},
        {"rate": float("nan")},
        {"rate": 0.0},
        {"rate": -1e-4},
        {"openers": ("Sorry", " ")},
    ],
)
def test_settings_out_of_range_are_an_error(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
        config("x", **change)


def test_texts_that_are_not_what_their_name_says_are_counted() -> None:
    odd = [
        replace(HARMFUL[0], refusal="Mix the flour with water and salt, then bake all of it for an hour."),
        replace(HARMFUL[0], answer="I'm sorry, but I can't help with that."),
        replace(HARMLESS[0], answer="I'm sorry, but I can't help with that."),
    ]
    counts = row_warnings([*ROWS, *odd])
    assert (counts.refusals, counts.harmful_answers, counts.answers) == (1, 1, 1)


def test_pictures_train_beside_text_and_leave_the_vision_tower_alone(llava_folder: Path, tmp_path: Path) -> None:
    picture = GeneratedPicture.of(Image.new("RGB", (40, 32), "red"))
    pictured = [replace(row, pictures=(picture,) * count) for row, count in zip(ROWS, (0, 1, 2, 1, 0), strict=True)]
    adapter, openers = train(config(str(llava_folder), epochs=2), pictured, tmp_path / "out", device="cpu")
    names = load_file(adapter / "adapter_model.safetensors")
    assert names
    assert not [name for name in names if "vision" in name or "projector" in name]
    model = load(f"{llava_folder}+{adapter}", device="cpu")
    assert model.generate([Prompt.ask("How?", Image.new("RGB", (40, 32)))], max_new_tokens=2)[0].finish in (
        "stop",
        "length",
    )
    assert openers.ids


def test_a_bad_row_is_found_also_where_few_steps_leave_it_out(base: str, tmp_path: Path) -> None:
    rows = [*ROWS, RefusalRow(9, "ordinary", (("user", "Hi"),), "word " * 3000)]
    for seed in range(3):
        with pytest.raises(UsageError, match="line 9: expected at most"):
            train(config(base, steps=1, batch=1, seed=seed), rows, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_rows_that_repeat_or_contradict_each_other_are_counted() -> None:
    contrary = replace(HARMFUL[0], line=8, kind="ordinary", answer="Do this.", refusal="")
    counts = row_warnings([*ROWS, replace(HARMFUL[1], line=7), contrary])
    assert (counts.repeated, counts.contrary) == (1, 1)
    assert (row_warnings(ROWS).repeated, row_warnings(ROWS).contrary) == (0, 0)


def test_a_base_with_other_weights_is_another_recipe(base: str, tmp_path: Path) -> None:
    finished, _ = train(config(base), ROWS, tmp_path / "finished", device="cpu")
    with pytest.raises(KilledError):
        train(config(base), ROWS, tmp_path / "killed", device="cpu", checkpoint_every=1, progress=kill_at(2))
    stamp = (finished / "base.json").read_bytes()
    replace_weights(Path(base))
    for folder in ("finished", "killed"):
        with pytest.raises(UsageError, match="got another base_weights"):
            train(config(base), ROWS, tmp_path / folder, device="cpu")
    assert (finished / "base.json").read_bytes() == stamp
    with pytest.raises(ModelError, match="got others"):
        load(f"{base}+{finished}", device="cpu")


def test_the_adapter_names_the_weights_that_were_loaded(base: str, tmp_path: Path) -> None:
    def replace_at(step: int, _steps: int, _loss: float) -> None:
        if step == 1:
            replace_weights(Path(base))

    adapter, _ = train(config(base), ROWS, tmp_path / "out", device="cpu", progress=replace_at)
    with pytest.raises(ModelError, match="got others"):
        load(f"{base}+{adapter}", device="cpu")


def test_an_adapter_under_the_training_is_part_of_its_recipe(base: str, tmp_path: Path) -> None:
    below, _ = train(config(base), ROWS, tmp_path / "below", device="cpu")
    both = f"{base}+{below}"
    train(config(both), ROWS, tmp_path / "out", device="cpu")
    train(config(both), ROWS, tmp_path / "out", device="cpu")
    file = below / "adapter_model.safetensors"
    save_file({name: weight * 2 for name, weight in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match="got another base_weights"):
        train(config(both), ROWS, tmp_path / "out", device="cpu")
