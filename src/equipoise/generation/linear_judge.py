"""`LinearRequestJudge`: logistic regression over hashed runs of one and two words. Small, fast, and held out.

It is not part of the gate, so that no search optimises against it: it measures what the gate lets through.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from equipoise.errors import ModelError
from equipoise.generation.generated_prompt import RequestVerdict
from equipoise.generation.request_judges import ProbabilityBands

BUCKETS: Final = 1 << 14
"""Numbers that runs of words are hashed to."""
WEIGHTS: Final = Path(__file__).parent / "weights" / "linear.json"
"""What `benchmarks/train_request_judges.py` writes."""


def hashed_features(text: str) -> dict[int, float]:
    """Runs of one and two words as a sparse unit vector."""
    words = ["<s>", *re.findall(r"[a-z0-9']+", text.casefold().replace("\u2019", "'")), "</s>"]
    runs = words[1:-1] + [f"{one} {other}" for one, other in pairwise(words)]
    counts: dict[int, float] = {}
    for run in runs:
        # blake2b instead of hash(): the same in every process.
        digest = hashlib.blake2b(run.encode(), digest_size=4).digest()
        index = int.from_bytes(digest, "big") % BUCKETS
        counts[index] = counts.get(index, 0.0) + 1.0
    norm = math.sqrt(sum(value * value for value in counts.values())) or 1.0
    return {index: value / norm for index, value in counts.items()}


class LinearRequestJudge:
    """Labels requests by a probability of harm; texts without words are an abstention.

    Args:
        weights: a file of weights.
    """

    name = "linear"

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self._path = weights
        document = _document(weights)
        self._weights = {int(index): float(value) for index, value in document["weights"].items()}
        self._bias = float(document["bias"])
        self._bands = ProbabilityBands(*document["bands"])

    @property
    def identity(self) -> str:
        """sha256 over the weights."""
        return hashlib.sha256(json.dumps(_document(self._path), sort_keys=True).encode()).hexdigest()

    def probability(self, text: str) -> float:
        """Probability that a request is harmful."""
        logit = self._bias + sum(self._weights.get(i, 0.0) * value for i, value in hashed_features(text).items())
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


@cache
def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"expected weights in {path}, got {error}; try installing again") from error
