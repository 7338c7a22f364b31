"""Headlines corrected for the judge's errors, where a calibration by `equipoise judge calibrate` is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from equipoise.audit.labels import AXES, RateName
from equipoise.audit.records import AuditRun
from equipoise.judges.calibration import JudgeCalibration, Label, corrected
from equipoise.report.audit.suite_groups import SuiteGroup
from equipoise.report.audit.usage import TokenPrice
from equipoise.stats.corrected_rates import CorrectedRate

LABELS: Final[dict[RateName, Label]] = {"needless_refusal": "refusal", "harmful_answer": "harm"}
"""The label whose errors move each rate."""


@dataclass(frozen=True)
class PageOptions:
    """What a page shows beside its run."""

    price: TokenPrice | None = None
    """Of a million tokens."""
    calibration: JudgeCalibration | None = None
    """How the judge errs on replies of this model."""
    runs: tuple[AuditRun, ...] = ()
    """Runs of a trend, the page's own the last."""


@dataclass(frozen=True)
class GroupCorrection:
    """One headline with and without the judge's errors."""

    group: str
    """Which group of suites."""
    axis: RateName
    """Which rate."""
    rate: CorrectedRate
    """Both values, or why there is only one."""
    labels: int
    """Labelled replies that the correction rests on."""


def correct_groups(
    run: AuditRun, groups: Sequence[SuiteGroup], calibration: JudgeCalibration | None
) -> tuple[GroupCorrection, ...]:
    """Every headline that was measured, corrected; empty without a calibration."""
    if calibration is None:
        return ()
    rows = []
    for group in groups:
        for axis in AXES:
            counted = getattr(group.rates, axis)
            if group.is_noise or counted.rate is None:
                continue
            rate = corrected(counted, calibration, model=run.model_name, judge=run.judge, label=LABELS[axis])
            measured = calibration.models.get(run.model_name, {}).get(LABELS[axis])
            rows.append(GroupCorrection(group.name, axis, rate, measured.n if measured else 0))
    return tuple(rows)
