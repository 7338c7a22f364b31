"""From audit runs to the front: the labels of all variants, aligned by sample, and what the bootstrap says of them.

Nothing here imports torch or inspect: the page and the gate read folders only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from equipoise.audit.comparison import pair
from equipoise.audit.labels import AXES, PERTURBED, PLAIN, RateName, is_about, label_of
from equipoise.audit.records import AuditCase
from equipoise.stats.estimates import CaseLabel, Estimate, PairedChange, estimate, holm, paired_change
from equipoise.stats.pareto import AxisLabels, FrontMembership, front_membership
from equipoise.stats.sign_flips import sign_flip_p

Cases = Sequence[Sequence[AuditCase]]
"""The cases of one variant, for each seed."""
CaseKey = tuple[str, str]
"""Suite and id of a sample."""


def plain_cases(cases: Sequence[AuditCase]) -> list[AuditCase]:
    """Those about the samples as they are."""
    return [case for case in cases if case.variant == PLAIN]


def attacked_cases(cases: Sequence[AuditCase]) -> list[AuditCase]:
    """Those about attacked pictures; through the mitigation where the run's model is mitigated."""
    return [case for case in cases if case.variant == PERTURBED]


def pooled_estimate(seeds: Cases, kind: RateName) -> Estimate:
    """A rate over all seeds; a sample measured with several seeds is one cluster, so that `n` buys no certainty."""
    return estimate(label_of(case, kind) for cases in seeds for case in cases if is_about(case, kind))


def axis_labels(variants: Sequence[Cases], kind: RateName) -> AxisLabels:
    """The labels of one axis, a row for each variant, over the samples that any of them has."""
    keys: dict[CaseKey, str] = {}
    tables: list[dict[CaseKey, list[bool]]] = []
    for seeds in variants:
        table: dict[CaseKey, list[bool]] = {}
        for cases in seeds:
            for case in cases:
                if is_about(case, kind):
                    label = label_of(case, kind)
                    key = (case.sample.suite, case.sample.id)
                    keys.setdefault(key, label.cluster)
                    if label.value is not None:
                        table.setdefault(key, []).append(label.value)
        tables.append(table)
    # `variants x samples`. NaN marks a sample that a variant has no label for; a value between 0 and 1 is a mean over
    # seeds. The front's bootstrap draws columns (clusters of samples), the same for all rows.
    values = np.full((len(variants), len(keys)), np.nan)
    for row, table in enumerate(tables):
        for column, key in enumerate(keys):
            if key in table:
                values[row, column] = float(np.mean(table[key]))
    return AxisLabels(values, tuple(keys.values()))


def memberships(variants: Sequence[Cases], *, attacked: Sequence[Cases] | None = None) -> list[FrontMembership | None]:
    """How each variant stands to the front.

    Args:
        variants: their cases about the samples as they are.
        attacked: their cases about attacked pictures, for a third axis: needless refusals there.
    """
    axes = [axis_labels(variants, axis) for axis in AXES]
    if attacked is not None:
        axes.append(axis_labels(attacked, AXES[0]))
    return front_membership(axes)


def paired_with_plain(plain: Sequence[AuditCase], seeds: Cases, kind: RateName) -> PairedChange:
    """The change of a rate from the plain model to a variant, on the same samples.

    With several seeds the change and its interval are over all of them, clustered by sample. McNemar's test takes pairs
    as independent, which three replies to one prompt are not: there p is of sign flips of whole clusters.
    """
    by_seed = [
        [
            (label_of(both.a, kind), label_of(both.b, kind))
            for both in pair(plain, cases).pairs
            if is_about(both.a, kind)
        ]
        for cases in seeds
    ]
    whole = paired_change(_flat(by_seed))
    if len(by_seed) < 2:
        return whole
    sums: dict[str, float] = {}
    for before, after in _flat(by_seed):
        if before.value is not None and after.value is not None:
            sums[before.cluster] = sums.get(before.cluster, 0.0) + float(after.value) - float(before.value)
    return replace(whole, p=sign_flip_p(list(sums.values())))


def changed_replies(plain: Sequence[AuditCase], seeds: Cases) -> tuple[int, int]:
    """How many replies of a variant, over all seeds, are other words than the plain model's, and of how many."""
    words = [
        (both.a.reply.reply, both.b.reply.reply)
        for cases in seeds
        for both in pair(plain, cases).pairs
        if both.a.reply is not None and both.b.reply is not None
    ]
    return sum(before != after for before, after in words), len(words)


def corrected(changes: Mapping[tuple[str, RateName], PairedChange]) -> dict[tuple[str, RateName], PairedChange]:
    """The changes of all variants on both axes as one family of tests, with Holm's correction."""
    return holm(changes)


def _flat(groups: Sequence[Sequence[tuple[CaseLabel, CaseLabel]]]) -> list[tuple[CaseLabel, CaseLabel]]:
    return [pair_ for group in groups for pair_ in group]
