"""LFM2-VL: a language model that mixes attention with short convolutions, which keep another state."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    Lfm2Config,
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    Lfm2VlImageProcessor,
    Lfm2VlProcessor,
    Siglip2VisionConfig,
)

from tests.models.families import templates
from tests.models.families.parts import HIDDEN, PATCH, SIDE, save, text, tokenizer, vision


def lfm2_vl(folder: Path) -> None:
    """LFM2-VL: one layer of convolution, one of attention."""
    cells = [f"<|img_row_{row}_col_{col}|>" for row in range(1, 3) for col in range(1, 5)]
    marks = ["<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", "<|im_start|>", "<|im_end|>"]
    words = tokenizer([*marks, *cells], bos="<|startoftext|>", eos="<|im_end|>", prepend_bos=True)
    tower = vision(num_patches=(SIDE // PATCH) ** 2, vision_use_head=False)
    del tower["image_size"]
    language = text(words, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False)
    config = Lfm2VlConfig(
        vision_config=Siglip2VisionConfig(**tower),
        text_config=Lfm2Config(**language),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        projector_hidden_size=2 * HIDDEN,
    )
    images = Lfm2VlImageProcessor(
        encoder_patch_size=PATCH,
        tile_size=SIDE,
        size={"height": SIDE, "width": SIDE},
        min_image_tokens=1,
        max_image_tokens=4,
        max_tiles=4,
    )
    processor = Lfm2VlProcessor(images, words, chat_template=templates.chatml("<image>", bos=True))
    save(folder, Lfm2VlForConditionalGeneration, config, processor)
