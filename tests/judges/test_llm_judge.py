from __future__ import annotations

import pytest

from equipoise.judges.llm_judge import same_model


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        ("meta-llama/Llama-3@abc", "llama-3"),
        ("http://localhost:8000/v1#meta-llama/Llama-3", "Llama-3@main"),
        ("http://user@localhost/v1#llama-3", "llama-3"),
        ("@cf/meta/llama-3", "meta/llama-3"),
        ("/models/llama-3/", "llama-3"),
    ],
)
def test_one_model_is_recognised_whichever_name_is_longer(longer: str, shorter: str) -> None:
    assert same_model(longer, shorter)
    assert same_model(shorter, longer)


@pytest.mark.parametrize(
    ("one", "other"),
    [("notllama-3", "llama-3"), ("one/llama-3", "two/llama-3"), ("llama-3/gguf", "llama-3"), ("", "llama-3"), ("", "")],
)
def test_other_models_are_not_the_same(one: str, other: str) -> None:
    assert not same_model(one, other)
    assert not same_model(other, one)
