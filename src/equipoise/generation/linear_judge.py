"""`LinearRequestJudge`: logistic regression over hashed runs of words, or of characters. Small and fast.

The one over words is part of the gate. The one over characters is in no gate and no search, and was trained on other
rows: it measures what the gate lets through.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from equipoise.generation.generated_prompt import RequestVerdict
from equipoise.generation.judge_weights import FOLDER, read_weights, weights_identity
from equipoise.generation.request_judges import ProbabilityBands

BUCKETS: Final = 1 << 14
"""Numbers that runs are hashed to."""
RunKind = Literal["words", "characters"]
"""Runs of one and two words; runs of three to five characters inside words."""


def hashed_features(text: str, kind: RunKind) -> dict[int, float]:
    """Runs of a text as a sparse unit vector; empty for a text without words."""
    counts: dict[int, float] = {}
    for run in _runs(re.findall(r"[a-z0-9']+", text.casefold().replace("\u2019", "'")), kind):
        # blake2b instead of hash(): the same in every process.
        # Two runs may share a bucket. With 16,384 buckets and a few thousand frequent runs that costs little, and the
        # weights fit into a small file without a vocabulary.
        index = int.from_bytes(hashlib.blake2b(run.encode(), digest_size=4).digest(), "big") % BUCKETS
        counts[index] = counts.get(index, 0.0) + 1.0
    norm = math.sqrt(sum(value * value for value in counts.values())) or 1.0
    return {index: value / norm for index, value in counts.items()}


def _runs(words: Sequence[str], kind: RunKind) -> Iterator[str]:
    if kind == "words":
        yield from words
        # The ends count as words: `<s> how` says that a request begins with `how`.
        yield from (f"{one} {other}" for one, other in pairwise(["<s>", *words, "</s>"]) if words)
        return
    for word in words:
        # With its ends marked, a word's beginning and end are runs of their own.
        marked = f"<{word}>"
        for length in (3, 4, 5):
            yield from (marked[start : start + length] for start in range(len(marked) - length + 1))


class LinearRequestJudge:
    """Labels requests by a probability of harm; texts without words are an abstention.

    Args:
        kind: which runs it reads; also its name.
        weights: a file of weights; the shipped one by default.
    """

    def __init__(self, kind: RunKind = "words", weights: Path | None = None) -> None:
        self.kind: RunKind = kind
        self._path = weights or FOLDER / f"{kind}.json"
        document = read_weights(self._path)
        self._weights = {int(index): float(value) for index, value in document["weights"].items()}
        self._bias = float(document["bias"])
        self._bands = ProbabilityBands(*document["bands"])

    @property
    def name(self) -> str:
        """The kind of runs that it reads."""
        return self.kind

    @property
    def identity(self) -> str:
        """sha256 over the weights."""
        return weights_identity(self._path, self.kind)

    def probability(self, text: str) -> float:
        """Probability that a request is harmful."""
        features = hashed_features(text, self.kind)
        logit = self._bias + sum(self._weights.get(index, 0.0) * value for index, value in features.items())
        # `exp` raises an error for large numbers; beyond 30 a probability is 0 or 1 to every digit that is printed.
        return 1 / (1 + math.exp(-max(min(logit, 30.0), -30.0)))

    def __call__(self, texts: Sequence[str]) -> list[RequestVerdict]:
        """One verdict for each request."""
        verdicts = []
        for text in texts:
            if not re.search(r"[A-Za-z]{2}", text):
                verdicts.append(RequestVerdict(self.name, "abstain", reason="no English words"))
                continue
            probability = self.probability(text)
            verdicts.append(RequestVerdict(self.name, self._bands.label(probability), probability))
        return verdicts
