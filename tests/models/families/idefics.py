"""The Idefics line: a picture is cut into tiles, each between marks that name its row and column."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessor,
    Idefics2Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from tests.models.families import templates
from tests.models.families.parts import HEADS, HIDDEN, PATCH, SIDE, save, text, tokenizer, vision

_SCALE = 2
_TOKENS = (SIDE // PATCH // _SCALE) ** 2
_SIZES = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
_END = "<end_of_utterance>"


def _words() -> PreTrainedTokenizerFast:
    cells = [f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)]
    marks = ["<fake_token_around_image>", "<image>", _END, "<global-img>", "<|im_start|>", "<video>"]
    return tokenizer([*marks, *cells], eos=_END)


def idefics2(folder: Path) -> None:
    """Idefics2: pictures at their own aspect ratio, read by a few learned queries."""
    words = _words()
    perceiver = {
        "hidden_size": HIDDEN,
        "resampler_n_latents": _TOKENS,
        "resampler_depth": 1,
        "resampler_n_heads": HEADS,
        "resampler_head_dim": HIDDEN // HEADS,
        "num_key_value_heads": HEADS // 2,
    }
    config = Idefics2Config(
        vision_config=vision(image_size=2 * SIDE),
        perceiver_config=perceiver,
        text_config=MistralConfig(**text(words)),
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    processor = Idefics2Processor(
        Idefics2ImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE}, do_image_splitting=False),
        words,
        image_seq_len=_TOKENS,
        chat_template=templates.named("<image>", _END),
    )
    save(folder, Idefics2ForConditionalGeneration, config, processor)


def idefics3(folder: Path) -> None:
    """Idefics3."""
    words = _words()
    config = Idefics3Config(
        vision_config=vision(),
        text_config=LlamaConfig(**text(words)),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=_SCALE,
        pad_token_id=words.pad_token_id,
    )
    template = templates.named("<image>", _END)
    processor = Idefics3Processor(
        Idefics3ImageProcessor(**_SIZES), words, image_seq_len=_TOKENS, chat_template=template
    )
    save(folder, Idefics3ForConditionalGeneration, config, processor)


def smolvlm(folder: Path) -> None:
    """SmolVLM; its processor needs the package num2words, for video prompts."""
    words = _words()
    config = SmolVLMConfig(
        vision_config=vision(),
        text_config=LlamaConfig(**text(words)),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=_SCALE,
        pad_token_id=words.pad_token_id,
    )
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**_SIZES),
        words,
        SmolVLMVideoProcessor(**_SIZES),
        image_seq_len=_TOKENS,
        chat_template=templates.named("<image>", _END),
    )
    save(folder, SmolVLMForConditionalGeneration, config, processor)
