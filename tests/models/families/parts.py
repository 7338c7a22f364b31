"""What every tiny family is made of: a tokenizer trained on a few sentences, seeded weights, one folder.

Nothing is downloaded. Sizes are chosen so that a family is built and run in a second on one core: hidden size
32, two layers, pictures of 32 pixels in patches of 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

HIDDEN, LAYERS, HEADS = 32, 2, 4
SIDE, PATCH = 32, 8

_SENTENCES = [
    "What is in the picture? A red circle is left of the blue square.",
    "How many shapes are there? There are three shapes.",
    "I'm sorry, but I can't help with that.",
    "Describe the image. You are a helpful assistant. USER: ASSISTANT: user assistant system",
]


def tokenizer(
    specials: Sequence[str],
    named: dict[str, str] | None = None,
    *,
    bos: str = "<s>",
    eos: str = "</s>",
    pad: str = "<pad>",
    prepend_bos: bool = False,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few hundred tokens, so that any text survives a round trip.

    `named` are the tokens that a processor reads as attributes (`tokenizer.image_token`); `prepend_bos` makes
    the tokenizer put `bos` in front by itself, as Llama's and Gemma's do though their templates write it too.
    """
    everything = list(dict.fromkeys([pad, bos, eos, *specials, *(named or {}).values()]))
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340 + len(everything),
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in everything],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_SENTENCES, trainer)
    if prepend_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    plain = [token for token in specials if token not in (named or {}).values()]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        additional_special_tokens=plain,
        model_specific_special_tokens=dict(named or {}),
    )


def text(words: PreTrainedTokenizerFast, **more: object) -> dict[str, object]:
    """The settings that nearly every language model's configuration knows."""
    return {
        "vocab_size": len(words),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS // 2,
        "max_position_embeddings": 1024,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    } | more


def vision(**more: object) -> dict[str, object]:
    """The settings that nearly every vision tower's configuration knows."""
    return {
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": SIDE,
        "patch_size": PATCH,
    } | more


def save(folder: Path, kind: type[PreTrainedModel], config: object, processor: ProcessorMixin) -> None:
    """Write a complete model folder: configuration, seeded weights, processor, tokenizer, template."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config)
        fill(model)
    words = processor.tokenizer
    model.generation_config.eos_token_id = words.eos_token_id
    model.generation_config.pad_token_id = words.pad_token_id
    model.generation_config.bos_token_id = words.bos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@torch.no_grad()
def fill(model: PreTrainedModel) -> None:
    """Weights large enough that every token and every pixel matters.

    The usual 0.02 leaves all logits nearly equal, where a wrong mask or a lost picture goes unnoticed.
    Gates that start at zero (Mllama's) would hide the picture altogether, so they are opened.
    """
    for name, weight in model.named_parameters():
        if weight.ndim >= 2:
            weight.normal_(0.0, (weight.numel() / weight.shape[0]) ** -0.5)
        elif "gate" in name.rsplit(".", 1)[-1]:
            weight.fill_(0.5)
