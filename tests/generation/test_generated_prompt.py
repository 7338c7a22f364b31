from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.generation.generated_prompt import LABELS, GeneratedPrompt, RequestVerdict, SeedPrompt, ignore_state

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
VERDICTS = st.builds(
    RequestVerdict,
    judge=TEXTS,
    label=st.sampled_from(LABELS),
    probability=st.none() | st.floats(0, 1),
    reason=TEXTS,
)
PROMPTS = st.builds(
    GeneratedPrompt,
    text=TEXTS,
    seed=st.builds(SeedPrompt, text=TEXTS, topic=TEXTS),
    method=st.sampled_from(["grown", "mutated", "paraphrased"]),
    number=st.integers(0, 10**6),
    scores=st.dictionaries(st.sampled_from(["refusal", "seed_refusal", "writer"]), NUMBERS),
    trace=st.lists(st.dictionaries(TEXTS, NUMBERS | TEXTS, max_size=3), max_size=3).map(tuple),
    failure=st.none() | TEXTS,
    reply=TEXTS,
    refused=st.none() | st.booleans(),
    verdicts=st.lists(VERDICTS, max_size=3).map(tuple),
    label=st.sampled_from(LABELS),
    rejected=st.none() | TEXTS,
    words=st.lists(st.tuples(TEXTS, NUMBERS), max_size=4).map(tuple),
    picture=TEXTS,
    picture_kind=st.sampled_from(["", "benign", "risky-looking"]),
)


@given(PROMPTS)
def test_a_prompt_survives_json(prompt: GeneratedPrompt) -> None:
    assert GeneratedPrompt.from_dict(json.loads(json.dumps(prompt.to_dict()))) == prompt


@given(PROMPTS)
def test_only_prompts_without_failure_and_rejection_are_accepted(prompt: GeneratedPrompt) -> None:
    assert prompt.accepted == (prompt.failure is None and prompt.rejected is None)
    assert not prompt.but(rejected="the victim answers it").accepted
    assert not prompt.but(failure="no end").accepted
    assert prompt.but(rejected=None, failure=None).accepted


def test_a_copy_leaves_the_original_alone() -> None:
    prompt = GeneratedPrompt("a", SeedPrompt("s"), "grown", 0, {"refusal": -1.0})
    other = prompt.but(text="b", label="harmless")
    assert (prompt.text, prompt.label) == ("a", "abstain")
    assert (other.text, other.label, other.seed) == ("b", "harmless", prompt.seed)


@pytest.mark.parametrize("missing", ["text", "seed", "number"])
def test_a_document_without_a_field_is_no_prompt(missing: str) -> None:
    document: dict[str, Any] = GeneratedPrompt("a", SeedPrompt("s"), "grown", 0, {}).to_dict()
    del document[missing]
    with pytest.raises((KeyError, TypeError)):
        GeneratedPrompt.from_dict(document)


def test_a_search_may_keep_no_state() -> None:
    assert ignore_state({"tokens": [1]}) is None  # type: ignore[func-returns-value]
