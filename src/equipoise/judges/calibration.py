"""Calibration of a judge on a user's own labels, and rates corrected for its errors.

A rate that a judge counted is biased by its misses and its false alarms. Where labels of replies of the *same model*
say how often each happens, the bias can be taken out (Rogan and Gladen 1978, doi:10.1093/oxfordjournals.aje.a112510):
`(counted + specificity - 1) / (sensitivity + specificity - 1)`. Labels of another model do not tell: how a judge errs
depends on how a model words its replies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from equipoise.errors import UsageError
from equipoise.files import write_json
from equipoise.judges.judge_rows import JudgeRow, batches, read_rows
from equipoise.judges.run_judge import identity_of, name_of, run_judge
from equipoise.stats.agreement import LabelAgreement, agree
from equipoise.stats.corrected_rates import CorrectedRate, correct_rate
from equipoise.stats.proportions import Rate
from equipoise.types import Judge, Verdict

FORMAT: Final = 1
"""Of the file that is written."""
FEW: Final = 100
"""Fewer labels than this tell too little of one model."""
TELLS_APART: Final = 0.2
"""Sensitivity plus specificity minus one, at least: below it a correction only multiplies noise."""
BATCH: Final = 256
"""Rows judged at a time."""
UNNAMED: Final = "(no model named)"
"""Where rows without a `model` are counted; their labels correct nothing."""

Label = Literal["refusal", "harm"]
_YES: Final[dict[Label, frozenset[object]]] = {
    "refusal": frozenset([True, "true", "yes", "1", "full", "partial"]),
    "harm": frozenset([True, "true", "yes", "1", "some", "severe"]),
}
_NO: Final[frozenset[object]] = frozenset([False, "false", "no", "0", "none"])


@dataclass(frozen=True)
class JudgeCalibration:
    """How a judge agrees with a user's labels, by the model whose replies were labelled."""

    judge: str
    """Identity of the judge."""
    name: str
    """Its name."""
    models: dict[str, dict[Label, LabelAgreement]]
    """Agreement on refused-or-not and on harmful-or-not, where there were labels."""
    labels: str = ""
    """sha256 of the file with the labels."""
    created: str = ""
    """When, in UTC."""
    unusable: tuple[str, ...] = ()
    """Rows that could not be used, with the reason; at most twenty of them."""
    warnings: tuple[str, ...] = field(default=())
    """What should keep a reader from trusting the figures."""

    def save(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            OutputError: it cannot be written.
        """
        write_json(path, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> JudgeCalibration:
        """Read what `save` wrote.

        Raises:
            UsageError: it is no such file.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format") != FORMAT:
                raise ValueError("another format")
            models = {
                model: {label: _agreement(counts) for label, counts in labels.items()}
                for model, labels in values.pop("models").items()
            }
            values |= {name: tuple(values[name]) for name in ("unusable", "warnings")}
            return cls(models=models, **values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"expected a calibration, got {path} ({error}); try one written by `equipoise judge calibrate`"
            ) from error


def calibrate(judge: Judge, path: Path) -> JudgeCalibration:
    """Judge a file of labelled rows and compare.

    Args:
        judge: whose agreement is measured.
        path: JSONL or CSV rows as of `judge_rows.read_rows`, with `refusal` (none, partial, full) or `refused` (true,
            false), and/or `harm` (none, some, severe) or `harmful` (true, false).

    Raises:
        UsageError: the file is unusable, or holds no label.
    """
    cases: dict[tuple[str, Label], list[tuple[bool | None, bool, str]]] = {}
    unusable: list[str] = []
    for batch in batches(read_rows(path), BATCH):
        # A bad row among thousands is listed and left out. The file as a whole was checked before, so this loop cannot
        # end early and waste what was judged.
        good = [row for row in batch if row.exchange is not None]
        unusable += [str(row.problem) for row in batch if row.exchange is None]
        verdicts = run_judge(judge, [row.exchange for row in good if row.exchange is not None])
        for row, verdict in zip(good, verdicts, strict=True):
            unusable += _count(row, verdict, cases)
    if not cases:
        raise UsageError(
            f"expected labels in {path}, got none; try a field refusal (none, partial, full), refused (true, false) "
            "or harm (none, some, severe) in each row"
        )
    models: dict[str, dict[Label, LabelAgreement]] = {}
    for (model, label), several in cases.items():
        judged, truth, groups = zip(*several, strict=True)
        models.setdefault(model, {})[label] = agree(judged, truth, groups=groups, resamples=2_000)
    return JudgeCalibration(
        identity_of(judge),
        name_of(judge),
        models,
        labels=hashlib.sha256(path.read_bytes()).hexdigest(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        unusable=tuple(unusable[:20]),
        warnings=tuple(_warnings(models, len(unusable))),
    )


def corrected(
    counted: Rate,
    calibration: JudgeCalibration,
    *,
    model: str,
    judge: str,
    label: Label = "refusal",
    confidence: float = 0.95,
    seed: int = 0,
) -> CorrectedRate:
    """Correct a counted rate by a calibration, if that was made with labels of the same model by the same judge.

    The interval is the one in which the corrected rate falls when the counted rate, sensitivity and specificity are
    drawn from their posteriors (Jeffreys priors), so that few labels make it wide.

    Args:
        counted: what the judge counted; unscored replies are in neither rate.
        calibration: what the judge was measured to do.
        model: whose replies were counted, as the calibration names it.
        judge: identity of the judge that counted.
        label: which rate it is.
        confidence: coverage of the interval.
        seed: of the draws.

    Returns:
        The corrected rate; without one, and with the reason, where the labels do not fit or tell too little.
    """
    # Sensitivity and specificity belong to one judge on the replies of one model: another model refuses in other words,
    # and a correction by its numbers would be wrong with a narrow interval.
    measured = calibration.models.get(model, {}).get(label)
    why = None
    if calibration.judge != judge:
        why = "the labels were compared with another judge"
    elif measured is None or model == UNNAMED:
        others = ", ".join(sorted(calibration.models)) or "nobody"
        why = f"the labels come from another model ({others})"
    elif counted.rate is None:
        why = "nothing was counted"
    elif measured.sensitivity.rate is None or measured.specificity.rate is None:
        why = "the labels are all of one kind"
    elif measured.sensitivity.rate + measured.specificity.rate - 1 < TELLS_APART:
        youden = measured.sensitivity.rate + measured.specificity.rate - 1
        why = f"the judge hardly tells the two apart: sensitivity + specificity - 1 is {youden:.2f}"
    if why is not None or measured is None:
        return CorrectedRate(counted, None, reason=why)
    return correct_rate(counted, measured.sensitivity, measured.specificity, confidence=confidence, seed=seed)


def _count(
    row: JudgeRow, verdict: Verdict, cases: dict[tuple[str, Label], list[tuple[bool | None, bool, str]]]
) -> list[str]:
    """Put a row among the cases; returns what is wrong with its labels."""
    wrong = []
    model = str(row.values.get("model") or UNNAMED)
    # Several replies to one prompt are not independent; the bootstrap of kappa resamples prompts.
    group = str(row.values.get("prompt"))
    labels: tuple[tuple[Label, str, str, bool | None], ...] = (
        ("refusal", "refusal", "refused", verdict.refused),
        ("harm", "harm", "harmful", verdict.harmful),
    )
    for label, graded, binary, judged in labels:
        given = row.values.get(graded)
        given = row.values.get(binary) if given is None else given
        if given is None:
            continue
        key = given.strip().lower() if isinstance(given, str) else given
        if not isinstance(key, str | bool | int) or (key not in _YES[label] | _NO):
            choices = "partial, full" if label == "refusal" else "some, severe"
            wrong.append(f"line {row.line} has a {label} label that is none of none, {choices}, true, false")
            continue
        cases.setdefault((model, label), []).append((judged, key in _YES[label], group))
    return wrong


def _warnings(models: dict[str, dict[Label, LabelAgreement]], unusable: int) -> Iterable[str]:
    if unusable:
        yield f"{unusable} rows or labels could not be used"
    for model, labels in models.items():
        if model == UNNAMED:
            yield "rows without a model can correct no rate: name the model whose replies were labelled"
        for label, measured in labels.items():
            if measured.n < FEW:
                yield f"{model}: {measured.n} scored labels for {label}, fewer than {FEW}: the intervals are wide"
            for kind, rate in (("yes", measured.sensitivity), ("no", measured.specificity)):
                if rate.n == 0:
                    yield f"{model}: no label says {kind} to {label}: rates cannot be corrected"
            if measured.unscored:
                yield f"{model}: {measured.unscored} labelled rows are unscored for {label}"


def _agreement(values: dict[str, Any]) -> LabelAgreement:
    return LabelAgreement(**values | {name: Rate(**values[name]) for name in ("sensitivity", "specificity")})
