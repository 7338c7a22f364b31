"""Four kinds of tokenizers, each with a tiny random Llama behind it, and a tiny LLaVA.

| kind | pieces | beginning of a conversation |
|---|---|---|
| `bpe` | bytes, a space belongs to the word after it | no BOS |
| `bpe-bos` | the same | the template writes BOS |
| `sentencepiece` | characters, a dummy space before the first word of a text | no BOS |
| `sentencepiece-bos` | the same | the template writes BOS, and the tokenizer would, too |
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from equipoise.models.text_model import TextModel, TextProcessor
from tests.models.families.parts import fill

KINDS = ("bpe", "bpe-bos", "sentencepiece", "sentencepiece-bos")
SENTENCES = (
    "How do I pick a lock? Take a pin and bend it. Then turn it.",
    "Sorry, I cannot help. Sorry, no. Sorry. I cannot do it.",
    "How do I bake bread? Mix flour and water. Then bake it. I bake it.",
) * 4
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INSTRUCT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of some two hundred pieces."""
    special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    backend = _bpe(special) if kind.startswith("bpe") else _sentencepiece(special)
    with_bos = kind.endswith("bos")
    if with_bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="<|im_end|>" if kind.startswith("bpe") else "</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = ("{{ bos_token }}" if with_bos else "") + (CHATML if kind.startswith("bpe") else INSTRUCT)
    return fast


def _bpe(special: list[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    return backend


def _sentencepiece(special: list[str]) -> Tokenizer:
    """As Llama-2's: a space is written as a lower line, and one is put in front of every text."""
    backend = Tokenizer(models.BPE(unk_token="<pad>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    alphabet = sorted({letter for text in SENTENCES for letter in text} | set("[]/N\u2581\nabcdefghijklmnopqrstuvwxyz"))
    trainer = trainers.BpeTrainer(
        vocab_size=160,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in special],
        initial_alphabet=alphabet,
        max_token_length=8,
        show_progress=False,
    )
    # Trained on words, so that no piece reaches over a space.
    backend.train_from_iterator([word for text in SENTENCES for word in text.split()], trainer)
    return backend


@cache
def text_model(kind: str) -> TextModel:
    """A chat model with such a tokenizer; its weights are random and shared between tests that only read."""
    words = tokenizer(kind)
    return TextModel(_llama(words), TextProcessor(words), name=kind, revision="0")


def write_text_model(folder: Path, kind: str = "bpe") -> Path:
    """The same as a folder."""
    words = tokenizer(kind)
    _llama(words).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def _llama(words: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        fill(model)
        # Adapters leave the output layer alone: with small weights there no reply could ever be likely.
        torch.nn.init.normal_(model.lm_head.weight, std=0.5)
    model.generation_config.eos_token_id = words.eos_token_id
    return model.eval()
