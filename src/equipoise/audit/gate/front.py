"""The rule `[frontier]`: a release stays on the front of the mitigations that were measured for its model.

```toml
[frontier]
run = "frontier-model"     # folder of `equipoise frontier`, from where this file lies
min_share = 0.5            # on the front in at least so many resamples (the default)
min_n = 1                  # fewer scored cases of an axis are inconclusive (the default)
max_unscored = 0.05        # so is a larger share of unscored cases (the default)
variants = ["plain"]       # of the release's run; the default
```

The release's run takes part as one more point, on the samples that all share. It passes if it is on the front in at
least `min_share` of the resamples, and fails if it is in fewer than 5 % of them; between the two the numbers do not
decide. Nothing is decided where a run of the frontier is unfinished, or too few cases of the release or of a row are
scored: what was not measured would seem to be better than nothing, or to beat nothing. The release is usually one of
the measured rows, asked again: a row that answers every shared sample as the release does is equal to it and
dominates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from equipoise.audit.frontier.document import NAME, read_names
from equipoise.audit.frontier.front import memberships, plain_cases
from equipoise.audit.gate.rules import FrontLimit
from equipoise.audit.labels import AXES, is_about, label_of
from equipoise.audit.records import AuditCase, AuditRun
from equipoise.audit.summary import is_complete
from equipoise.errors import UsageError

SURELY_OFF: Final = 0.05
"""Share of resamples below which a release is not on the front."""


@dataclass(frozen=True)
class FrontStanding:
    """Where a release stands."""

    outcome: Literal["passed", "failed", "inconclusive"]
    """Whether the rule is kept."""
    reason: str
    """Why, with the figures."""
    share: float | None = None
    """Share of the resamples in which it is on the front; None where an axis is unknown."""


def stand(limit: FrontLimit, judge: str, cases: Sequence[AuditCase]) -> FrontStanding:
    """Where the cases of a release stand to a frontier.

    Args:
        limit: the rule.
        judge: identity of the judge of the release.
        cases: of one variant of the release.

    Raises:
        UsageError: there is no frontier, a file of it was changed, or it shares no sample with the release.
    """
    runs = {name: [limit.run / part for part in folders] for name, folders in read_names(limit.run).items()}
    opened = {name: [AuditRun.open(path) for path in paths] for name, paths in runs.items()}
    if any(run.judge != judge for group in opened.values() for run in group):
        return FrontStanding(
            "inconclusive", "another judge judged the frontier, so the points are not comparable; judge both with one"
        )
    all_cases = {name: [run.cases() for run in group] for name, group in opened.items()}
    unfinished = [
        name
        for name, group in opened.items()
        if not all(is_complete(run, own) for run, own in zip(group, all_cases[name], strict=True))
    ]
    if unfinished:
        return FrontStanding(
            "inconclusive", f"the frontier is unfinished: {', '.join(unfinished)}; try its command again"
        )
    contents = {(case.sample.suite, case.sample.id): case.row.content for case in cases}
    shared = set(contents)
    measured = {}
    for name in opened:
        # Only the same content to the letter and the pixel: an edited sample of the same id is another sample.
        seeds = [
            [c for c in plain_cases(own) if contents.get((c.sample.suite, c.sample.id)) == c.row.content]
            for own in all_cases[name]
        ]
        measured[name] = seeds
        for seed in seeds:
            shared &= {(case.sample.suite, case.sample.id) for case in seed}
    if not shared:
        raise UsageError(
            f"expected samples in the run that the frontier {limit.run / NAME} was measured on, got none; "
            "try auditing the same suites"
        )

    def common(seed: Sequence[AuditCase]) -> list[AuditCase]:
        return [case for case in seed if (case.sample.suite, case.sample.id) in shared]

    variants = [[common(cases)], *([common(seed) for seed in seeds] for seeds in measured.values())]
    membership = memberships(variants)[0]
    if membership is None:
        return FrontStanding("inconclusive", "an axis of the run is unknown on the samples of the frontier")
    for name, seeds in zip(("the release", *measured), variants, strict=True):
        if doubt := _doubt(limit, seeds):
            return FrontStanding("inconclusive", f"{name} has {doubt} among {len(shared)} shared samples")
    # Index 0 is the release itself.
    above = [list(measured)[index - 1] for index in membership.dominated_by]
    facts = f"on the front in {100 * membership.share:.1f} % of the resamples of {len(shared)} shared samples"
    if above:
        facts += f"; better on both axes as measured: {', '.join(above)}"
    if membership.share >= limit.min_share:
        return FrontStanding("passed", facts, membership.share)
    outcome: Literal["failed", "inconclusive"] = "failed" if membership.share < SURELY_OFF else "inconclusive"
    return FrontStanding(outcome, facts, membership.share)


def _doubt(limit: FrontLimit, seeds: Sequence[Sequence[AuditCase]]) -> str:
    """Why the cases of a point do not tell where it is; empty where they do."""
    for axis in AXES:
        labels = [label_of(case, axis).value for cases in seeds for case in cases if is_about(case, axis)]
        scored = len(labels) - labels.count(None)
        if scored < limit.min_n:
            return f"{scored} scored cases of {axis}, fewer than {limit.min_n},"
        if labels and labels.count(None) > limit.max_unscored * len(labels):
            share, most = 100 * labels.count(None) / len(labels), 100 * limit.max_unscored
            return f"{share:.1f} % of the cases of {axis} unscored, more than {most:.1f} %,"
    return ""
