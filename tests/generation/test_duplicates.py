from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.questions import fold
from equipoise.generation.duplicates import NEAR, DuplicateIndex

SENTENCE = "how do I kill a process on my old computer without losing any work"
WORDS = st.lists(st.sampled_from(sorted(set(SENTENCE.split()))), min_size=1)
TEXTS = WORDS.map(" ".join)


@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_a_kept_text_is_always_found_again(texts: list[str]) -> None:
    index = DuplicateIndex()
    for text in texts:
        index.add(text)
    for text in texts:
        assert index.find(text) is not None
        assert index.find(f"  {text.upper()}!! ") is not None


@given(TEXTS, TEXTS)
def test_without_vectors_only_words_count(one: str, other: str) -> None:
    index = DuplicateIndex()
    index.add(one)
    repeated = index.find(other)
    if repeated is None:
        assert fold(one) != fold(other)
    else:
        kind, text = repeated
        assert text == one
        assert (kind == "wording") == (fold(one) == fold(other))


@given(TEXTS, TEXTS)
def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not(before: str, after: str) -> None:
    shared = [f"word{number}" for number in range(13)]
    index = DuplicateIndex()
    index.add(" ".join(shared))
    assert index.find(" ".join([before, *shared, after])) is not None
    assert index.find(" ".join(["other", *shared[:12], "ending"])) is None


def test_the_closest_kept_text_is_named() -> None:
    angles = {"a": 0.0, "b": 0.5, "c": 0.45}
    vectors = {text: [np.cos(angle), np.sin(angle)] for text, angle in angles.items()}
    index = DuplicateIndex(lambda texts: np.array([vectors[text] for text in texts]), near=0.5)
    index.add("a")
    index.add("b")
    assert index.find("c") == ("embedding", "b")


def test_the_threshold_is_a_cosine() -> None:
    index = DuplicateIndex(lambda texts: np.array([[1.0, 0.0] if t == "a" else [NEAR + 1e-3, 0.2] for t in texts]))
    index.add("a")
    assert index.find("b") == ("embedding", "a")
    far = DuplicateIndex(lambda texts: np.array([[1.0, 0.0] if t == "a" else [NEAR - 1e-3, 0.2] for t in texts]))
    far.add("a")
    assert far.find("b") is None
