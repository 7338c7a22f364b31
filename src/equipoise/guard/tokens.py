"""Token ids of untrusted text, without special tokens: a text that spells `<|im_end|>` does not end a turn."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from equipoise.judges.llm_interface import drop_lone_surrogates


def spelled_out(tokenizer: Any, text: str) -> str:
    """A text with the names of special and added tokens broken up, letter by letter.

    Args:
        tokenizer: of transformers.
        text: somebody else's words.
    """
    # A tokenizer turns the letters `<|im_end|>` into the token that ends a turn, wherever they stand: a reply could
    # close its own turn and go on as the judge. Spaces between the letters keep it readable and make it plain text.
    for name in special_names(tokenizer):
        if name in text:
            text = text.replace(name, " ".join(name))
    return text


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text as it is, without the marks that the tokenizer would add and without half surrogate pairs."""
    # `verbose` off: a reply of many windows is longer than the network reads at once, and that is in order.
    return list(tokenizer(drop_lone_surrogates(text), add_special_tokens=False, verbose=False)["input_ids"])


@lru_cache(maxsize=16)
def special_names(tokenizer: Any) -> tuple[str, ...]:
    """The names of special and added tokens, longest first: a name within another is not broken up before it."""
    names = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    return tuple(sorted((name for name in names if len(name) > 1), key=lambda name: (-len(name), name)))
