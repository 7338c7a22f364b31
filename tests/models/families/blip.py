"""InstructBLIP: a query transformer reads the picture *and the question*; the prompt has no picture mark."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    BlipImageProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    OPTConfig,
)

from models.families.parts import HEADS, HIDDEN, LAYERS, SIDE, save, text, tokenizer, vision

_QUERIES = 4


def instructblip(folder: Path) -> None:
    """InstructBLIP over OPT; like its hub models it brings no chat template."""
    words = tokenizer(["<image>"], prepend_bos=True)
    qformer_words = tokenizer(["[SEP]"], bos="[CLS]", eos="[DEC]", prepend_bos=True)
    qformer = {
        "vocab_size": len(qformer_words),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "encoder_hidden_size": HIDDEN,
        "cross_attention_frequency": 1,
        "pad_token_id": qformer_words.pad_token_id,
    }
    language = text(words, ffn_dim=2 * HIDDEN, word_embed_proj_dim=HIDDEN)
    config = InstructBlipConfig(
        vision_config=vision(initializer_range=0.02),
        qformer_config=qformer,
        text_config=OPTConfig(**language),
        num_query_tokens=_QUERIES,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    processor = InstructBlipProcessor(
        BlipImageProcessor(size={"height": SIDE, "width": SIDE}),
        words,
        qformer_words,
        num_query_tokens=_QUERIES,
    )
    save(folder, InstructBlipForConditionalGeneration, config, processor)
