"""Supervised training: a collator and a loss are enough; resuming, order of the rows, gradients, memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from equipoise.errors import ModelError, UsageError
from equipoise.training.causal_lm import IGNORED, CausalCollator, load_base, token_row
from equipoise.training.detector import DetectorTrainingConfig
from equipoise.training.detoxifier import DetoxifierTrainingConfig
from equipoise.training.early_exit import EarlyExitTrainingConfig
from equipoise.training.lora import add_adapters
from equipoise.training.supervised_training import BatchOrder, SupervisedSettings, fit, model_loss
from tests.guard.tiny_models import decoder
from tests.training.fakes import KilledError, kill_at, noted

ROWS = [token_row([4, 5, 6], [7 + number % 5, 9, 3]) for number in range(13)]
SETTINGS = SupervisedSettings(epochs=3, rate=1e-2, batch=4, seed=0, device="cpu", checkpoint_every=2)
COLLATE = CausalCollator(0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(decoder(tmp_path_factory.mktemp("base") / "decoder"))


def model_of(base: str, *, dropout: float = 0.0) -> Any:
    model, _ = load_base(base)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = dropout
    return model


def weights_of(model: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


def test_the_loss_falls_and_the_model_is_ready_to_use(base: str, tmp_path: Path) -> None:
    losses: list[float] = []
    model = model_of(base)
    fit(model, ROWS, COLLATE, replace(SETTINGS, epochs=6), tmp_path, {}, progress=noted(losses))
    assert len(losses) == 6 * 4
    assert losses[-1] < 0.5 * losses[0]
    assert not any(module.training for module in model.modules())


def test_parts_of_a_loss_are_logged_and_the_first_is_minimised(base: str, tmp_path: Path) -> None:
    def parts(model: Any, batch: Any) -> dict[str, Tensor]:
        loss = model(**batch)["loss"]
        return {"loss": loss, "tenfold": 10 * loss}

    alone, reported = model_of(base), model_of(base)
    fit(alone, ROWS, COLLATE, SETTINGS, tmp_path / "alone", {})
    fit(reported, ROWS, COLLATE, SETTINGS, tmp_path / "parts", {}, loss=parts)
    last = json.loads((tmp_path / "parts" / "training.jsonl").read_text().splitlines()[-1])
    assert last["tenfold"] == pytest.approx(10 * last["loss"], rel=1e-5)
    assert all(torch.equal(one, two) for one, two in zip(weights_of(alone), weights_of(reported), strict=True))


@pytest.mark.parametrize("killed", [1, 4, 7])
def test_a_killed_training_with_dropout_resumes_to_the_same_weights(base: str, tmp_path: Path, killed: int) -> None:
    through, other = model_of(base, dropout=0.3), model_of(base, dropout=0.3)
    fit(through, ROWS, COLLATE, SETTINGS, tmp_path / "through", {})
    with pytest.raises(KilledError):
        fit(other, ROWS, COLLATE, SETTINGS, tmp_path / "killed", {}, progress=kill_at(killed))
    resumed = model_of(base, dropout=0.3)
    torch.rand(7)  # What was drawn meanwhile is of no consequence.
    fit(resumed, ROWS, COLLATE, SETTINGS, tmp_path / "killed", {})
    assert all(torch.equal(one, two) for one, two in zip(weights_of(through), weights_of(resumed), strict=True))


def test_dropout_differs_from_step_to_step_and_from_seed_to_seed(base: str, tmp_path: Path) -> None:
    """With a rate of nearly nothing on one row, only dropout can change the loss."""
    still = replace(SETTINGS, rate=1e-12, batch=1)
    traces: list[list[float]] = []
    for seed in (0, 1):
        losses: list[float] = []
        model = model_of(base, dropout=0.5)
        fit(model, ROWS[:1], COLLATE, replace(still, seed=seed), tmp_path / str(seed), {}, progress=noted(losses))
        traces.append(losses)
    assert len({*traces[0], *traces[1]}) == 6


def test_the_callers_random_numbers_are_left_alone(base: str, tmp_path: Path) -> None:
    model = model_of(base, dropout=0.5)
    before = torch.get_rng_state()
    fit(model, ROWS, COLLATE, replace(SETTINGS, epochs=1), tmp_path, {})
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_of_ones_own_trains_what_it_says(base: str, tmp_path: Path) -> None:
    """Like DeRTa: the collator adds labels for every position, and the loss weighs them."""

    def collate(rows: Any) -> dict[str, Tensor]:
        batch = COLLATE(rows)
        return batch | {"weights": (batch["labels"] != IGNORED).float() * 2}

    def loss(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        losses = functional.cross_entropy(
            logits.transpose(1, 2).float(), batch["labels"][:, 1:], ignore_index=IGNORED, reduction="none"
        )
        weights = batch["weights"][:, 1:]
        return (losses * weights).sum() / weights.sum()

    own: list[float] = []
    stock: list[float] = []
    fit(model_of(base), ROWS, collate, SETTINGS, tmp_path / "own", {}, loss=loss, progress=noted(own))
    fit(model_of(base), ROWS, COLLATE, SETTINGS, tmp_path / "stock", {}, progress=noted(stock))
    assert own == pytest.approx(stock, rel=1e-3)


class SoftPrompt(nn.Module):
    """Learned vectors in front of a frozen model's input."""

    def __init__(self, model: Any, length: int) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.vectors = nn.Parameter(torch.zeros(length, model.config.hidden_size))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Any:
        count = len(input_ids)
        embedded = self.model.get_input_embeddings()(input_ids)
        embedded = torch.cat([self.vectors.expand(count, -1, -1), embedded], 1)
        ones = attention_mask.new_ones(count, len(self.vectors))
        ignored = labels.new_full((count, len(self.vectors)), IGNORED)
        return self.model(
            inputs_embeds=embedded,
            attention_mask=torch.cat([ones, attention_mask], 1),
            labels=torch.cat([ignored, labels], 1),
        )


def test_a_soft_prompt_alone_learns_and_alone_is_in_the_checkpoint(base: str, tmp_path: Path) -> None:
    prompt = SoftPrompt(model_of(base), 4)
    before = weights_of(prompt.model)
    losses: list[float] = []
    fit(prompt, ROWS, COLLATE, replace(SETTINGS, epochs=8, rate=0.3), tmp_path, {}, progress=noted(losses))
    assert losses[-1] < losses[0]
    assert prompt.vectors.abs().max() > 0
    assert all(torch.equal(one, two) for one, two in zip(before, weights_of(prompt.model), strict=True))
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["weights"]
    assert [tuple(value.shape) for value in saved.values()] == [(4, 32)]


def test_adapters_alone_learn_and_alone_are_in_the_checkpoint(base: str, tmp_path: Path) -> None:
    model = add_adapters(model_of(base), 2)
    frozen = {name: weight.detach().clone() for name, weight in model.named_parameters() if not weight.requires_grad}
    fit(model, ROWS, COLLATE, SETTINGS, tmp_path, {})
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], weight) for name, weight in frozen.items())
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["weights"]
    assert len(saved) == sum(weight.requires_grad for weight in model.parameters())


def test_activation_checkpointing_changes_memory_and_no_loss(base: str, tmp_path: Path) -> None:
    traces: dict[bool, list[float]] = {False: [], True: []}
    calls: dict[bool, int] = {}
    for less, losses in traces.items():
        model = model_of(base, dropout=0.3)
        counted: list[int] = []
        model.model.layers[0].mlp.register_forward_pre_hook(lambda *_, counted=counted: counted.append(1))
        options = replace(SETTINGS, epochs=1, activation_checkpointing=less)
        fit(model, ROWS, COLLATE, options, tmp_path / str(less), {}, progress=noted(losses))
        calls[less] = len(counted)
    assert traces[True] == traces[False]
    assert calls[True] == 2 * calls[False]


def test_bfloat16_changes_the_losses_a_little(base: str, tmp_path: Path) -> None:
    traces: dict[bool, list[float]] = {False: [], True: []}
    for bf16, losses in traces.items():
        fit(
            model_of(base), ROWS, COLLATE, replace(SETTINGS, bf16=bf16, epochs=1), tmp_path / str(bf16), {},
            progress=noted(losses),
        )  # fmt: skip
    assert traces[True] != traces[False]
    assert traces[True] == pytest.approx(traces[False], rel=0.05)


def test_weight_decay_is_for_matrices_alone(base: str, tmp_path: Path) -> None:
    """Without a gradient AdamW changes what decays, and nothing else."""
    model = model_of(base)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def nothing(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        return model_loss(model, batch) * 0.0

    fit(model, ROWS, COLLATE, SETTINGS, tmp_path, {}, loss=nothing)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) == (weight.ndim < 2), name


def test_what_cannot_be_trained(base: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected rows to learn from"):
        fit(model_of(base), [], COLLATE, SETTINGS, tmp_path, {})
    fit(model_of(base), ROWS, COLLATE, SETTINGS, tmp_path, {"name": "first"})
    with pytest.raises(UsageError, match="got another name; try a new folder"):
        fit(model_of(base), ROWS, COLLATE, SETTINGS, tmp_path, {"name": "second"})
    other, _ = load_base(str(decoder(tmp_path / "other")))
    other.resize_token_embeddings(20)
    with pytest.raises(UsageError, match="checkpoint of this model"):
        fit(other, ROWS, COLLATE, SETTINGS, tmp_path, {"name": "first"})
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="CUDA"):
            fit(model_of(base), ROWS, COLLATE, replace(SETTINGS, device="cuda"), tmp_path / "gpu", {})


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    batch=st.integers(1, 9),
    seed=st.integers(0, 1000),
    grouped=st.booleans(),
)
def test_every_row_comes_once_an_epoch_wherever_the_training_goes_on(
    lengths: list[int], batch: int, seed: int, grouped: bool
) -> None:
    count = len(lengths)

    def order() -> BatchOrder:
        return BatchOrder(count, batch, seed, lengths if grouped else None)

    through = order()
    steps = [through.rows_of(step) for step in range(3 * through.steps_per_epoch)]
    for epoch in range(3):
        own = steps[epoch * through.steps_per_epoch : (epoch + 1) * through.steps_per_epoch]
        assert Counter(row for rows in own for row in rows) == Counter(range(count))
        assert all(len(rows) == batch for rows in own[:-1])
    middle = len(steps) // 2
    resumed = order()
    assert [resumed.rows_of(step) for step in range(middle, len(steps))] == steps[middle:]


def test_rows_of_similar_length_come_together() -> None:
    lengths = [1 + number % 40 for number in range(400)]
    spread: dict[bool, float] = {}
    for grouped in (False, True):
        order = BatchOrder(400, 8, 0, lengths if grouped else None)
        batches = [[lengths[row] for row in order.rows_of(step)] for step in range(order.steps_per_epoch)]
        spread[grouped] = sum(max(batch) - min(batch) for batch in batches) / len(batches)
    assert spread[True] < 0.2 * spread[False]


def test_the_collator_pads_on_the_right_and_masks_padding() -> None:
    batch = COLLATE([token_row([5], [6, 7]), token_row([], [5])])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [5, IGNORED, IGNORED]]


def test_padding_changes_no_loss(base: str) -> None:
    model = model_of(base).eval()
    short, long = token_row([4, 5], [6, 3]), token_row([4] * 9, [6, 3])
    with torch.no_grad():
        alone = [float(model_loss(model, COLLATE([row]))) for row in (short, long)]
        both = float(model_loss(model, COLLATE([short, long])))
    assert both == pytest.approx(sum(alone) / 2, rel=1e-4)


@pytest.mark.parametrize(("padding", "expected"), [(0, 0), (None, 3)])
def test_a_tokenizer_without_padding_pads_with_its_end(base: str, padding: int | None, expected: int) -> None:
    _, tokenizer = load_base(base)
    tokenizer.pad_token_id = padding
    assert CausalCollator.of(tokenizer).padding == expected


def test_bases_that_are_none(base: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a model folder"):
        load_base(str(tmp_path))
    model, tokenizer = load_base(base)
    tokenizer.eos_token = None
    model.save_pretrained(tmp_path / "endless")
    tokenizer.save_pretrained(tmp_path / "endless")
    assert isinstance(AutoModelForCausalLM.from_pretrained(tmp_path / "endless"), nn.Module)
    with pytest.raises(ModelError, match="can end a reply"):
        load_base(str(tmp_path / "endless"))


@pytest.mark.parametrize("rate", [0.0, -1e-4, float("nan"), float("inf"), 1.5])
@pytest.mark.parametrize(
    "recipe", [DetectorTrainingConfig("x"), DetoxifierTrainingConfig("x"), EarlyExitTrainingConfig()], ids=type
)
def test_a_learning_rate_that_cannot_be_is_refused_before_a_model_is_loaded(recipe: Any, rate: float) -> None:
    with pytest.raises(UsageError, match=r"^expected a learning rate .*, got .*; try"):
        replace(recipe, rate=rate)
