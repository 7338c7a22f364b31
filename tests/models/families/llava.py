"""The LLaVA line: one projector between a CLIP or SigLIP tower and a language model."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    MistralConfig,
    Qwen2Config,
    SiglipVisionConfig,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)

from tests.models.families import templates
from tests.models.families.parts import LAYERS, PATCH, SIDE, save, text, tokenizer, vision

_PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
_CROP = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}


def llava(folder: Path) -> None:
    """LLaVA-1.5: CLIP without its class token, Llama, `USER: ... ASSISTANT:`."""
    words = tokenizer(["<image>"], prepend_bos=True)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision()),
        text_config=LlamaConfig(**text(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(**_CROP),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=templates.vicuna(),
    )
    save(folder, LlavaForConditionalGeneration, config, processor)


def vipllava(folder: Path) -> None:
    """VipLLaVA: as LLaVA-1.5, with the features of several layers of the tower side by side."""
    words = tokenizer(["<image>"], prepend_bos=True)
    config = VipLlavaConfig(
        vision_config=CLIPVisionConfig(**vision()),
        text_config=LlamaConfig(**text(words)),
        vision_feature_layers=[-2, -1],
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(**_CROP),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=templates.vicuna(),
    )
    save(folder, VipLlavaForConditionalGeneration, config, processor)


def llava_next(folder: Path) -> None:
    """LLaVA-NeXT: tiles by aspect ratio; a Mistral template that raises for a system role."""
    words = tokenizer(["<image>", "[INST]", "[/INST]"], prepend_bos=True)
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**vision()),
        text_config=MistralConfig(**text(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=_PINPOINTS,
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    processor = LlavaNextProcessor(
        LlavaNextImageProcessor(image_grid_pinpoints=_PINPOINTS, **_CROP),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=templates.instruct("<image>\n"),
    )
    save(folder, LlavaNextForConditionalGeneration, config, processor)


def llava_onevision(folder: Path) -> None:
    """LLaVA-OneVision: SigLIP tiles for one picture, one tile each for several; Qwen2."""
    words = tokenizer(["<image>", "<video>", "<|im_start|>", "<|im_end|>"], bos="<|endoftext|>", eos="<|im_end|>")
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**vision(vision_use_head=False)),
        text_config=Qwen2Config(**text(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=_PINPOINTS,
        vision_feature_layer=-(LAYERS - 1),
    )
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=_PINPOINTS),
        words,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=templates.chatml("<image>\n"),
    )
    save(folder, LlavaOnevisionForConditionalGeneration, config, processor)


def llava_next_video(folder: Path) -> None:
    """LLaVA-NeXT-Video, asked about still pictures: the tiles of LLaVA-NeXT."""
    words = tokenizer(["<image>", "<video>"], prepend_bos=True)
    config = LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(**vision()),
        text_config=LlamaConfig(**text(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=_PINPOINTS,
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    processor = LlavaNextVideoProcessor(
        LlavaNextVideoVideoProcessor(size={"shortest_edge": SIDE}),
        LlavaNextImageProcessor(image_grid_pinpoints=_PINPOINTS, **_CROP),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=templates.vicuna(),
    )
    save(folder, LlavaNextVideoForConditionalGeneration, config, processor)
