"""InternVL, Aya Vision and Mllama: pictures in tiles, the last read by cross-attention instead of tokens."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    AyaVisionConfig,
    AyaVisionForConditionalGeneration,
    AyaVisionProcessor,
    Cohere2Config,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    Cohere2VisionImageProcessor,
    Cohere2VisionProcessor,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessor,
    MllamaProcessor,
    Qwen2Config,
    SiglipVisionConfig,
)

from tests.models.families import templates
from tests.models.families.parts import HEADS, HIDDEN, LAYERS, PATCH, SIDE, save, text, tokenizer, vision

_SIZE = {"height": SIDE, "width": SIDE}


def internvl(folder: Path) -> None:
    """InternVL over Qwen2."""
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    words = tokenizer(["<|im_start|>", "<|im_end|>"], named, eos="<|im_end|>")
    tokens = (SIDE // PATCH // 2) ** 2
    tower = vision(image_size=[SIDE, SIDE], patch_size=[PATCH, PATCH])
    config = InternVLConfig(
        vision_config=tower,
        text_config=Qwen2Config(**text(words)),
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=tokens,
        tie_word_embeddings=False,
    )
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=_SIZE, max_patches=4),
        words,
        InternVLVideoProcessor(size=_SIZE),
        image_seq_length=tokens,
        chat_template=templates.chatml("<IMG_CONTEXT>\n"),
    )
    save(folder, InternVLForConditionalGeneration, config, processor)


def aya_vision(folder: Path) -> None:
    """Aya Vision over Cohere2: one layer with a sliding window, one without."""
    marks = ["<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>"]
    turns = ["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>"]
    words = tokenizer(
        [*marks, "TILE", "TILE_GLOBAL", *turns, "<|CHATBOT_TOKEN|>"],
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
        prepend_bos=True,
    )
    language = text(words, sliding_window=512, layer_types=["sliding_attention", "full_attention"])
    config = AyaVisionConfig(
        vision_config=SiglipVisionConfig(**vision(vision_use_head=False)),
        text_config=Cohere2Config(**language),
        downsample_factor=2,
        image_token_index=words.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    processor = AyaVisionProcessor(
        GotOcr2ImageProcessor(size=_SIZE, max_patches=4),
        words,
        patch_size=PATCH,
        img_size=SIDE,
        downsample_factor=2,
        chat_template=templates.cohere("<image>"),
    )
    save(folder, AyaVisionForConditionalGeneration, config, processor)


def cohere2_vision(folder: Path) -> None:
    """Command A Vision: SigLIP tiles over Cohere2, with a mark at the end of each tile."""
    marks = {
        "boi_token": "<|START_OF_IMG|>",
        "eoi_token": "<|END_OF_IMG|>",
        "image_token": "<|IMG_PATCH|>",
        "img_line_break_token": "<|IMG_LINE_BREAK|>",
    }
    turns = ["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>"]
    words = tokenizer(
        [*turns, "<|CHATBOT_TOKEN|>"], marks, bos="<BOS_TOKEN>", eos="<|END_OF_TURN_TOKEN|>", prepend_bos=True
    )
    language = text(words, sliding_window=512, layer_types=["sliding_attention", "full_attention"])
    config = Cohere2VisionConfig(
        vision_config=SiglipVisionConfig(**vision(vision_use_head=False)),
        text_config=Cohere2Config(**language),
        downsample_factor=2,
        image_token_id=words.convert_tokens_to_ids("<|IMG_PATCH|>"),
        alignment_intermediate_size=4 * HIDDEN,
    )
    images = Cohere2VisionImageProcessor(size=_SIZE, max_patches=4, patch_size=SIDE // PATCH // 2)
    processor = Cohere2VisionProcessor(images, words, chat_template=templates.cohere("<|IMG_PATCH|>"))
    save(folder, Cohere2VisionForConditionalGeneration, config, processor)


def mllama(folder: Path) -> None:
    """Mllama (Llama 3.2 Vision): no picture tokens, the language model sees the tiles by cross-attention."""
    turns = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"]
    # The picture token is the last of the vocabulary: the model's output layer does not know it.
    words = tokenizer([*turns], bos="<|begin_of_text|>", eos="<|eot_id|>", prepend_bos=True)
    words.add_special_tokens({"additional_special_tokens": ["<|image|>"]}, replace_extra_special_tokens=False)
    size = len(words) - 1
    tower = {
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_global_layers": 1,
        "attention_heads": HEADS,
        "vision_output_dim": 2 * HIDDEN,
        "image_size": SIDE,
        "patch_size": PATCH,
        "intermediate_layers_indices": [0],
    }
    config = MllamaConfig(
        vision_config=tower,
        text_config=text(words, vocab_size=size, num_hidden_layers=LAYERS + 1, cross_attention_layers=[1]),
        image_token_index=words.convert_tokens_to_ids("<|image|>"),
    )
    processor = MllamaProcessor(
        MllamaImageProcessor(size=_SIZE, max_image_tiles=4), words, chat_template=templates.llama("<|image|>")
    )
    save(folder, MllamaForConditionalGeneration, config, processor)
