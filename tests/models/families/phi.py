"""Phi-4-multimodal: pictures and sound; transformers files it under multimodal, not image-text models."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    Phi4MultimodalConfig,
    Phi4MultimodalFeatureExtractor,
    Phi4MultimodalForCausalLM,
    Phi4MultimodalImageProcessor,
    Phi4MultimodalProcessor,
)

from tests.models.families import templates
from tests.models.families.parts import HEADS, HIDDEN, save, text, tokenizer, vision

# The image processor counts 256 tokens a tile whatever its size, so a tile must be 32 x 32 patches.
_SIDE, _PATCH = 128, 4


def phi4_multimodal(folder: Path) -> None:
    """Phi-4-multimodal with a tower that it never uses for sound."""
    named = {"image_token": "<|endoftext10|>", "audio_token": "<|endoftext11|>"}
    words = tokenizer(["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"], named, eos="<|end|>")
    audio = {
        "hidden_size": HIDDEN,
        "intermediate_size": HIDDEN,
        "num_blocks": 2,
        "num_attention_heads": HEADS,
        "ext_pw_out_channel": HIDDEN,
        "depthwise_separable_out_channel": HIDDEN,
        "nemo_conv_channels": HIDDEN,
        "audio_token_id": words.convert_tokens_to_ids("<|endoftext11|>"),
    }
    config = Phi4MultimodalConfig(
        vision_config=vision(
            image_size=_SIDE,
            patch_size=_PATCH,
            crop_size=_SIDE,
            image_token_id=words.convert_tokens_to_ids("<|endoftext10|>"),
        ),
        audio_config=audio,
        original_max_position_embeddings=4096,
        sliding_window=None,
        **text(words, head_dim=HIDDEN // HEADS, max_position_embeddings=4096),
    )
    processor = Phi4MultimodalProcessor(
        Phi4MultimodalImageProcessor(size={"height": _SIDE, "width": _SIDE}, patch_size=_PATCH, dynamic_hd=4),
        Phi4MultimodalFeatureExtractor(),
        words,
        chat_template=templates.phi("<|endoftext10|>"),
    )
    save(folder, Phi4MultimodalForCausalLM, config, processor)
