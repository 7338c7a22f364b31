"""Greedy decoding whatever a model's own generation config says, as far as that is about the way of decoding.

Settings that change scores by what stands in the text (penalties, forced and forbidden tokens) belong to the model as
it is deployed and are kept. Those that sample, search, watch the clock, or change what `generate` returns are cleared.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor

from equipoise.models.differentiable_processor import to_device

CLEARED: Final[dict[str, Any]] = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    # Sampling settings are cleared, not only unused: transformers warns of a temperature where nothing is sampled.
    **dict.fromkeys(("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")),
    # Beams, contrastive search, DoLa.
    **dict.fromkeys(("num_beam_groups", "diversity_penalty", "early_stopping", "length_penalty", "constraints")),
    **dict.fromkeys(("force_words_ids", "penalty_alpha", "dola_layers", "low_memory")),
    # Ways to guess several tokens at once, which take one prompt at a time and change no token.
    **dict.fromkeys(("prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp", "speculation_type")),
    # They need a tokenizer, or the time; the length that they count is that of the padded batch.
    **dict.fromkeys(("token_healing", "stop_strings", "max_time", "max_length", "min_length", "prefill_chunk_size")),
    # They write another text than the model would.
    **dict.fromkeys(("watermarking_config", "exponential_decay_length_penalty")),
    **dict.fromkeys(("return_dict_in_generate", "output_scores", "output_logits"), False),
    **dict.fromkeys(("output_attentions", "output_hidden_states"), False),
}
"""Settings of a generation config that greedy decoding does not follow, with the values that switch them off."""

NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "guidance_scale": (1,),
    "bad_words_ids": (),
    "suppress_tokens": ((), []),
    "begin_suppress_tokens": ((), []),
    "sequence_bias": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "stop_strings": ((), []),
}
"""Settings of a generation config that change scores before a token is chosen, or cut replies, with the values that
change nothing beside None."""
_PENALTIES: Final = ("repetition_penalty", "encoder_repetition_penalty")


def greedy_config(model: Any, stops: Sequence[int], limit: int) -> Any:
    """A generation config that decodes greedily, whatever the model's own defaults; for `decode`.

    Args:
        model: a transformers model.
        stops: tokens that end a reply.
        limit: tokens of a reply, at most.
    """
    own = model.generation_config
    config = copy.deepcopy(own)
    # A least length of prompt and reply together would count the padding of a batch. What is meant is a reply.
    least = max(getattr(own, "min_length", None) or 0, getattr(own, "min_new_tokens", None) or 0)
    config.update(**CLEARED)
    config.update(
        min_new_tokens=min(least, limit) or None,
        max_new_tokens=limit,
        eos_token_id=list(stops),
    )
    if config.pad_token_id is None or not 0 <= config.pad_token_id < model.get_input_embeddings().weight.shape[0]:
        config.pad_token_id = stops[0]
    return config


def takes_likeliest(model: Any) -> bool:
    """Whether greedy decoding of a model always takes its likeliest token, with no penalties or forced tokens."""
    config = model.generation_config
    return all(getattr(config, name, None) in (None, *values) for name, values in NEUTRAL.items())


@torch.no_grad()
def decode(model: Any, inputs: Mapping[str, Any], config: Any) -> Tensor:
    """Tokens of one row for each prompt and sequence, as the model's `generate` returns them.

    Args:
        model: a transformers model.
        inputs: of prompts that are padded on the left.
        config: a generation config, which is followed to the letter.
    """
    with _only_config(model, config):
        output: Tensor = model.generate(**to_device(dict(inputs), model.device, model.dtype), generation_config=config)
    return output


@torch.no_grad()
def decode_logits(model: Any, inputs: Mapping[str, Any], config: Any) -> Tensor:
    """The scores of the first token that `decode` would choose, before penalties.

    Args:
        model: a transformers model.
        inputs: of prompts that are padded on the left.
        config: a generation config.
    """
    config = copy.deepcopy(config)
    config.update(return_dict_in_generate=True, output_logits=True)
    with _only_config(model, config):
        output = model.generate(**to_device(dict(inputs), model.device, model.dtype), generation_config=config)
    logits: Tensor = output.logits[0]
    return logits


@contextmanager
def _only_config(model: Any, config: Any) -> Iterator[None]:
    """The config alone counts: `generate` fills what is None in it with what the model's own config says."""
    owners = [module for module in model.modules() if "generation_config" in vars(module)]
    before = [module.generation_config for module in owners]
    try:
        for module in owners:
            module.generation_config = config
        yield
    finally:
        for module, own in zip(owners, before, strict=True):
            module.generation_config = own


def without_padding(inputs: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Inputs whose padding repeats the last token of its row, where penalties count the tokens of a row.

    Attention does not see padding, but a penalty for tokens that have occurred would also fall on the padding token,
    which is the end token of many models: replies in a batch would be longer than alone.
    """
    mask = inputs.get("attention_mask")
    counts = any(getattr(config, name, None) not in (None, 1) for name in _PENALTIES)
    if not counts or mask is None or mask.shape != inputs["input_ids"].shape:
        return dict(inputs)
    tokens = inputs["input_ids"]
    return {**inputs, "input_ids": torch.where(mask.bool(), tokens, tokens[:, -1:])}


def stop_texts(model: Any) -> tuple[str, ...]:
    """Texts at which the model's own config ends a reply."""
    texts = getattr(model.generation_config, "stop_strings", None) or ()
    return (texts,) if isinstance(texts, str) else tuple(texts)


def cut_at_stop(tokenizer: Any, tokens: Tensor, texts: Sequence[str]) -> Tensor | None:
    """The tokens of a reply up to the one that completes one of the texts; None where none of them occurs.

    Args:
        tokenizer: of the model.
        tokens: of the reply.
        texts: at which a reply ends; the text itself belongs to it, as in transformers.
    """

    def holds(count: int) -> bool:
        text = tokenizer.decode(tokens[:count], skip_special_tokens=False)
        return any(stop in text for stop in texts)

    if not texts or not holds(len(tokens)):
        return None
    return tokens[: next(count for count in range(1, len(tokens) + 1) if holds(count))]
