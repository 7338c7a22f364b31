"""`EncoderRequestJudge`: one linear unit on the frozen encoder of the guard that ships with the package.

The encoder (MiniLM with layers trained on harmful replies) is left as it is; the unit was trained on requests: ours,
and permissively licensed rows. docs/generation.md has the sets and the measured quality.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

import equipoise.guard
from equipoise.files import folder_hash
from equipoise.generation.generated_prompt import RequestVerdict
from equipoise.generation.judge_weights import FOLDER, read_weights, weights_identity
from equipoise.generation.request_judges import ProbabilityBands

ENCODER: Final = Path(equipoise.guard.__file__).parent / "weights"
"""The frozen encoder: the guard's detector."""
LAYERS: Final = (3, 6)
"""Hidden states that are read: the third is near the pretrained encoder's, the last knows harm."""
TOKENS: Final = 96
"""Of a request, at most."""


def request_vectors(texts: Sequence[str]) -> Any:
    """`N x 768` features (numpy float32): the mean over tokens of two hidden layers, each of length 1."""
    if not texts:
        return np.zeros((0, 2 * 384), np.float32)
    return np.stack([_vector(text) for text in texts])


def embed(texts: Sequence[str]) -> Any:
    """`N x 384` unit vectors of the lower layer, for near-duplicates."""
    return request_vectors(texts)[:, :384]


@lru_cache(maxsize=4096)
def _vector(text: str) -> Any:
    import torch

    base, tokenizer = _encoder()
    ids = tokenizer(text, truncation=True, max_length=TOKENS, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        states = base(input_ids=ids, output_hidden_states=True).hidden_states
    # One text at a time: a vector must not depend on the padding that its company would need.
    parts = [torch.nn.functional.normalize(states[layer][0].mean(0), dim=0) for layer in LAYERS]
    return torch.cat(parts).numpy()


@cache
def _encoder() -> tuple[Any, Any]:
    from equipoise.guard.detector.folder import read

    detector = read(ENCODER, early_exit=False)
    return detector.network.base, detector.tokenizer


class EncoderRequestJudge:
    """Labels requests by a calibrated probability of harm; it abstains from what it cannot read.

    Args:
        weights: a file of weights.
    """

    name = "encoder"

    def __init__(self, weights: Path = FOLDER / "encoder.json") -> None:
        self._path = weights
        document = read_weights(weights)
        self._weights = np.asarray(document["weights"], np.float32)
        self._bias = float(document["bias"])
        self._bands = ProbabilityBands(*document["bands"])

    @property
    def identity(self) -> str:
        """sha256 over the unit's weights and those of the encoder."""
        return weights_identity(self._path, folder_hash(ENCODER))

    def probability(self, text: str) -> float:
        """Probability that a request is harmful."""
        logit = float(request_vectors([text])[0] @ self._weights) + self._bias
        return 1 / (1 + math.exp(-max(min(logit, 30.0), -30.0)))

    def __call__(self, texts: Sequence[str]) -> list[RequestVerdict]:
        """One verdict for each request."""
        verdicts = []
        for text in texts:
            letters = re.findall(r"[^\W\d_]", text)
            if len(letters) < 3 or sum(letter.isascii() for letter in letters) < 0.8 * len(letters):
                verdicts.append(RequestVerdict(self.name, "abstain", reason="the encoder reads English only"))
                continue
            probability = self.probability(text)
            verdicts.append(RequestVerdict(self.name, self._bands.label(probability), probability))
        return verdicts
