"""The assembled architecture: placeholders, counts, padding, and text that stays the base's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer

from equipoise.reference.mllm.architecture import (
    GRID,
    IMAGE_TOKEN,
    PATCH,
    SIDE,
    TowerSize,
    build_model,
    build_processor,
)

SMALL = TowerSize(width=16, layers=1, heads=2)


def picture(width: int = 90, height: int = 60, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def prompt(processor, text: str, pictures: int = 1) -> str:
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": text}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def inputs(processor, texts: list[str], pictures: list[Image.Image]):
    return processor(text=texts, images=pictures or None, return_tensors="pt", padding=True, add_special_tokens=False)


def test_the_placeholder_is_one_token_of_the_base(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert tokenizer.encode(IMAGE_TOKEN, add_special_tokens=False) == [tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)]
    processor, model = build_processor(base), build_model(base, SMALL)
    assert processor.image_token_id == model.config.image_token_id == tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)


@pytest.mark.parametrize("size", [(40, 40), (160, 160), (333, 97)])
def test_as_many_placeholders_as_features_for_any_picture(base: Path, size: tuple[int, int]) -> None:
    processor, model = build_processor(base), build_model(base, SMALL)
    batch = inputs(processor, [prompt(processor, "What is it?")], [picture(*size)])
    placeholders = int((batch["input_ids"] == processor.image_token_id).sum())
    features = model.get_image_features(pixel_values=batch["pixel_values"], return_dict=True).pooler_output[0]
    assert placeholders == len(features) == GRID * GRID == (SIDE // PATCH) ** 2 == model.config.image_seq_length


def test_no_patch_is_cut_as_a_class_token(base: Path) -> None:
    processor, model = build_processor(base), build_model(base, SMALL)
    assert model.config.vision_feature_select_strategy == processor.vision_feature_select_strategy == "full"
    batch = inputs(processor, [prompt(processor, "What is it?")], [picture()])
    pixels = batch["pixel_values"].requires_grad_()
    features = model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output[0]
    (first,) = torch.autograd.grad(features[0].sum(), pixels)
    # The first feature is the first patch's: without positions mixed by attention it would see that patch alone.
    assert first[0, :, :PATCH, :PATCH].abs().sum() > 0


def test_two_pictures_take_twice_the_places(base: Path) -> None:
    processor = build_processor(base)
    batch = inputs(processor, [prompt(processor, "Compare.", 2)], [picture(seed=1), picture(seed=2)])
    assert int((batch["input_ids"] == processor.image_token_id).sum()) == 2 * GRID * GRID


def test_padding_on_the_left_changes_no_reply(base: Path) -> None:
    processor, model = build_processor(base), build_model(base, SMALL).float()
    texts = [prompt(processor, "Red?"), prompt(processor, "What colour is the circle, and where is it now?")]
    pictures = [picture(seed=1), picture(seed=2)]
    both = inputs(processor, texts, pictures)
    assert both["attention_mask"][0, 0] == 0
    assert both["attention_mask"][1].all()
    alone = inputs(processor, texts[:1], pictures[:1])
    with torch.no_grad():
        padded, plain = model(**both).logits[0, -1], model(**alone).logits[0, -1]
    assert torch.allclose(padded, plain, atol=1e-4)


def test_the_picture_changes_the_reply(base: Path) -> None:
    processor, model = build_processor(base), build_model(base, SMALL).float()
    text = [prompt(processor, "Red?")]
    with torch.no_grad():
        one, other = (model(**inputs(processor, text, [picture(seed=seed)])).logits[0, -1] for seed in (1, 2))
    assert not torch.allclose(one, other, atol=1e-5)


def test_text_alone_is_answered_as_by_the_base(base: Path) -> None:
    processor, model = build_processor(base), build_model(base, SMALL)
    text = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(base)
    turns = [{"role": "user", "content": "The circle?"}, {"role": "assistant", "content": "Red."}]
    turns.append({"role": "user", "content": "What colour?"})
    with torch.no_grad():
        chat = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert processor.apply_chat_template(turns, add_generation_prompt=True) == chat
        ids = tokenizer(chat, return_tensors="pt", add_special_tokens=False)
        assert torch.equal(model(**ids).logits, text(**ids).logits)


def test_the_vocabulary_is_the_bases(base: Path) -> None:
    model = build_model(base, SMALL)
    assert model.get_input_embeddings().weight.shape[0] == len(AutoTokenizer.from_pretrained(base))
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def test_the_projectors_output_has_the_spread_of_the_embeddings(base: Path) -> None:
    torch.manual_seed(0)
    model = build_model(base, SMALL)
    with torch.no_grad():
        output = model.model.multi_modal_projector(torch.randn(500, SMALL.width))
    spread = model.get_input_embeddings().weight.detach().float().std()
    assert 0.5 < float(output.std() / spread) < 2
