"""Ovis2: each patch becomes a mixture of visual words, and marks say how the tiles lie."""

from __future__ import annotations

from pathlib import Path

from transformers import Ovis2Config, Ovis2ForConditionalGeneration, Ovis2ImageProcessor, Ovis2Processor

from tests.models.families import templates
from tests.models.families.parts import HIDDEN, PATCH, SIDE, save, text, tokenizer, vision

_INDICATORS = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
_VISUAL_WORDS = 64


def ovis2(folder: Path) -> None:
    """Ovis2 over Qwen2."""
    turns = ["<|im_start|>", "<|im_end|>"]
    words = tokenizer([*turns, "<image>", "<IMG_ATOM>", *_INDICATORS], eos="<|im_end|>")
    tower = vision(vocab_size=_VISUAL_WORDS, num_visual_indicator_tokens=len(_INDICATORS))
    config = Ovis2Config(
        vision_config=tower,
        text_config=text(words, model_type="qwen2"),
        image_token_id=words.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=words.convert_tokens_to_ids(_INDICATORS),
        vocab_size=len(words),
        hidden_size=HIDDEN,
        tie_word_embeddings=False,
    )
    processor = Ovis2Processor(
        Ovis2ImageProcessor(size={"height": SIDE, "width": SIDE}, max_patches=4),
        words,
        image_seq_length=(SIDE // PATCH) ** 2,
        chat_template=templates.chatml("<image>"),
    )
    save(folder, Ovis2ForConditionalGeneration, config, processor)
