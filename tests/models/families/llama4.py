"""Llama 4: tiles with a view of the whole, early fusion, and experts."""

from __future__ import annotations

from pathlib import Path

from transformers import Llama4Config, Llama4ForConditionalGeneration, Llama4ImageProcessor, Llama4Processor

from tests.models.families import templates
from tests.models.families.parts import HEADS, HIDDEN, LAYERS, PATCH, SIDE, save, text, tokenizer


def llama4(folder: Path) -> None:
    """Llama 4: one layer with rotary positions in chunks, one without positions."""
    marks = [
        "<|image|>",
        "<|image_start|>",
        "<|image_end|>",
        "<|patch|>",
        "<|tile_x_separator|>",
        "<|tile_y_separator|>",
    ]
    turns = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    words = tokenizer([*turns, *marks], bos="<|begin_of_text|>", eos="<|eot_id|>", prepend_bos=True)
    tower = {
        "hidden_size": HIDDEN,
        "intermediate_size": 4 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": SIDE,
        "patch_size": PATCH,
        "vision_output_dim": HIDDEN,
        "projector_input_dim": HIDDEN,
        "projector_output_dim": HIDDEN,
    }
    experts = {"num_local_experts": 4, "intermediate_size_mlp": 2 * HIDDEN, "head_dim": HIDDEN // HEADS}
    config = Llama4Config(
        vision_config=tower,
        text_config=text(words, **experts, no_rope_layers=[1, 0], attention_chunk_size=512),
        boi_token_index=words.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=words.convert_tokens_to_ids("<|image_end|>"),
        image_token_index=words.convert_tokens_to_ids("<|patch|>"),
    )
    processor = Llama4Processor(
        Llama4ImageProcessor(size={"height": SIDE, "width": SIDE}, max_patches=4),
        words,
        patch_size=PATCH,
        chat_template=templates.llama("<|image|>"),
    )
    save(folder, Llama4ForConditionalGeneration, config, processor)
