"""The fields of a chat request beside its messages: which of them hold settings, and which words count in those.

Servers add fields of their own, and some give them to the model: documents, templates, a text to go on from. Every
field is therefore read, unless it is known to be a setting. Settings hold numbers, names and ids, which nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from equipoise.guard.gateway.dialects import is_prose, is_sentence, is_wordless

OPERATORS: Final = ("tools", "functions", "response_format", "bad_words")
"""Fields with the operator's own words, and words that the model must not say."""
_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "OpenAI": (
        *("model", "stop", "user", "metadata", "tool_choice", "function_call", "service_tier", "reasoning_effort"),
        *("modalities", "verbosity", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "logit_bias"),
        *("web_search_options", "stream_options", "audio"),
    ),
    "vLLM, SGLang": (
        *("chat_template_kwargs", "mm_processor_kwargs", "guided_json", "guided_regex", "guided_choice"),
        *("guided_grammar", "guided_decoding_backend", "guided_whitespace_pattern", "structural_tag"),
        *("structured_outputs", "request_id", "cache_salt", "kv_transfer_params", "vllm_xargs", "logits_processors"),
        *("regex", "ebnf", "lora_path", "rid"),
    ),
    "OpenRouter": ("provider", "models", "route", "transforms", "plugins", "reasoning", "usage"),
    "llama.cpp, Ollama": ("grammar", "json_schema", "samplers", "options", "format", "keep_alive", "think"),
    "Anthropic, DeepSeek, Groq, Mistral": ("thinking", "reasoning_format", "prompt_mode", "betas"),
    "LiteLLM": ("fallbacks", "tags", "custom_llm_provider", "litellm_metadata"),
}
SETTINGS: Final = frozenset(chain.from_iterable(_SETTINGS.values()))
"""Fields that hold settings: single words in them say nothing."""
LONGEST_WORD: Final = 512
"""Characters of a word that is a name or an id."""
MOST_WORDS: Final = 32
"""Single words of one setting; more of them may be a text."""
_VOICE: Final = frozenset({"voice", "format"})


def setting_words(name: str, value: Any) -> str:
    """The words of a field beside the messages, one text per line.

    Args:
        name: of the field.
        value: of JSON.
    """
    texts = list(_texts(value))
    if name in SETTINGS:
        spoken = [text for text in texts if is_sentence(text) or len(text) > LONGEST_WORD]
        if len(texts) - len(spoken) <= MOST_WORDS:
            texts = spoken
    return "\n".join(texts)


def is_voice(value: Any) -> bool:
    """Whether a field `audio` says how a reply should sound, and is none itself."""
    return isinstance(value, Mapping) and _VOICE.issuperset(value)


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value; numbers and truth values are none."""
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if is_prose(name):
                yield name
            if not is_wordless(name, item):
                yield from _texts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)
