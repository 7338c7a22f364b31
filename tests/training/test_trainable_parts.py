"""Which weights belong to which part, and which of them learn."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn
from transformers import AutoModelForMultimodalLM

from equipoise.errors import UsageError
from equipoise.training.trainable_parts import PARTS, choose_learners, gradient_flags_restored, part_of
from tests.models.families import FAMILIES
from tests.training.fakes import tiny

TABLE = {
    "LLaVA-1.5": {"model.vision_tower": "vision", "model.multi_modal_projector": "projector"},
    "LLaVA-NeXT": {
        "model.vision_tower": "vision",
        "model.multi_modal_projector": "projector",
        "model.image_newline": "projector",
    },
    "Qwen2.5-VL": {"model.visual": "vision", "model.visual.merger": "projector"},
    "Qwen3-VL": {
        "model.visual": "vision",
        "model.visual.merger": "projector",
        "model.visual.deepstack_merger_list": "projector",
    },
    "GLM-4V": {"model.visual": "vision", "model.visual.merger": "projector"},
    "Idefics3": {"model.vision_model": "vision", "model.connector": "projector"},
    "InstructBLIP": {
        "vision_model": "vision",
        "qformer": "projector",
        "query_tokens": "projector",
        "language_projection": "projector",
    },
    "Gemma 3": {"model.vision_tower": "vision", "model.multi_modal_projector": "projector"},
    "InternVL": {"model.vision_tower": "vision", "model.multi_modal_projector": "projector"},
    "Mllama": {"model.vision_model": "vision", "model.multi_modal_projector": "projector"},
    "Mistral 3": {"model.vision_tower": "vision", "model.multi_modal_projector": "projector"},
    "Phi-4-multimodal": {
        "model.embed_tokens_extend.image_embed": "vision",
        "model.embed_tokens_extend.image_embed.img_projection_up": "projector",
        "model.embed_tokens_extend.image_embed.img_projection_down": "projector",
        "model.embed_tokens_extend.image_embed.global_img_feature_extensor": "projector",
        "model.embed_tokens_extend.image_embed.sub_img_feature_extensor": "projector",
    },
}
"""Tower and projector of each family by the longest beginning of a weight's name; all else is language model."""


@pytest.mark.parametrize("family", TABLE)
def test_every_weight_of_a_family_belongs_to_the_right_part(family: str, tmp_path: Path) -> None:
    FAMILIES[family](tmp_path)
    names = [name for name, _ in AutoModelForMultimodalLM.from_pretrained(tmp_path).named_parameters()]
    beginnings = sorted(TABLE[family], key=len, reverse=True)
    assert [b for b in beginnings if not any(name.startswith(b) for name in names)] == []
    for name in names:
        part = next((TABLE[family][b] for b in beginnings if f"{name}.".startswith(f"{b}.")), "language")
        assert part_of(name) == part, name


@pytest.mark.parametrize("parts", [("vision",), ("projector",), ("language",), ("vision", "projector"), PARTS])
def test_the_chosen_weights_alone_learn(llava_folder: Path, parts: tuple[str, ...]) -> None:
    model = tiny(llava_folder).model
    assert choose_learners(model, parts, None) is model
    assert {part_of(name) for name, weight in model.named_parameters() if weight.requires_grad} == set(parts)
    assert all(weight.requires_grad == (part_of(name) in parts) for name, weight in model.named_parameters())


@pytest.mark.parametrize("parts", [("vision",), ("projector",), ("language",), PARTS])
def test_adapters_stand_beside_the_linear_layers_of_the_chosen_parts(
    llava_folder: Path, parts: tuple[str, ...]
) -> None:
    model = tiny(llava_folder).model
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    adapted = choose_learners(model, parts, 2)
    wrapped = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert wrapped == {name for name in linear if part_of(name) in parts} - {"lm_head"}
    learning = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert len(learning) == 2 * len(wrapped)
    assert all("lora_" in name for name in learning)


@pytest.mark.parametrize("parts", [("tower",), ("vision", "ears"), ()])
@pytest.mark.parametrize("rank", [None, 2])
def test_unknown_parts_are_refused(parts: tuple[str, ...], rank: int | None) -> None:
    with pytest.raises(UsageError, match=r"expected parts of vision, projector, language, got .*; try"):
        choose_learners(nn.Linear(2, 2), parts, rank)


@pytest.mark.parametrize("rank", [None, 2])
def test_a_model_without_the_part_is_refused_and_left_as_it_was(rank: int | None) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="of vision in the model, got none"):
        choose_learners(model, ("vision",), rank)
    assert all(weight.requires_grad for weight in model.parameters())


def test_flags_come_back_after_an_error(llava_folder: Path) -> None:
    model = tiny(llava_folder).model
    model.lm_head.requires_grad_(False)
    before = [weight.requires_grad for weight in model.parameters()]

    def fail() -> None:
        with gradient_flags_restored(model):
            choose_learners(model, ("vision",), None)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [weight.requires_grad for weight in model.parameters()] == before
