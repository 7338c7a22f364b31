"""What is known of a text is found for every text that begins with it, and dropped when it is old or too much."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.guard.growing_store import GrowingStore


@dataclass
class Known:
    text: str


def test_the_longest_beginning_is_found_once() -> None:
    store: GrowingStore[Known] = GrowingStore()
    for text in ("ab", "abcd", "xyz"):
        store.put(Known(text))
    assert store.take("abcdef") == Known("abcd")
    assert store.take("abcdef") == Known("ab")
    assert store.take("abcdef") is None


def test_the_oldest_is_dropped_for_number_and_for_size() -> None:
    store: GrowingStore[Known] = GrowingStore(most=2, characters=10)
    for text in ("a", "b", "c"):
        store.put(Known(text))
    assert (store.take("a"), store.take("b")) == (None, Known("b"))
    store.put(Known("d" * 10))
    assert (store.take("c"), store.take("d" * 12)) == (None, Known("d" * 10))
