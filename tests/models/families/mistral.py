"""Mistral's: the Pixtral tower takes pictures at their own size, a mark ends every row of patches."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralImageProcessor,
    PixtralProcessor,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
)

from tests.models.families import templates
from tests.models.families.parts import HEADS, HIDDEN, PATCH, SIDE, save, text, tokenizer, vision

_SPECIALS = ["[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]"]


def _processor(words: PreTrainedTokenizerFast, merge: int, *, closed: bool) -> PixtralProcessor:
    images = PixtralImageProcessor(
        size={"longest_edge": 2 * SIDE}, patch_size={"height": PATCH * merge, "width": PATCH * merge}
    )
    return PixtralProcessor(
        images,
        words,
        patch_size=PATCH,
        spatial_merge_size=merge,
        chat_template=templates.instruct("[IMG]", closed=closed),
    )


def _language(words: PreTrainedTokenizerFast) -> MistralConfig:
    return MistralConfig(**text(words, head_dim=HIDDEN // HEADS, sliding_window=None))


def pixtral(folder: Path) -> None:
    """Pixtral: the LLaVA model class around the Pixtral tower; its template raises for a system role."""
    words = tokenizer(_SPECIALS)
    config = LlavaConfig(
        vision_config=PixtralVisionConfig(**vision(image_size=4 * SIDE, head_dim=HIDDEN // HEADS)),
        text_config=_language(words),
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    save(folder, LlavaForConditionalGeneration, config, _processor(words, 1, closed=True))


def mistral3(folder: Path) -> None:
    """Mistral 3: patches merged two by two; this template drops a system turn without a word."""
    words = tokenizer(_SPECIALS)
    config = Mistral3Config(
        vision_config=PixtralVisionConfig(**vision(image_size=4 * SIDE, head_dim=HIDDEN // HEADS)),
        text_config=_language(words),
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    save(folder, Mistral3ForConditionalGeneration, config, _processor(words, 2, closed=False))
