"""Token counts and context of a model under its countermeasures; unknown ones are None."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from equipoise.models.token_count import context_length, token_counter


def words(text: str, add_special_tokens: bool) -> dict[str, Any]:
    assert not add_special_tokens
    return {"input_ids": text.split()}


def test_tokens_are_those_of_the_models_tokenizer() -> None:
    core = SimpleNamespace(processor=SimpleNamespace(tokenizer=words))
    for model in (core, SimpleNamespace(core=core)):
        counter = token_counter(model)  # type: ignore[arg-type]
        assert counter is not None
        assert counter("a b") == 2


class PaddingTokenizer:
    """Keeps the padding of its last call, as those of transformers do."""

    padding = True

    def __call__(self, text: str, add_special_tokens: bool, padding: bool = False) -> dict[str, Any]:
        self.padding = padding
        return words(text, add_special_tokens)


def test_counting_leaves_the_models_tokenizer_alone() -> None:
    tokenizer = PaddingTokenizer()
    counter = token_counter(SimpleNamespace(processor=SimpleNamespace(tokenizer=tokenizer)))  # type: ignore[arg-type]
    assert counter is not None
    assert counter("a b") == 2
    assert tokenizer.padding


def test_the_context_is_that_of_the_language_model() -> None:
    text = SimpleNamespace(max_position_embeddings=2048)
    nested = SimpleNamespace(get_text_config=lambda: text)
    for config in (text, nested):
        model = SimpleNamespace(model=SimpleNamespace(config=config))
        assert context_length(model) == 2048  # type: ignore[arg-type]
        assert context_length(SimpleNamespace(core=model)) == 2048  # type: ignore[arg-type]


def test_what_is_not_at_hand_is_none() -> None:
    for model in (SimpleNamespace(), SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace()))):
        assert token_counter(model) is None  # type: ignore[arg-type]
        assert context_length(model) is None  # type: ignore[arg-type]
