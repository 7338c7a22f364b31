"""Google's: picture tokens (and in PaliGemma the whole prompt) look at each other in both directions."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

from tests.models.families import templates
from tests.models.families.parts import HEADS, HIDDEN, PATCH, SIDE, save, text, tokenizer, vision

_SIZE = {"height": SIDE, "width": SIDE}


def gemma3(folder: Path, window: int = 512) -> None:
    """Gemma 3: one layer sees `window` tokens back, one all; the template folds the system text itself."""
    named = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    words = tokenizer(["<start_of_turn>", "<end_of_turn>"], named, bos="<bos>", eos="<end_of_turn>", prepend_bos=True)
    tokens = (SIDE // PATCH // 2) ** 2
    language = text(
        words,
        head_dim=HIDDEN // HEADS,
        query_pre_attn_scalar=HIDDEN // HEADS,
        sliding_window=window,
        layer_types=["sliding_attention", "full_attention"],
    )
    config = Gemma3Config(
        text_config=Gemma3TextConfig(**language),
        vision_config=SiglipVisionConfig(**vision(vision_use_head=False)),
        mm_tokens_per_image=tokens,
        boi_token_index=words.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=words.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=words.convert_tokens_to_ids("<image_soft_token>"),
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size=_SIZE),
        words,
        chat_template=templates.gemma("<start_of_image>"),
        image_seq_length=tokens,
    )
    save(folder, Gemma3ForConditionalGeneration, config, processor)


def paligemma(folder: Path) -> None:
    """PaliGemma: full attention over picture and question; like its hub models it brings no chat template."""
    words = tokenizer([], {"image_token": "<image>"}, bos="<bos>", eos="<eos>")
    tokens = (SIDE // PATCH) ** 2
    images = SiglipImageProcessor(size=_SIZE)
    images.image_seq_length = tokens
    processor = PaliGemmaProcessor(images, words)
    language = text(words, head_dim=HIDDEN // HEADS)
    config = PaliGemmaConfig(
        text_config=GemmaConfig(**language),
        vision_config=SiglipVisionConfig(**vision(vision_use_head=False, projection_dim=HIDDEN)),
        projection_dim=HIDDEN,
        hidden_size=HIDDEN,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    save(folder, PaliGemmaForConditionalGeneration, config, processor)
