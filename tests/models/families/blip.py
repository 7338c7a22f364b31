"""The BLIP line: a query transformer looks at the picture; the prompt has no picture mark.

InstructBLIP's query transformer also reads the *question*. Neither brings a chat template, on the hub either.
"""

from __future__ import annotations

from pathlib import Path

from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    OPTConfig,
    PreTrainedTokenizerFast,
)

from tests.models.families.parts import HEADS, HIDDEN, LAYERS, SIDE, save, text, tokenizer, vision

_QUERIES = 4
_QFORMER = {
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "encoder_hidden_size": HIDDEN,
    "cross_attention_frequency": 1,
}


def _opt(words: PreTrainedTokenizerFast) -> OPTConfig:
    return OPTConfig(**text(words, ffn_dim=2 * HIDDEN, word_embed_proj_dim=HIDDEN))


def blip2(folder: Path) -> None:
    """BLIP-2 over OPT."""
    words = tokenizer(["<image>"], prepend_bos=True)
    config = Blip2Config(
        vision_config=vision(initializer_range=0.02),
        qformer_config=_QFORMER,
        text_config=_opt(words),
        num_query_tokens=_QUERIES,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    images = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    processor = Blip2Processor(images, words, num_query_tokens=_QUERIES)
    save(folder, Blip2ForConditionalGeneration, config, processor)


def instructblip(folder: Path) -> None:
    """InstructBLIP over OPT."""
    words = tokenizer(["<image>"], prepend_bos=True)
    qformer_words = tokenizer(["[SEP]"], bos="[CLS]", eos="[DEC]", prepend_bos=True)
    vocabulary = {"vocab_size": len(qformer_words), "pad_token_id": qformer_words.pad_token_id}
    config = InstructBlipConfig(
        vision_config=vision(initializer_range=0.02),
        qformer_config=_QFORMER | vocabulary,
        text_config=_opt(words),
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
