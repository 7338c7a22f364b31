"""The tokens of a reply that follows a prompt, and where in the reply's text each of them begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from equipoise.errors import UsageError


class ReplyTokens(NamedTuple):
    """A reply as tokens; two lists of the same length."""

    ids: list[int]
    """Token ids."""
    starts: list[int]
    """Index of the first character of each token in the reply. Tokens that are parts of one character share its
    index; one that also covers the space before a word begins at the space."""


def reply_tokens(tokenizer: Any, prompt: str, reply: str) -> ReplyTokens:
    """Tokens of the reply as a continuation of the prompt.

    Most tokenizers write the first word of a text differently from a later one, so the reply is tokenized together
    with the prompt. Where a token would reach over the border of the two, the reply is tokenized alone.

    Args:
        tokenizer: of transformers.
        prompt: the prompt as the chat template wrote it.
        reply: what follows it, white space of the template included.

    Raises:
        UsageError: the reply has no tokens.
    """
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    together, starts = _with_starts(tokenizer, prompt + reply)
    if together[: len(before)] == before and len(together) > len(before):
        return ReplyTokens(together[len(before) :], [start - len(prompt) for start in starts[len(before) :]])
    alone, starts = _with_starts(tokenizer, reply.strip())
    if not alone:
        raise UsageError(f"expected a reply with words, got {reply!r}, which has no tokens; try a sentence")
    indent = len(reply) - len(reply.lstrip())
    return ReplyTokens(alone, [start + indent for start in starts])


def _with_starts(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """Token ids of a text, and the index of the first character of each."""
    if getattr(tokenizer, "is_fast", False):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(encoded["input_ids"]), [start for start, _ in encoded["offset_mapping"]]
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return ids, [_decoded_length(tokenizer, ids[:count]) for count in range(len(ids))]


def _decoded_length(tokenizer: Any, ids: Sequence[int]) -> int:
    """Characters that the first tokens spell in full, for tokenizers in Python, which keep no offsets."""
    # A character that is cut in half decodes to the replacement character; its other half begins where it begins.
    return len(tokenizer.decode(list(ids), skip_special_tokens=False).rstrip("\N{REPLACEMENT CHARACTER}"))
