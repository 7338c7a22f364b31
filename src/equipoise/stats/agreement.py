"""Agreement of a judge with reference labels: Cohen's kappa, sensitivity, specificity, each with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from equipoise.errors import UsageError
from equipoise.stats.proportions import Rate

_CELLS: Final = ((True, True), (True, False), (False, True), (False, False))
"""(Judge, reference) in the order of `LabelAgreement`'s counts."""


@dataclass(frozen=True)
class LabelAgreement:
    """A judge's binary labels against reference labels of the same cases."""

    true_positive: int
    """Judge yes, reference yes."""
    false_positive: int
    """Judge yes, reference no."""
    false_negative: int
    """Judge no, reference yes."""
    true_negative: int
    """Judge no, reference no."""
    kappa: float | None
    """Cohen's kappa; None when nothing was scored or both sides use one and the same label throughout."""
    low: float | None
    """Lower end of kappa's bootstrap interval."""
    high: float | None
    """Upper end of kappa's bootstrap interval."""
    sensitivity: Rate
    """Share of the reference's yes that the judge labels yes."""
    specificity: Rate
    """Share of the reference's no that the judge labels no."""
    unscored: int = 0
    """Cases the judge gave no label; they are in none of the counts above."""

    @property
    def n(self) -> int:
        """Scored cases."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative


def cohen_kappa(true_positive: int, false_positive: int, false_negative: int, true_negative: int) -> float | None:
    """Agreement beyond chance of two raters over two labels (Cohen 1960, equation 1).

    Returns:
        A value in [-1, 1]; None when there are no cases or when chance agreement is already complete.
    """
    counts = np.array([[true_positive, false_positive, false_negative, true_negative]])
    value = float(_kappas(counts)[0])
    return None if np.isnan(value) else value


def agree(
    judged: Sequence[bool | None],
    reference: Sequence[bool],
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> LabelAgreement:
    """Compare a judge's labels with reference labels, case by case.

    Args:
        judged: The judge's labels; None where it abstained.
        reference: The labels to compare with, in the same order.
        groups: What each case belongs to, such as its prompt; kappa's interval then resamples whole groups, because
            several replies to one prompt are not independent. None: every case stands alone.
        confidence: Coverage of every interval.
        resamples: Bootstrap resamples for kappa's percentile interval.
        seed: Seed of the bootstrap.

    Raises:
        UsageError: If the two sequences differ in length.
    """
    group_names = list(map(str, range(len(judged)))) if groups is None else list(groups)
    if not len(judged) == len(reference) == len(group_names):
        raise UsageError(
            f"expected as many judged as reference labels and groups, got {len(judged)}, {len(reference)} and "
            f"{len(group_names)}; try pairing them first"
        )
    cells: dict[str, list[int]] = {}
    for label, truth, group in zip(judged, reference, group_names, strict=True):
        if label is not None:
            cells.setdefault(group, [0, 0, 0, 0])[_CELLS.index((bool(label), bool(truth)))] += 1
    counts = np.array(list(cells.values()), dtype=int).reshape(-1, 4)
    true_positive, false_positive, false_negative, true_negative = (int(cell) for cell in counts.sum(axis=0))
    low, high = _bootstrap(counts, confidence, resamples, seed)
    return LabelAgreement(
        true_positive,
        false_positive,
        false_negative,
        true_negative,
        kappa=cohen_kappa(true_positive, false_positive, false_negative, true_negative),
        low=low,
        high=high,
        sensitivity=Rate.of(true_positive, true_positive + false_negative, confidence=confidence),
        specificity=Rate.of(true_negative, true_negative + false_positive, confidence=confidence),
        unscored=len(judged) - int(counts.sum()),
    )


def _kappas(counts: np.ndarray) -> np.ndarray:
    """Kappa of each row of counts (in the order of `cohen_kappa`); nan where undefined."""
    # kappa = (p_o - p_e) / (1 - p_e), with p_o the share of agreement and p_e the agreement that two raters with these
    # shares of yes would reach by chance (Cohen 1960). With p_e = 1 it is 0 / 0: undefined.
    tp, fp, fn, tn = counts.astype(float).T
    total = tp + fp + fn + tn
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = (tp + tn) / total
        chance = ((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn)) / total**2
        kappa: np.ndarray = np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)
    return kappa


def _bootstrap(
    counts: np.ndarray, confidence: float, resamples: int, seed: int
) -> tuple[float, float] | tuple[None, None]:
    """Percentile interval of kappa over resampled groups; `counts` holds a row of four cells for each group."""
    if len(counts) == 0:
        return None, None
    # Groups with equal rows are interchangeable, so a resample is one multinomial draw over the distinct rows. That is
    # why kappa is computed here, for all resamples at once, and not by scikit-learn or statsmodels, one at a time.
    rows, copies = np.unique(counts, axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(counts), copies / len(counts), size=resamples)
    kappas = _kappas(draws @ rows)
    # A resample in which one label does not occur has no kappa; it says nothing about the spread of the others.
    kappas = kappas[~np.isnan(kappas)]
    if kappas.size == 0:
        return None, None
    low, high = np.quantile(kappas, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
