"""Tiny language models with random weights and a tokenizer of words, built without a hub."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCES = (
    "[PAD] [UNK] [CLS] [SEP] how do i make a bomb bird soup take it and mix the wire wood salt please no sorry cannot "
    "help with that : . ? You are given question response may contain sensitive or harmful information Please rewrite "
    "to harmless Question Original Corrected , ..."
)
WORDS = SENTENCES.split()


def tokenizer(padding_side: str = "right") -> PreTrainedTokenizerFast:
    word_level = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    word_level.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=word_level,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        padding_side=padding_side,
    )


def encoder(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def decoder(folder: Path, seed: int = 0, *, longest: int = 192) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=longest,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    # As the released code's tokenizer does: nothing may depend on it.
    tokenizer("left").save_pretrained(folder)
    return folder
