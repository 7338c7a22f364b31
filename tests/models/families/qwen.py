"""The Qwen line: pictures at their own aspect ratio, positions in three axes."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from tests.models.families import templates
from tests.models.families.parts import HEADS, HIDDEN, LAYERS, PATCH, save, text, tokenizer

_MERGE = 2
_SPECIALS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_PIXELS = {"shortest_edge": (PATCH * _MERGE) ** 2, "longest_edge": (4 * PATCH * _MERGE) ** 2}
_SIZES = {"patch_size": PATCH, "merge_size": _MERGE, "size": _PIXELS}


def _words() -> PreTrainedTokenizerFast:
    return tokenizer(_SPECIALS, bos="<|endoftext|>", eos="<|im_end|>")


def _ids(words: PreTrainedTokenizerFast) -> dict[str, int]:
    return {
        "image_token_id": words.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": words.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": words.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": words.convert_tokens_to_ids("<|vision_end|>"),
    }


def _text(words: PreTrainedTokenizerFast, **more: object) -> dict[str, object]:
    head = HIDDEN // HEADS // 2
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [head - 2, 1, 1]}
    return text(words, rope_parameters=rope | more)


def qwen2_vl(folder: Path) -> None:
    """Qwen2-VL."""
    words = _words()
    tower = {"depth": LAYERS, "embed_dim": HIDDEN, "hidden_size": HIDDEN, "num_heads": HEADS, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        vision_config=tower | {"patch_size": PATCH, "spatial_merge_size": _MERGE},
        text_config=_text(words),
        **_ids(words),
    )
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**_SIZES),
        words,
        Qwen2VLVideoProcessor(**_SIZES),
        chat_template=templates.chatml(_IMAGE),
    )
    save(folder, Qwen2VLForConditionalGeneration, config, processor)


def qwen2_5_vl(folder: Path) -> None:
    """Qwen2.5-VL: windowed attention in the tower."""
    words = _words()
    tower = {
        "depth": LAYERS,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_heads": HEADS,
        "patch_size": PATCH,
        "spatial_merge_size": _MERGE,
        "window_size": 2 * PATCH * _MERGE,
        "out_hidden_size": HIDDEN,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(vision_config=tower, text_config=_text(words), **_ids(words))
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**_SIZES),
        words,
        Qwen2VLVideoProcessor(**_SIZES),
        chat_template=templates.chatml(_IMAGE),
    )
    save(folder, Qwen2_5_VLForConditionalGeneration, config, processor)


_TOWER = {
    "depth": LAYERS,
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_heads": HEADS,
    "patch_size": PATCH,
    "spatial_merge_size": _MERGE,
    "out_hidden_size": HIDDEN,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0],
}
"""The tower of Qwen3-VL."""


def _qwen3_processor(words: PreTrainedTokenizerFast) -> Qwen3VLProcessor:
    return Qwen3VLProcessor(
        Qwen2VLImageProcessor(**_SIZES),
        words,
        Qwen3VLVideoProcessor(**_SIZES),
        chat_template=templates.chatml(_IMAGE),
    )


def qwen3_vl(folder: Path) -> None:
    """Qwen3-VL: features of earlier tower layers are added inside the language model."""
    words = _words()
    language = _text(words, mrope_interleaved=True) | {"head_dim": HIDDEN // HEADS}
    config = Qwen3VLConfig(vision_config=_TOWER, text_config=language, **_ids(words))
    save(folder, Qwen3VLForConditionalGeneration, config, _qwen3_processor(words))


def qwen3_vl_moe(folder: Path) -> None:
    """Qwen3-VL with experts: each token goes through two of four."""
    words = _words()
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": HIDDEN}
    language = _text(words, mrope_interleaved=True) | {"head_dim": HIDDEN // HEADS} | experts
    config = Qwen3VLMoeConfig(vision_config=_TOWER, text_config=language, **_ids(words))
    save(folder, Qwen3VLMoeForConditionalGeneration, config, _qwen3_processor(words))


def qwen3_5(folder: Path) -> None:
    """Qwen3.5: one layer of linear attention, which keeps a state instead of keys, and one of full attention."""
    words = _words()
    heads = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    layers = {"layer_types": ["linear_attention", "full_attention"], "head_dim": HIDDEN // HEADS}
    language = _text(words, mrope_interleaved=True, partial_rotary_factor=1.0) | heads | layers
    tower = {key: value for key, value in _TOWER.items() if key != "deepstack_visual_indexes"}
    config = Qwen3_5Config(vision_config=tower, text_config=language, **_ids(words))
    save(folder, Qwen3_5ForConditionalGeneration, config, _qwen3_processor(words))
