"""Molmo 2: a small view of the whole and overlapping crops, pooled two by two by attention."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    Molmo2Config,
    Molmo2ForConditionalGeneration,
    Molmo2ImageProcessor,
    Molmo2Processor,
    Molmo2VideoProcessor,
)

from tests.models.families import templates
from tests.models.families.parts import HEADS, HIDDEN, LAYERS, PATCH, SIDE, save, text, tokenizer, vision

_MARKS = {
    "image_start_token_id": "<im_start>",
    "low_res_image_start_token_id": "<low_res_im_start>",
    "image_end_token_id": "<im_end>",
    "image_patch_id": "<im_patch>",
    "frame_start_token_id": "<frame_start>",
    "frame_end_token_id": "<frame_end>",
}
_SIZES = {"size": {"height": SIDE, "width": SIDE}, "patch_size": PATCH}


def molmo2(folder: Path) -> None:
    """Molmo 2: features of both layers of the tower."""
    named = {"image_token": "<|image|>", "video_token": "<|video|>"}
    turns = ["<|im_start|>", "<|im_end|>"]
    words = tokenizer([*turns, *_MARKS.values(), "<im_col>", "<im_low>"], named, eos="<|im_end|>")
    heads = {"num_key_value_heads": HEADS, "head_dim": HIDDEN // HEADS}
    config = Molmo2Config(
        vision_config=vision(image_size=[SIDE, SIDE], **heads),
        adapter_config={
            "vision_feature_layer": [1, 0],
            "hidden_size": HIDDEN,
            "num_attention_heads": HEADS,
            "intermediate_size": 2 * HIDDEN,
            "text_hidden_size": HIDDEN,
            **heads,
        },
        text_config=text(
            words,
            head_dim=HIDDEN // HEADS,
            num_hidden_layers=LAYERS,
            additional_vocab_size=0,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        ),
        **{name: words.convert_tokens_to_ids(mark) for name, mark in _MARKS.items()},
    )
    processor = Molmo2Processor(
        Molmo2ImageProcessor(**_SIZES, max_crops=4, overlap_margins=[1, 1]),
        Molmo2VideoProcessor(**_SIZES),
        words,
        chat_template="{{ bos_token }}" + templates.chatml("<|image|>"),
    )
    save(folder, Molmo2ForConditionalGeneration, config, processor)
