"""Numbers of tokens above which a model reads a text in another way, as its settings tell.

Up to the limit every token of a text sees all tokens before it, at the same angles whatever else is in the batch. Above
it some models see a window or a chunk, choose a part of the tokens, or turn to other rotary frequencies. A comparison
on short texts says nothing about these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from equipoise.models.encoded_prompt import EncodedPrompt, common_prefix

SHARED_LAYERS: Final = frozenset({"attention", "full_attention", "sliding_attention", "chunked_attention"})
"""Types of layers in which a token sees all tokens before it up to a number of them."""


def shares_prefix(model: Any, rows: Sequence[EncodedPrompt], *, shifted: bool = False) -> bool:
    """Whether rows are short enough that a shared prefix gives what a plain batch gives.

    Args:
        model: a transformers model.
        rows: the prompts with their replies.
        shifted: whether the prefix ends with the last picture, see `run_prefix`.
    """
    longest = max(len(row.tokens) for row in rows)
    if longest > (seeing_limit(model) or longest) or longest > (position_limit(model) or longest):
        return False
    index_limit = token_index_limit(model)
    if index_limit is None:
        return True
    common = common_prefix(list(rows), limit=rows[0].picture_end if shifted else None)
    return common + sum(len(row.tokens) - common for row in rows) <= index_limit


def batch_limit(model: Any) -> int | None:
    """The length of a padded batch above which its rows may get other scores than alone; None for most models."""
    limits = [limit for limit in (position_limit(model), token_index_limit(model)) if limit is not None]
    return min(limits, default=None)


def seeing_limit(model: Any) -> int | None:
    """How many tokens the shortest-sighted layer sees; None where all see everything."""
    limits = [limit for config in _layer_configs(model) for limit in _seeing_limits(config)]
    return min(limits, default=None)


def position_limit(model: Any) -> int | None:
    """The length of a batch above which the rotary frequencies of all its rows change; None where they never do.

    `longrope` and `dynamic` take them from the highest position of the batch.
    """
    config = model.config.get_text_config(decoder=True)
    limits: list[int] = []
    for rope in _rope_parameters(config):
        kind = str(rope.get("rope_type", rope.get("type")))
        if kind == "longrope" or "dynamic" in kind:
            lengths = (rope.get("original_max_position_embeddings"), getattr(config, "max_position_embeddings", None))
            limits += [int(length) for length in lengths if length]
    return min(limits, default=None)


def context_limit(model: Any) -> int | None:
    """How many tokens prompt and reply may have together; None where the model does not say, or grows with the text."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    # Frequencies that follow the length are made for texts above it.
    grows = any("dynamic" in str(rope.get("rope_type", rope.get("type"))) for rope in _rope_parameters(config))
    length = getattr(config, "max_position_embeddings", None)
    return int(length) if length and not grows else None


def token_index_limit(model: Any) -> int | None:
    """The index in its row above which a query is scaled by its index instead of its position; None for most models.

    Padding and other texts in the row count as well. Llama 4 does so in its layers without rotary positions.
    """
    config = model.config.get_text_config(decoder=True)
    # The temperature of models that have only `attn_scale` follows positions.
    scaled = getattr(config, "attn_temperature_tuning", False) and not all(
        getattr(config, "no_rope_layers", ()) or (1,)
    )
    limit = getattr(config, "floor_scale", None)
    # The first factor other than 1 is that of index `floor_scale - 1`.
    return int(limit) - 1 if scaled and limit else None


def _layer_configs(model: Any) -> list[Any]:
    """The settings of the language model; of each layer where they differ."""
    config = model.config.get_text_config(decoder=True)
    return list(config.per_layer_config) if getattr(config, "is_heterogeneous", False) else [config]


def _seeing_limits(config: Any) -> Iterator[int]:
    types = getattr(config, "layer_types", None)
    slides = getattr(config, "use_sliding_window", True) if types is None else "sliding_attention" in types
    chunks = types is None or "chunked_attention" in types
    limits = {
        "sliding_window": slides,
        "attention_chunk_size": chunks,
        # Of more tokens, an indexer chooses some (DeepSeek sparse attention), or a mask hides some (Doge).
        "index_topk": True,
        "keep_window_size": True,
    }
    for name, applies in limits.items():
        value = getattr(config, name, None)
        if applies and isinstance(value, int) and value > 0:
            yield value


def _rope_parameters(config: Any) -> list[Mapping[str, Any]]:
    """The rotary settings; one for each type of layers in some models."""
    rope = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in rope.values() if isinstance(value, Mapping)]
    return [rope, *nested]
