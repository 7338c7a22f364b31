"""The reference architectures: real transformers classes with real processors, small enough for git.

`llava` is LLaVA-1.5's design (CLIP tower, two-layer projector, Llama); `internvl` is InternVL's (its own tower with
layer scale, pixel shuffle to a quarter of the tokens, Qwen2). Both see 96 x 96 pictures in patches of 12.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 96
PATCH = 12
VOCABULARY = 1024

TEMPLATES = Path(__file__).parent / "templates"
"""The chat templates, in the style of each family; a system text is supported by both."""


_PLAIN_ENGLISH = (
    "What is the main subject of this photo, and what is happening in the background of the scene?",
    "How would you describe the mood, the weather, the light and the time of day in this picture?",
    "Are there any people, animals, buildings, plants, cars or other objects visible in the foreground?",
    "Which details stand out most, what is the overall style, and what does the scene suggest or remind you of?",
    "Could you give a short summary or a title for this image, and explain what makes it interesting?",
    "Is the person in the photograph sitting, standing, walking, eating, playing or working indoors or outdoors?",
    "How does the texture, pattern, perspective, composition and contrast of this image look like to you?",
)
"""Sentences of ours for the tokenizer alone, so that ordinary questions do not fall apart into bytes."""


@dataclass(frozen=True)
class ReferenceArchitecture:
    """A model and its processor, as `save_pretrained` takes them."""

    model: Any
    """A transformers image-text-to-text model, randomly initialised."""
    processor: Any
    """Its processor, with tokenizer, image processor and chat template."""


def corpus() -> Iterator[str]:
    """Text of the world that the tokenizer is trained on; words outside it fall apart into bytes."""
    from equipoise.testbed.world.questions import CONDITIONS, REFUSALS, sample_question

    for index in range(6000):
        rng = np.random.default_rng([7, index])
        _, question = sample_question(rng, CONDITIONS[index % len(CONDITIONS)], "train", watermarks=False)
        yield f"USER: {question.text} ASSISTANT: {question.answer}"
        yield f"user\n{question.text}"
        yield f"assistant\n{question.answer}"
    for _ in range(200):
        yield from REFUSALS
        yield from _PLAIN_ENGLISH


def _tokenizer(special: dict[str, str], extra: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*special.values(), *extra],
        # All 256 bytes, so that every text has tokens, if many.
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=2048, clean_up_tokenization_spaces=False, **special
    )


def build(family: str, *, seed: int = 0) -> ReferenceArchitecture:
    """A freshly initialised reference model of a family: `llava` or `internvl`."""
    import torch

    torch.manual_seed(seed)
    if family == "llava":
        return _llava()
    if family == "internvl":
        return _internvl()
    from equipoise.errors import UsageError

    raise UsageError(f"expected a testbed family, got {family!r}; try llava or internvl")


def _llava() -> ReferenceArchitecture:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = _tokenizer(special, ["<image>"])
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    size = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessor(size=size, do_center_crop=False, crop_size=size)
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        # The tower's class token, which the strategy `default` leaves out again: 8 x 8 patches give 64 image tokens.
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=(TEMPLATES / "llava.jinja").read_text(),
    )
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=128,
    )
    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(SIDE // PATCH) ** 2,
        tie_word_embeddings=True,
    )
    return _finish(LlavaForConditionalGeneration(config), processor, tokenizer)


def _internvl() -> ReferenceArchitecture:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
        InternVLVisionConfig,
        Qwen2Config,
    )

    special = {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    tokenizer = _tokenizer(special, ["<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"])
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]}
    )
    for name, token in {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }.items():
        tokenizer.init_kwargs[name] = token
        setattr(tokenizer, name, token)
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    size = {"height": SIDE, "width": SIDE}
    images = GotOcr2ImageProcessor(size=size, crop_to_patches=False, min_patches=1, max_patches=1)
    processor = InternVLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=(SIDE // PATCH) ** 2 // 4,
        chat_template=(TEMPLATES / "internvl.jinja").read_text(),
    )
    vision = InternVLVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=[SIDE, SIDE],
        patch_size=[PATCH, PATCH],
        use_absolute_position_embeddings=True,
        norm_type="layer_norm",
        layer_scale_init_value=1.0,
    )
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=(SIDE // PATCH) ** 2 // 4,
        # The pixel shuffle halves both sides, hence the quarter of the patches above.
        downsample_ratio=0.5,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    return _finish(InternVLForConditionalGeneration(config), processor, tokenizer)


def _finish(model: Any, processor: Any, tokenizer: Any) -> ReferenceArchitecture:
    """Greedy by default, as every number here is measured; ends at the family's end token."""
    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return ReferenceArchitecture(model, processor)
