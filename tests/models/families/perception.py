"""PerceptionLM: a tower of the package timm over a view of the whole and tiles, and Llama."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    LlamaConfig,
    PerceptionLMConfig,
    PerceptionLMForConditionalGeneration,
    PerceptionLMImageProcessor,
    PerceptionLMProcessor,
    PerceptionLMVideoProcessor,
    TimmWrapperConfig,
)

from tests.models.families import templates
from tests.models.families.parts import HEADS, HIDDEN, LAYERS, PATCH, SIDE, save, text, tokenizer


def perception_lm(folder: Path) -> None:
    """PerceptionLM, with the tower of the small release."""
    words = tokenizer([], {"image_token": "<|image|>", "video_token": "<|video|>"}, prepend_bos=True)
    tower = TimmWrapperConfig(
        architecture="vit_pe_core_large_patch14_336",
        do_pooling=False,
        num_classes=0,
        model_args={
            "embed_dim": HIDDEN,
            "depth": LAYERS,
            "num_heads": HEADS,
            "img_size": [SIDE, SIDE],
            "patch_size": PATCH,
            "global_pool": "",
            "use_post_transformer_norm": False,
            "init_values": 0.1,
            "ref_feat_shape": [1, 1],
        },
        label_names=[],
    )
    config = PerceptionLMConfig(
        vision_config=tower,
        text_config=LlamaConfig(**text(words)),
        projector_pooling_ratio=2,
        image_token_id=words.convert_tokens_to_ids("<|image|>"),
        video_token_id=words.convert_tokens_to_ids("<|video|>"),
    )
    processor = PerceptionLMProcessor(
        PerceptionLMVideoProcessor(size={"height": SIDE, "width": SIDE}),
        PerceptionLMImageProcessor(tile_size=SIDE, max_num_tiles=4),
        words,
        patch_size=PATCH,
        pooling_ratio=2,
        chat_template=templates.vicuna("<|image|>"),
    )
    save(folder, PerceptionLMForConditionalGeneration, config, processor)
