"""Effective sample size of cases in clusters: how many independent cases say as much about a mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

PRIOR_CLUSTERS: Final = 0.5
"""Weight of the assumption that a cluster is of one mind, in clusters that were observed."""


def effective_size(values: Sequence[float], clusters: Sequence[str]) -> float:
    """The number of independent cases whose mean is as uncertain as that of these; at least 1.

    It is `n / (1 + (m - 1) rho)` (Kish 1965), with the mean cluster size of a case `m = sum of squared sizes / n` and
    the correlation `rho` in a cluster. So it is `n` for uncorrelated cases or clusters of one case, and for clusters
    of one size that are of one mind the number of clusters.

    `rho` is the estimate of the analysis of variance, drawn towards 1 as if half a cluster more had been of one mind:
    few clusters with an unusual value say little about `rho`, and clusters that all agree with each other say nothing.

    Args:
        values: of the cases; at least one.
        clusters: the cluster of each.
    """
    names, index = np.unique(np.array(clusters, dtype=str), return_inverse=True)
    count, size, cases = len(names), np.bincount(index), np.array(values, dtype=float)
    n = len(cases)
    if count == n:
        return float(n)
    mean_size = float((size**2).sum()) / n
    return n / (1 + (mean_size - 1) * _correlation(cases, index, size))


def _correlation(cases: np.ndarray, index: np.ndarray, size: np.ndarray) -> float:
    """The correlation of two cases of a cluster, in [0, 1]; 1 where nothing is known of it."""
    n, count = len(cases), len(size)
    _, kind, copies = np.unique(cases, return_inverse=True, return_counts=True)
    unusual = kind != copies.argmax()
    # Clusters that only hold the most frequent value tell nothing: in all of them chance and agreement look alike.
    telling = len(np.unique(index[unusual]))
    if telling == 0 or count == 1:
        return 1.0
    means = np.bincount(index, weights=cases) / size
    between = float((size * (means - cases.mean()) ** 2).sum()) / (count - 1)
    # Summed without rounding: the order of the cases shall change nothing.
    within = math.fsum((cases - means[index]) ** 2) / (n - count)
    # Of clusters of different sizes, the size that makes the estimate unbiased (Fisher's n_0).
    typical = (n - float((size**2).sum()) / n) / (count - 1)
    estimate = (between - within) / (between + (typical - 1) * within)
    return 1 - (1 - min(max(estimate, 0.0), 1.0)) * telling / (telling + PRIOR_CLUSTERS)
