"""GLM-4V: pictures at their own aspect ratio as in Qwen2-VL, learned and resized positions in the tower."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
)

from tests.models.families import templates
from tests.models.families.parts import HEADS, HIDDEN, LAYERS, PATCH, SIDE, save, text, tokenizer

_MERGE = 2
_PIXELS = {"shortest_edge": (PATCH * _MERGE) ** 2 * 2, "longest_edge": (4 * PATCH * _MERGE) ** 2 * 2}
_SIZES = {"patch_size": PATCH, "merge_size": _MERGE, "size": _PIXELS}
_MARKS = {
    "image_token_id": "<|image|>",
    "video_token_id": "<|video|>",
    "image_start_token_id": "<|begin_of_image|>",
    "image_end_token_id": "<|end_of_image|>",
    "video_start_token_id": "<|begin_of_video|>",
    "video_end_token_id": "<|end_of_video|>",
}


def glm4v(folder: Path) -> None:
    """GLM-4V."""
    turns = ["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"]
    words = tokenizer([*turns, *_MARKS.values()], bos="<|endoftext|>", eos="<|user|>")
    head = HIDDEN // HEADS // 2
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [head - 2, 1, 1]}
    tower = {
        "depth": LAYERS,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_heads": HEADS,
        "image_size": SIDE,
        "patch_size": PATCH,
        "spatial_merge_size": _MERGE,
        "out_hidden_size": HIDDEN,
    }
    config = Glm4vConfig(
        vision_config=tower,
        text_config=text(words, rope_parameters=rope),
        **{name: words.convert_tokens_to_ids(mark) for name, mark in _MARKS.items()},
    )
    processor = Glm4vProcessor(
        Glm4vImageProcessor(**_SIZES),
        words,
        Glm4vVideoProcessor(**_SIZES),
        chat_template=templates.glm("<|begin_of_image|><|image|><|end_of_image|>"),
    )
    save(folder, Glm4vForConditionalGeneration, config, processor)
