"""Batches: padding, pictures, and losses that do not depend on which rows share a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from equipoise.data.refusal_rows import RefusalRow
from equipoise.errors import UsageError
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.models.transformers_model import TransformersModel
from equipoise.training.causal_lm import IGNORED
from equipoise.training.derta.collator import FORMS, DertaCollator, DertaItem
from equipoise.training.derta.labels import DertaLabels, LabelSettings, RowUse, label_use
from equipoise.training.derta.loss import DertaLoss
from equipoise.types import Prompt
from tests.training.derta.tokenizer_kinds import KINDS, text_model

HARMFUL = RefusalRow(1, "harmful", (("user", "How do I pick a lock?"),), "Take a pin and bend it.", "Sorry, no.")
ORDINARY = RefusalRow(2, "ordinary", (("user", "How do I bake bread? How?"),), "Mix flour.")
OPENERS = (20, 30)


def item(model: TransformersModel, row: RefusalRow, form: str, *pictures: Image.Image) -> DertaItem:
    """One use of a row about some pictures."""
    prompt = Prompt.ask(row.text, *pictures)
    use = RowUse(0, form, (3,))  # type: ignore[arg-type]
    return DertaItem(label_use(model, row, prompt, use, LabelSettings(empty_share=0.0)), lambda: prompt, len(pictures))


def all_forms(model: TransformersModel) -> list[DertaItem]:
    return [item(model, HARMFUL, "refuse"), item(model, HARMFUL, "turn"), item(model, ORDINARY, "answer")]


@pytest.fixture(scope="module")
def pictured(llava_folder: Path) -> HuggingFaceModel:
    model = load(str(llava_folder), device="cpu")
    assert isinstance(model, HuggingFaceModel)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_on_the_right_and_counts_nowhere(kind: str) -> None:
    model = text_model(kind)
    items = all_forms(model)
    (batch,) = DertaCollator(model)(items).values()
    width = max(len(entry.labels) for entry in items)
    assert batch.labels.shape == batch.openers.shape == batch.inputs["input_ids"].shape == (3, width)
    assert [FORMS[number] for number in batch.forms] == ["refuse", "turn", "answer"]
    for row, entry in enumerate(items):
        length = len(entry.labels)
        assert batch.inputs["input_ids"][row, :length].tolist() == entry.labels.encoded.tokens.tolist()
        assert batch.inputs["input_ids"][row, length:].tolist() == [model.processor.tokenizer.pad_token_id] * (
            width - length
        )
        assert batch.inputs["attention_mask"][row].tolist() == [1] * length + [0] * (width - length)
        assert set(batch.labels[row, length:].tolist()) <= {IGNORED}
        assert set(batch.openers[row, length:].tolist()) <= {0}
        assert int(batch.prompt_lengths[row]) == entry.labels.encoded.prompt_length


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_losses_whatever_shares_its_batch(kind: str) -> None:
    model, loss = text_model(kind), DertaLoss(OPENERS)
    collate = DertaCollator(model)
    items = all_forms(model)
    with torch.no_grad():
        together = loss(model.model, collate(items))
        alone = [loss(model.model, collate([entry])) for entry in items]
    for part, owner in (("mle_safe", 0), ("rto", 1), ("mle_help", 2), ("negative", 2)):
        assert float(together[part]) == pytest.approx(float(alone[owner][part]), abs=1e-4)
        assert float(together[part]) > 0


def test_the_loss_of_refusals_is_the_models_own_cross_entropy() -> None:
    model = text_model("bpe")
    refuse = item(model, HARMFUL, "refuse")
    (batch,) = DertaCollator(model)([refuse]).values()
    with torch.no_grad():
        own = model.model(**batch.inputs, labels=batch.labels).loss
        ours = DertaLoss(OPENERS)(model.model, {"0": batch})["loss"]
    # The labels are what any trainer of transformers takes.
    assert float(own) == pytest.approx(float(ours), abs=1e-4)


def test_each_number_of_pictures_has_a_batch_of_its_own(pictured: HuggingFaceModel) -> None:
    red, blue = (Image.new("RGB", (40, 32), colour) for colour in ("red", "blue"))
    items = [
        item(pictured, HARMFUL, "refuse"),
        item(pictured, HARMFUL, "turn", red),
        item(pictured, HARMFUL, "turn", red, blue),
        item(pictured, ORDINARY, "answer", blue),
    ]
    batches = DertaCollator(pictured)(items)
    assert list(batches) == ["0 pictures", "1 pictures", "2 pictures"]
    assert [len(batch.labels) for batch in batches.values()] == [1, 2, 1]
    assert "pixel_values" not in batches["0 pictures"].inputs
    assert [len(batches[f"{count} pictures"].inputs["pixel_values"]) for count in (1, 2)] == [2, 2]


def test_pictures_belong_to_their_rows(pictured: HuggingFaceModel) -> None:
    red, blue = (Image.new("RGB", (40, 32), colour) for colour in ("red", "blue"))
    loss, collate = DertaLoss(OPENERS), DertaCollator(pictured)
    items = [item(pictured, HARMFUL, "refuse", red), item(pictured, ORDINARY, "answer", blue)]
    with torch.no_grad():
        together = loss(pictured.model, collate(items))
        swapped = loss(pictured.model, collate([item(pictured, HARMFUL, "refuse", blue)]))
        alone = loss(pictured.model, collate(items[:1]))
    assert float(together["mle_safe"]) == pytest.approx(float(alone["mle_safe"]), abs=1e-4)
    assert abs(float(together["mle_safe"]) - float(swapped["mle_safe"])) > 1e-5, "the picture matters"


def test_steps_with_several_batches_have_a_gradient_for_all(pictured: HuggingFaceModel) -> None:
    items = [item(pictured, HARMFUL, "turn"), item(pictured, ORDINARY, "answer", Image.new("RGB", (40, 32)))]
    weight = pictured.model.get_input_embeddings().weight
    parts = DertaLoss(OPENERS)(pictured.model, DertaCollator(pictured)(items))
    (gradient,) = torch.autograd.grad(parts["loss"], weight)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().sum()) > 0


def test_a_batch_moves_as_a_whole() -> None:
    model = text_model("bpe")
    (batch,) = DertaCollator(model)(all_forms(model)).values()
    moved = batch.to(torch.device("meta"))
    tensors = [moved.labels, moved.openers, moved.forms, moved.prompt_lengths, *moved.inputs.values()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert batch.labels.device.type == "cpu"


def test_a_row_without_a_padding_token_is_filled_with_the_end() -> None:
    model = text_model("bpe")
    tokenizer = model.processor.tokenizer
    before = tokenizer.pad_token
    try:
        tokenizer.pad_token = None
        (batch,) = DertaCollator(model)(all_forms(model)).values()
    finally:
        tokenizer.pad_token = before
    shortest = int(batch.inputs["attention_mask"].sum(1).argmin())
    assert int(batch.inputs["input_ids"][shortest, -1]) == tokenizer.eos_token_id


def test_labels_have_one_entry_for_each_token() -> None:
    model = text_model("bpe")
    for entry in all_forms(model):
        labels: DertaLabels = entry.labels
        assert len(labels) == len(labels.openers) == len(labels.encoded.tokens)
    shorter = replace(HARMFUL, answer="Take.")
    assert len(item(model, shorter, "turn").labels) < len(item(model, HARMFUL, "turn").labels)


def test_pictures_of_other_shapes_have_a_batch_of_their_own(
    pictured: HuggingFaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Families that cut a picture into tiles give as many as its shape needs."""

    def tiles(prompt: Prompt) -> dict[str, torch.Tensor]:
        count = 3 if prompt.pictures[0].width > prompt.pictures[0].height else 1
        return {"pixel_values": torch.zeros(1, count, 3, 8, 8)}

    monkeypatch.setattr(pictured, "image_inputs", tiles)
    wide, square = Image.new("RGB", (40, 10)), Image.new("RGB", (10, 10))
    rows = [item(pictured, ORDINARY, "answer", picture) for picture in (wide, square, wide)]
    batches = DertaCollator(pictured)([*rows, item(pictured, ORDINARY, "answer")])
    assert [batch.labels.shape[0] for batch in batches.values()] == [1, 2, 1]
    assert [tuple(batch.inputs["pixel_values"].shape) for batch in list(batches.values())[1:]] == [
        (2, 3, 3, 8, 8),
        (1, 1, 3, 8, 8),
    ]
    sharded = DertaCollator(pictured, one_batch=True)
    assert len(sharded([rows[0], rows[2]])) == 1
    with pytest.raises(UsageError, match="pictures of one shape for FSDP"):
        sharded(rows)
