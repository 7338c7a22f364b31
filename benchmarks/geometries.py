"""Random-weight LLaVA models of three sizes, for timing: times do not depend on what weights say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from equipoise.models.hf import HuggingFaceModel

TEMPLATE = (
    "<s>{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
    "{{ '<image>\n' if part['type'] == 'image' else part['text'] }}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Geometry:
    """What decides how long a step takes."""

    side: int
    """Side of the picture as the tower takes it, in pixels."""
    patch: int
    """Side of a patch; a picture is `(side / patch) ** 2` tokens."""
    vision: tuple[int, int, int, int]
    """Width, inner width, layers and heads of the vision tower."""
    text: tuple[int, int, int, int]
    """Width, inner width, layers and heads of the language model."""
    vocabulary: int
    """Tokens it can write."""


GEOMETRIES = {
    "testbed": Geometry(96, 12, (128, 512, 4, 4), (192, 512, 4, 4), 1024),
    "llava-576": Geometry(336, 14, (128, 512, 4, 4), (256, 704, 4, 8), 1024),
    "llava-7b": Geometry(336, 14, (1024, 4096, 24, 16), (4096, 11008, 32, 32), 32064),
    "llava-7b-8": Geometry(336, 14, (1024, 4096, 24, 16), (4096, 11008, 8, 32), 32064),
}
"""`testbed` is `testbed/llava`; `llava-576` has LLaVA-1.5's pictures and small layers; `llava-7b` is LLaVA-1.5-7B, and
`llava-7b-8` the same with 8 of its 32 language layers, for machines that cannot hold it twice."""


def build(name: str, texts: Sequence[str], *, device: torch.device, dtype: torch.dtype) -> HuggingFaceModel:
    """A model of this geometry with random weights (seed 0), whose tokenizer knows the words of `texts`."""
    geometry = GEOMETRIES[name]
    tokenizer = _tokenizer(texts)
    processor = LlavaProcessor(
        CLIPImageProcessor(
            size={"shortest_edge": geometry.side}, crop_size={"height": geometry.side, "width": geometry.side}
        ),
        tokenizer,
        patch_size=geometry.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            **_layers(geometry.vision), image_size=geometry.side, patch_size=geometry.patch, projection_dim=64
        ),
        text_config=LlamaConfig(**_layers(geometry.text), vocab_size=geometry.vocabulary, max_position_embeddings=4096),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(geometry.side // geometry.patch) ** 2,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with device:
            model = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    return HuggingFaceModel(model.to(device).eval(), processor, name=name, revision="random")


def _layers(sizes: tuple[int, int, int, int]) -> dict[str, Any]:
    width, inner, layers, heads = sizes
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def _tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Up to eight letters to a token: about as many tokens as LLaMA's tokenizer makes of a question."""
    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "USER", "ASSISTANT", ":", "I", "'", ",", ".", "?"]
    # Words that differ get different tokens, so that questions share no more than they do in earnest.
    pieces = Regex(r"[A-Z]+|\w{1,8}|[^\w\s]")
    words += sorted({word for text in texts for word in re.findall(r"\w{1,8}", text)} - set(words))
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
