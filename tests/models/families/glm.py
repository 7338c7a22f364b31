"""GLM-4V and GLM-4.6V: pictures at their own aspect ratio as in Qwen2-VL, learned positions that are resized."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    Glm46VConfig,
    Glm46VForConditionalGeneration,
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
    PreTrainedTokenizerFast,
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


def _settings(words: PreTrainedTokenizerFast) -> dict[str, object]:
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
    marks = {name: words.convert_tokens_to_ids(mark) for name, mark in _MARKS.items()}
    return {"vision_config": tower, "text_config": text(words, rope_parameters=rope), **marks}


def _words() -> PreTrainedTokenizerFast:
    turns = ["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"]
    return tokenizer([*turns, *_MARKS.values()], bos="<|endoftext|>", eos="<|user|>")


_TEMPLATE = templates.glm("<|begin_of_image|><|image|><|end_of_image|>")


def glm4v(folder: Path) -> None:
    """GLM-4V."""
    words = _words()
    images, videos = Glm4vImageProcessor(**_SIZES), Glm4vVideoProcessor(**_SIZES)
    processor = Glm4vProcessor(images, words, videos, chat_template=_TEMPLATE)
    save(folder, Glm4vForConditionalGeneration, Glm4vConfig(**_settings(words)), processor)


def glm46v(folder: Path) -> None:
    """GLM-4.6V: the same parts under classes of its own."""
    words = _words()
    images, videos = Glm46VImageProcessor(**_SIZES), Glm46VVideoProcessor(**_SIZES)
    processor = Glm46VProcessor(images, words, videos, chat_template=_TEMPLATE)
    save(folder, Glm46VForConditionalGeneration, Glm46VConfig(**_settings(words)), processor)
