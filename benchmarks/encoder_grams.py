"""The linear part of the encoder judge: word-piece runs of the reply, weighed by logistic regression.

Fine-tuning on a few thousand rows learns fixed wordings less well than a linear model over short runs of words does
(on the validation rows it was as good alone, and the two together are better than either), so both add to one answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from equipoise.judges.encoder_input import GRAMS, EncodedExchange

SHARE = 0.5
"""How much the linear part counts beside the network, chosen on the validation rows."""
INVERSE_PENALTY = 10.0


def matrix(rows: Sequence[EncodedExchange]) -> csr_matrix:
    """One line a row, of length 1, over the hashed runs."""
    runs = [piece.grams for piece in rows]
    ends = np.cumsum([0, *map(len, runs)])
    values = [1 / math.sqrt(len(run)) for run in runs for _ in run]
    return csr_matrix((values, [gram for run in runs for gram in run], ends), shape=(len(rows), GRAMS))


def fit_grams(rows: Sequence[EncodedExchange], labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Weights [runs, labels] and bias [labels], already multiplied by the share."""
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=300).fit(matrix(rows), labels)
    return torch.tensor(SHARE * model.coef_.T, dtype=torch.float16), torch.tensor(SHARE * model.intercept_).float()


def gram_logits(rows: Sequence[EncodedExchange], weights: Tensor, bias: Tensor) -> Tensor:
    """What the linear part adds to the network's logits, [rows, labels]."""
    return torch.tensor(matrix(rows) @ weights.double().numpy()).float() + bias
