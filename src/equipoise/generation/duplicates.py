"""Near-duplicates among generated prompts: the same wording, thirteen words in a row, or nearly the same meaning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from equipoise.data.questions import fold
from equipoise.data.splits import WORDS

DuplicateKind = Literal["wording", "13-gram", "embedding"]
Embed = Callable[[Sequence[str]], Any]
"""`N x D` unit vectors (numpy) of texts."""
NEAR: Final = 0.97
"""Cosine from which two prompts count as one; above that of most pairs of different questions about one topic."""


class DuplicateIndex:
    """The prompts that were kept so far.

    Args:
        embed: vectors of texts; None compares wordings only.
        near: cosine from which two prompts are one.
    """

    def __init__(self, embed: Embed | None = None, near: float = NEAR) -> None:
        self._embed, self._near = embed, near
        self._wordings: dict[str, str] = {}
        self._grams: dict[str, str] = {}
        self._texts: list[str] = []
        self._vectors: list[Any] = []

    def find(self, text: str) -> tuple[DuplicateKind, str] | None:
        """How the text repeats a kept one, and which; None where it is new."""
        folded = fold(text)
        if folded in self._wordings:
            return "wording", self._wordings[folded]
        for gram in _grams(folded):
            if gram in self._grams:
                return "13-gram", self._grams[gram]
        if self._embed is None or not self._vectors:
            return None
        vector = self._embed([text])[0]
        cosines = [float(vector @ other) for other in self._vectors]
        closest = max(range(len(cosines)), key=cosines.__getitem__)
        return ("embedding", self._texts[closest]) if cosines[closest] >= self._near else None

    def add(self, text: str) -> None:
        """Keep a text."""
        folded = fold(text)
        self._wordings.setdefault(folded, text)
        for gram in _grams(folded):
            self._grams.setdefault(gram, text)
        self._texts.append(text)
        if self._embed is not None:
            self._vectors.append(self._embed([text])[0])


def _grams(folded: str) -> list[str]:
    words = folded.split()
    return [" ".join(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1)]
