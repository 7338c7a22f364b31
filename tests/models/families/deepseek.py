"""DeepSeek-VL: SigLIP over a picture that is padded to a square, and Llama."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    DeepseekVLConfig,
    DeepseekVLForConditionalGeneration,
    DeepseekVLImageProcessor,
    DeepseekVLProcessor,
    LlamaConfig,
    SiglipVisionConfig,
)

from tests.models.families import templates
from tests.models.families.parts import PATCH, SIDE, save, text, tokenizer, vision


def deepseek_vl(folder: Path) -> None:
    """DeepSeek-VL, as the models of 1.3 billion parameters."""
    words = tokenizer([], {"image_token": "<image_placeholder>"}, prepend_bos=True)
    config = DeepseekVLConfig(
        vision_config=SiglipVisionConfig(**vision(vision_use_head=False)),
        text_config=LlamaConfig(**text(words)),
        image_token_id=words.convert_tokens_to_ids("<image_placeholder>"),
        tie_word_embeddings=False,
    )
    processor = DeepseekVLProcessor(
        DeepseekVLImageProcessor(size={"height": SIDE, "width": SIDE}, min_size=PATCH),
        words,
        num_image_tokens=(SIDE // PATCH) ** 2,
        chat_template=templates.vicuna("<image_placeholder>"),
    )
    save(folder, DeepseekVLForConditionalGeneration, config, processor)
