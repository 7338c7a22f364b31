"""Language models without pictures: a tiny folder of each family, and a tiny GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests.models.families.parts import HEADS, HIDDEN, LAYERS, fill, text, tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""For strings only, as the templates of most text models."""
SYSTEMLESS = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
MARKS = ["<|im_start|>", "<|im_end|>"]


def words(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """A tokenizer whose padding token is its end token, as that of SmolLM2."""
    marked_tokenizer = tokenizer(MARKS, eos="<|im_end|>", pad="<|im_end|>", prepend_bos=True)
    marked_tokenizer.chat_template = template
    return marked_tokenizer


def save(
    folder: Path, kind: type[PreTrainedModel], config: object, template: str | None = CHATML, *, seed: int = 0
) -> Path:
    """Write a model folder with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        fill(model)
    model.generation_config.eos_token_id = words().eos_token_id
    model.save_pretrained(folder)
    words(template).save_pretrained(folder)
    return folder


def llama(folder: Path, template: str | None = CHATML) -> Path:
    return save(folder, LlamaForCausalLM, LlamaConfig(**text(words())), template)


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "llama": llama,
    "qwen2": lambda folder: save(folder, Qwen2ForCausalLM, Qwen2Config(**text(words()))),
    "gemma2": lambda folder: save(
        folder, Gemma2ForCausalLM, Gemma2Config(**text(words(), head_dim=16, sliding_window=16)), SYSTEMLESS
    ),
    "gpt-neox": lambda folder: save(folder, GPTNeoXForCausalLM, GPTNeoXConfig(**text(words()))),
    "olmo2": lambda folder: save(folder, Olmo2ForCausalLM, Olmo2Config(**text(words()))),
}


def gguf(path: Path, architecture: str = "llama") -> Path:
    """A GGUF file of a tiny Llama in float32, tokenizer and template included."""
    from gguf import GGUFWriter

    vocabulary = words()
    tokens = [token for token, _ in sorted(vocabulary.get_vocab().items(), key=lambda item: item[1])]
    writer = GGUFWriter(str(path), architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(1024)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(2 * HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in (*MARKS, "<s>") else 1 for token in tokens])
    # The library wants merges; with none, every text is spelt out in bytes.
    writer.add_token_merges(["Ġ t"])
    writer.add_bos_token_id(vocabulary.bos_token_id)
    writer.add_eos_token_id(vocabulary.eos_token_id)
    writer.add_chat_template(CHATML)
    random = np.random.default_rng(0)
    square, wide = (HIDDEN, HIDDEN), (2 * HIDDEN, HIDDEN)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(tokens), HIDDEN),
        "output.weight": (len(tokens), HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    for block in range(LAYERS):
        parts = {"attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square, "ffn_gate": wide}
        parts |= {"ffn_up": wide, "ffn_down": wide[::-1], "attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,)}
        shapes |= {f"blk.{block}.{name}.weight": shape for name, shape in parts.items()}
    for name, shape in shapes.items():
        values = np.ones(shape) if len(shape) == 1 else random.normal(0, shape[-1] ** -0.5, shape)
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
