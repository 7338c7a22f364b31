"""The architecture of `reference/mllm`: LLaVA's class and processor around the reference base.

A SigLIP tower of our own size (it has no class token), LLaVA's two-layer projector, the base as language model. The
picture's placeholder is a special token that the base's tokenizer has and no chat uses, so that neither the vocabulary
nor the base's embeddings change and the base can be shared with the text models.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from equipoise.models.parts_over_base import around_base

SIDE: Final = 160
"""Pixels; the processor makes every picture a square of this side."""
PATCH: Final = 16
"""Side of a patch in pixels: 100 patches, and as many image tokens."""
GRID: Final = SIDE // PATCH
IMAGE_TOKEN: Final = "<file_sep>"
"""Placeholder of a picture; one token of the base's tokenizer, from its training on source code."""
RANK: Final = 16
"""Of the adapter."""
TEMPLATE: Final = Path(__file__).with_name("chat_template.jinja")


@dataclass(frozen=True)
class TowerSize:
    """Size of the picture tower."""

    width: int = 192
    """Of the hidden states."""
    layers: int = 6
    """Transformer layers."""
    heads: int = 6
    """Attention heads."""


def tower_config(size: TowerSize = TowerSize()) -> Any:
    """The configuration of the tower."""
    from transformers import SiglipVisionConfig

    return SiglipVisionConfig(
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        image_size=SIDE,
        patch_size=PATCH,
        vision_use_head=False,
    )


def build_tower(size: TowerSize = TowerSize()) -> Any:
    """A freshly initialised tower: `B x 3 x 160 x 160` pixels in [-1, 1] to 100 hidden states."""
    from transformers import SiglipVisionModel

    # Without the fused attention: its backward pass on CPUs is twice as slow in bfloat16.
    return SiglipVisionModel._from_config(tower_config(size), attn_implementation="eager")


def build_processor(base: Path) -> Any:
    """The processor: pictures to 160 x 160 pixels, text by the base's tokenizer and chat template.

    Args:
        base: folder of the base model.
    """
    from transformers import AutoTokenizer, LlavaProcessor, SiglipImageProcessor

    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    # Batches for generation are padded on the left; the base's end token is also its padding.
    tokenizer.padding_side = "left"
    size = {"height": SIDE, "width": SIDE}
    return LlavaProcessor(
        image_processor=SiglipImageProcessor(size=size),
        tokenizer=tokenizer,
        patch_size=PATCH,
        # SigLIP has no class token: nothing is added to the patches and nothing is cut.
        num_additional_image_tokens=0,
        vision_feature_select_strategy="full",
        image_token=IMAGE_TOKEN,
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
    )


def build_model(base: Path, size: TowerSize = TowerSize(), *, attention: str = "sdpa") -> Any:
    """A LLaVA with a fresh tower and projector around the base, in eval mode.

    Args:
        base: folder of the base model.
        size: of the tower.
        attention: implementation of the language model's attention.

    Returns:
        The model; tower and projector are float32, the language model is as it is stored.
    """
    from transformers import AutoConfig, AutoTokenizer, LlavaConfig

    tokenizer: Any = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    text: Any = AutoConfig.from_pretrained(base, trust_remote_code=False)
    # The folder of this machine's base is of no use to anybody else.
    text._name_or_path = ""
    config = LlavaConfig(
        vision_config=tower_config(size),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=GRID * GRID,
        tie_word_embeddings=True,
    )
    config._attn_implementation = attention
    model = around_base(config, base)
    model.model.vision_tower = build_tower(size)
    _initialise_projector(model)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model.eval()


def _initialise_projector(model: Any) -> None:
    """Random weights whose output has the spread of the base's embeddings for features of unit spread."""
    projector = model.model.multi_modal_projector
    spread = model.get_input_embeddings().weight.float().std().item()
    with torch.no_grad():
        for layer in (projector.linear_1, projector.linear_2):
            # A sum of n terms of variance 1 / n: inputs of unit spread give outputs of unit spread.
            torch.nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            layer.bias.zero_()
        # GELU makes unit spread about 0.6.
        projector.linear_2.weight.mul_(spread / 0.6)
