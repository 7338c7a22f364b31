"""What chat servers send beside the words of a reply, as tables by server.

The servers follow OpenAI's API and add to it. A field that is not in these tables is read as text, judged and passed
on; the tables only name what holds no text of the model. Sources: the API references of each provider and the recorded
shapes in `tests/guard/gateway/dialect_shapes.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import Any, Final

_FRAME_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "OpenAI": ("id", "object", "created", "model", "choices", "usage", "system_fingerprint"),
    "OpenAI since 2025": ("service_tier", "obfuscation"),
    "vLLM": ("prompt_logprobs", "prompt_token_ids", "kv_transfer_params", "request_id"),
    "llama.cpp": ("timings",),
}
FRAME: Final = frozenset(chain.from_iterable(_FRAME_FIELDS.values()))
"""Fields of a completion, or of a chunk, that hold no text of the model."""

WORDLESS: Final = frozenset({"role", "tool_call_id", "id", "type", "index", "object", "finish_reason"})
"""Fields that hold no text for people, as long as they hold one word."""
_SPACE: Final = re.compile(r"\S\s+\S")
FREE: Final = frozenset({"arguments", "input"})
"""Fields of a tool's call whose object the model writes: in it no name says that a field holds no text."""

_NAME_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "OpenRouter": ("provider", "native_finish_reason"),
    "vLLM": ("stop_reason", "token_ids"),
    "SGLang": ("matched_stop",),
    "Ollama": ("done_reason",),
}
NAMES: Final = frozenset(chain.from_iterable(_NAME_FIELDS.values()))
"""Fields that hold the name of a company or a reason, as long as they hold no more than that."""
_NAME: Final = re.compile(r"[\w .:/@()+-]{0,64}", re.ASCII)

_WORD: Final = re.compile(r"[\w.:/-]{1,64}", re.ASCII)
_STRUCTURED: Final = ("logprobs", "prompt_logprobs")
"""Fields that repeat the tokens of the choices, with their probabilities."""
_LONGEST_TOKEN: Final = 128
"""Characters of a token."""

LABELS: Final = frozenset(
    # Azure's severities, SGLang's weight version, Bedrock's guardrail action.
    {"safe", "low", "medium", "high", "default", "NONE", "INTERVENED"}
)
"""Values beside the choices that say nothing."""

CONTENT_KINDS: Final[Mapping[str, str]] = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    # Mistral's Magistral, Anthropic's and Bedrock's reasoning.
    "thinking": "reasoning",
    "reasoning": "reasoning",
    "reasoning_text": "reasoning",
    "summary_text": "reasoning",
    "redacted_thinking": "reasoning",
    # Mistral's and Perplexity's sources.
    "reference": "other text",
    "citation": "other text",
    "url_citation": "other text",
    "tool_reference": "other text",
}
"""Types of parts in a list of content that hold text, with the kind that the text has."""
CONTENT_FIELDS: Final = ("text", "refusal", "thinking", "reasoning", "summary")
"""The field of a part of content that holds its text, if the part has one."""

LONGEST_KEY: Final = 60
"""Characters of a key that is only a name."""

REASONING: Final = (
    *("reasoning_content", "reasoning", "thinking", "reasoning_text"),
    *("reasoning_details", "thinking_blocks"),
)
"""Fields of a message that hold its reasoning: DeepSeek and vLLM, vLLM since 0.11, Ollama, others; and as lists of
objects OpenRouter, LiteLLM."""

_PASSED_BACK: Final = frozenset(
    {"retry-after", "retry-after-ms", "x-should-retry", "ratelimit", "ratelimit-policy", "x-request-id", "request-id"}
    | {"apim-request-id", "x-ms-request-id", "x-ms-client-request-id", "x-amzn-requestid", "x-generation-id"}
    | {"openai-processing-ms", "x-mistral-correlation-id", "x-ms-region"}
)
_PASSED_BACK_PREFIXES: Final = (
    "x-ratelimit-",
    "ratelimit-",
    "x-rate-limit-",
    "anthropic-ratelimit-",
    "x-ms-ratelimit-",
)
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{1,256}")


def is_frame(name: str, value: Any) -> bool:
    """Whether a field beside the message holds no text of the model."""
    if name in ("usage", "timings", "kv_transfer_params"):
        # Counts, and single words such as a tier of the service or the address of a cache.
        return all(_WORD.fullmatch(text) for text in texts_beside(value))
    if name == "choices":
        return not isinstance(value, str)
    if name in _STRUCTURED:
        return _repeats_tokens(value)
    if isinstance(value, Mapping | list):
        return (name in FRAME or name in WORDLESS or name in NAMES) and not any(texts_beside(value))
    if name == "model" and isinstance(value, str):
        # Whoever serves it names it, in any script.
        return _SPACE.search(value) is None
    if name in FRAME or name in WORDLESS:
        return not is_sentence(value)
    return name in NAMES and (not isinstance(value, str) or _NAME.fullmatch(value) is not None)


def _repeats_tokens(value: Any) -> bool:
    """Whether a field of log-probabilities is an object or a list with nothing but tokens in it."""
    if isinstance(value, str):
        return not value
    return all(len(text) <= _LONGEST_TOKEN and _SPACE.search(text) is None for text in texts_beside(value))


def is_wordless(name: str, value: Any) -> bool:
    """Whether a field holds an id, a type or another name: one word, which nobody reads."""
    return name in WORDLESS and not isinstance(value, Mapping | list) and not is_sentence(value)


def is_sentence(value: Any) -> bool:
    """Whether a value is a text of more than one word, or in letters that no id or type has."""
    # Chinese, Japanese and Thai have no spaces, and no id or type has other letters than ASCII's.
    return isinstance(value, str) and (_SPACE.search(value) is not None or not value.isascii())


def is_prose(key: str) -> bool:
    """Whether the key of an object says more than a key: a model may write its text there."""
    return len(key) > LONGEST_KEY or len(key.split()) > 2


def texts_beside(value: Any) -> Iterator[str]:
    """The texts of a field beside the message, without labels, numbers and truth values."""
    if isinstance(value, str):
        if value and value not in LABELS:
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if is_prose(name):
                yield name
            if not is_wordless(name, item):
                yield from texts_beside(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from texts_beside(item)


def passed_back(headers: Mapping[str, str]) -> dict[str, str]:
    """The upstream's headers that the client gets: when to retry, limits of its rate, ids of the request."""
    passed = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower not in _PASSED_BACK and not lower.startswith(_PASSED_BACK_PREFIXES):
            continue
        if _HEADER_VALUE.fullmatch(value) and (lower != "retry-after" or _is_retry_after(value)):
            passed[lower] = value
    return passed


def _is_retry_after(value: str) -> bool:
    """Whether a value is a number of seconds or a date (RFC 9110, section 10.2.3)."""
    if re.fullmatch(r"\d{1,7}(\.\d{1,6})?", value):
        return True
    try:
        return parsedate_to_datetime(value) is not None
    except ValueError:
        return False
