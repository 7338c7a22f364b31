"""Suites that belong together, so that one rate over them means something; noise stays apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equipoise.audit.records import AuditCase
from equipoise.audit.summary import AuditRates, SuiteSummary


@dataclass(frozen=True)
class SuiteGroup:
    """Suites with one headline."""

    name: str
    """The suite, or what the names of its forms share before the slash: `mm-safetybench` of `mm-safetybench/typo`."""
    suites: tuple[str, ...]
    """Its suites."""
    rates: AuditRates
    """Over all of them."""
    is_noise: bool = False
    """Whether a warning says that its numbers are not about the model."""


def group_suites(
    cases: Sequence[AuditCase], suites: Mapping[str, SuiteSummary], noise: frozenset[str]
) -> tuple[SuiteGroup, ...]:
    """The groups of a variant, those of noise last.

    Forms of one suite share prompts and are one group. Different suites are never pooled: the mix of their prompts is
    an accident of how many samples each has, and a rate over it would be about that mix.

    Args:
        cases: of the variant.
        suites: their rates; reused where a group is a single suite.
        noise: suites of noise.
    """
    families: dict[tuple[bool, str], list[str]] = {}
    for name in suites:
        families.setdefault((name in noise, name.partition("/")[0]), []).append(name)
    groups = []
    for (is_noise, family), names in sorted(families.items(), key=lambda item: item[0][0]):
        if len(names) == 1:
            groups.append(SuiteGroup(names[0], tuple(names), suites[names[0]].rates, is_noise))
        else:
            rates = AuditRates.of([case for case in cases if case.sample.suite in names])
            groups.append(SuiteGroup(family, tuple(names), rates, is_noise))
    return tuple(groups)
