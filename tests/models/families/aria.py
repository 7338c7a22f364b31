"""Aria: a resampler in front of a language model with experts."""

from __future__ import annotations

from pathlib import Path

from transformers import AriaConfig, AriaForConditionalGeneration, AriaImageProcessor, AriaProcessor

from tests.models.families import templates
from tests.models.families.parts import HIDDEN, save, text, tokenizer, vision

_SIDE, _PATCH, _QUERIES = 980, 245, 4
"""The processor enlarges every picture to 980 pixels, so that the patches are large."""


def aria(folder: Path) -> None:
    """Aria: one crop of 980 pixels, read by four queries."""
    words = tokenizer(["<|im_start|>", "<|im_end|>"], {"image_token": "<|img|>"}, eos="<|im_end|>")
    experts = {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1}
    config = AriaConfig(
        vision_config=vision(model_type="idefics3_vision", image_size=_SIDE, patch_size=_PATCH),
        text_config=text(words, **experts, intermediate_size=HIDDEN),
        projector_patch_to_query_dict={(_SIDE // _PATCH) ** 2: _QUERIES},
        image_token_index=words.convert_tokens_to_ids("<|img|>"),
    )
    processor = AriaProcessor(
        AriaImageProcessor(max_image_size=_SIDE, min_image_size=_PATCH),
        words,
        size_conversion={_SIDE: _QUERIES},
        chat_template=templates.chatml("<|img|>"),
    )
    save(folder, AriaForConditionalGeneration, config, processor)
