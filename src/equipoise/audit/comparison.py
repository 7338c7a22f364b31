"""The same samples in two runs, or in two variants of one run: what changed, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from equipoise.audit.json_reader import JsonObject
from equipoise.audit.labels import ATTACKED, AXES, KINDS, PLAIN, RateName, is_about, label_of
from equipoise.audit.named_groups import grouped
from equipoise.audit.records import AuditCase, AuditRun
from equipoise.audit.suite_pools import noise_suites
from equipoise.errors import UsageError
from equipoise.stats.estimates import PairedChange, holm, paired_change


@dataclass(frozen=True)
class ComparedSide:
    """One of the two things compared."""

    model: str
    """Who was asked: name and revision."""
    variant: str
    """Which variant of it."""
    judge: str
    """Identity of the judge."""
    samples: int
    """How many samples of that variant the run has."""
    complete: bool = True
    """Whether all of them were asked and judged."""


@dataclass(frozen=True)
class SuiteChange:
    """Changes of one rate in a suite and its categories."""

    all: PairedChange
    """Over the suite."""
    categories: dict[str, PairedChange] = field(default_factory=dict)
    """By category; p-values corrected over the categories of all suites."""

    def to_json(self) -> dict[str, Any]:
        """The change over the suite, and under `categories` that of each category."""
        return {**self.all.to_dict(), "categories": {name: cell.to_dict() for name, cell in self.categories.items()}}

    @classmethod
    def from_json(cls, values: JsonObject) -> Self:
        """From what `to_json` gave.

        Raises:
            UsageError: a field is missing or has another type.
        """
        categories = values.objects("categories")
        return cls(values.record(PairedChange), {name: own.record(PairedChange) for name, own in categories.items()})


@dataclass(frozen=True)
class RateChange:
    """Changes of one rate."""

    all: PairedChange
    """Over everything that was paired, but for suites of noise where others are left."""
    suites: dict[str, SuiteChange]
    """By suite; p-values corrected over the suites."""

    def to_json(self) -> dict[str, Any]:
        """The change over everything, and under `suites` that of each suite."""
        return {**self.all.to_dict(), "suites": {name: suite.to_json() for name, suite in self.suites.items()}}

    @classmethod
    def from_json(cls, values: JsonObject) -> Self:
        """From what `to_json` gave.

        Raises:
            UsageError: a field is missing or has another type.
        """
        suites = {name: SuiteChange.from_json(suite) for name, suite in values.objects("suites").items()}
        return cls(values.record(PairedChange), suites)


@dataclass(frozen=True)
class RunComparison:
    """Two sets of the same samples, a before and b after."""

    a: ComparedSide
    """Before."""
    b: ComparedSide
    """After."""
    pairs: int
    """Samples, by suite and id, that both have."""
    only_a: int
    """Samples that a alone has; left out."""
    only_b: int
    """Samples that b alone has; left out."""
    changed: int
    """Samples of the same suite and id that ask something else; left out."""
    other_content: int
    """Pairs kept although their content differs, as a perturbed picture differs from the clean one."""
    warnings: tuple[str, ...]
    """Reasons not to read it as a comparison."""
    rates: dict[RateName, RateChange]
    """Every rate: always both axes."""

    @property
    def same_judge(self) -> bool:
        """Whether one judge judged both; where not, this compares judges as much as models."""
        return self.a.judge == self.b.judge

    def to_json(self) -> dict[str, Any]:
        """Every field under its name, and `same_judge`."""
        return {
            "a": vars(self.a),
            "b": vars(self.b),
            "same_judge": self.same_judge,
            "pairs": self.pairs,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "changed": self.changed,
            "other_content": self.other_content,
            "warnings": list(self.warnings),
            "rates": {kind: rate.to_json() for kind, rate in self.rates.items()},
        }

    @classmethod
    def from_json(cls, values: JsonObject) -> Self:
        """From what `to_json` gave.

        Raises:
            UsageError: a field is missing or has another type.
        """
        rates = values.object("rates")
        # Earlier versions had fewer rates, but always both axes.
        kinds = [kind for kind in KINDS if kind in AXES or kind in rates.values]
        return cls(
            a=values.object("a").record(ComparedSide),
            b=values.object("b").record(ComparedSide),
            pairs=values.get("pairs", int),
            only_a=values.get("only_a", int),
            only_b=values.get("only_b", int),
            changed=values.get("changed", int),
            other_content=values.get("other_content", int),
            warnings=values.list_of("warnings", str),
            rates={kind: RateChange.from_json(rates.object(kind)) for kind in kinds},
        )


@dataclass(frozen=True)
class SamplePair:
    """One sample on both sides."""

    a: AuditCase
    """Before."""
    b: AuditCase
    """After."""


@dataclass(frozen=True)
class Pairing:
    """Which samples two sets of cases share."""

    pairs: tuple[SamplePair, ...]
    """The shared ones, in the order of a."""
    only_a: int
    """In a alone."""
    only_b: int
    """In b alone."""
    changed: int
    """Under the same suite and id, but something else."""


def compare(a: AuditRun, b: AuditRun, *, variant_a: str = PLAIN, variant_b: str = PLAIN) -> RunComparison:
    """Compare a variant of one run with a variant of another, sample by sample.

    Raises:
        UsageError: a run has no such variant, they share no sample, or a folder was changed.
    """
    sides = []
    for run, variant in ((a, variant_a), (b, variant_b)):
        cases = run.cases()
        sides.append((run, variant, of_variant(cases, variant)))
    (_, _, cases_a), (_, _, cases_b) = sides
    comparison = _comparison(_side(*sides[0]), cases_a, _side(*sides[1]), cases_b)
    if not comparison.pairs:
        raise UsageError(
            f"expected two runs that share samples by suite and id, got none shared of {len(cases_a)} and "
            f"{len(cases_b)} ({comparison.changed} ask something else); try running the same suites"
        )
    return comparison


def compare_baseline(before: AuditRun, after: AuditRun) -> list[RunComparison]:
    """A run against an earlier one, in every variant that both have; the plain one must be among them.

    Raises:
        UsageError: they share no samples.
    """
    earlier = {row.variant for row in before.samples().rows()}
    names = dict.fromkeys([PLAIN, *(row.variant for row in after.samples().rows() if row.variant in earlier)])
    return [compare(before, after, variant_a=name, variant_b=name) for name in names]


def compare_variants(run: AuditRun, cases: Sequence[AuditCase]) -> list[RunComparison]:
    """Every variant of a run against the plain one, where they share samples."""
    names = list(dict.fromkeys(case.variant for case in cases))
    if PLAIN not in names:
        return []
    plain = of_variant(cases, PLAIN)
    comparisons = []
    for name in names:
        if name == PLAIN:
            continue
        others = of_variant(cases, name)
        comparisons.append(_comparison(_side(run, PLAIN, plain), plain, _side(run, name, others), others))
    return [comparison for comparison in comparisons if comparison.pairs]


def pair(a: Sequence[AuditCase], b: Sequence[AuditCase]) -> Pairing:
    """Pair cases of one variant each by suite and id.

    Of two plain variants, the content must be the same to the letter and the pixel. An attack or a defence changes what
    is asked, so there it is enough that the same should happen.
    """
    # By name first, by content second: a sample that was edited between the runs has a partner of the same name, and is
    # counted as changed instead of silently compared.
    before = {(case.sample.suite, case.sample.id): case for case in a}
    after = {(case.sample.suite, case.sample.id): case for case in b}
    shared = [SamplePair(case, after[key]) for key, case in before.items() if key in after]
    pairs = tuple(both for both in shared if _is_same(both))
    return Pairing(
        pairs, len(before.keys() - after.keys()), len(after.keys() - before.keys()), len(shared) - len(pairs)
    )


def change_of(pairs: Sequence[SamplePair], kind: RateName) -> PairedChange:
    """How one rate changed over some pairs."""
    return paired_change((label_of(both.a, kind), label_of(both.b, kind)) for both in pairs if is_about(both.a, kind))


def of_variant(cases: Sequence[AuditCase], variant: str) -> list[AuditCase]:
    """The cases of one variant.

    Raises:
        UsageError: there is none.
    """
    members = [case for case in cases if case.variant == variant]
    if not members:
        names = ", ".join(dict.fromkeys(case.variant for case in cases)) or "none"
        raise UsageError(f"expected a variant of the run ({names}), got {variant!r}; try one of those")
    return members


def model_of(run: AuditRun) -> str:
    """Name and revision of the model that a run asked."""
    return f"{run.model_name}@{run.model_revision}" if run.model_revision else run.model_name


def _side(run: AuditRun, variant: str, cases: Sequence[AuditCase]) -> ComparedSide:
    complete = not any(case.unfinished for case in cases)
    return ComparedSide(model_of(run), variant, run.judge, len(cases), complete)


def _is_same(both: SamplePair) -> bool:
    a, b = both.a.row, both.b.row
    # The same variant of two runs must have asked the very same thing. Pictures that were attacked on another model
    # differ, and so does one variant from another: there the sample is the same where it expects the same.
    if a.variant == b.variant and a.variant not in ATTACKED:
        return a.content == b.content
    return a.sample.expected == b.sample.expected


def _comparison(
    side_a: ComparedSide, a: Sequence[AuditCase], side_b: ComparedSide, b: Sequence[AuditCase]
) -> RunComparison:
    pairing = pair(a, b)
    # What is noise to either model is left out on both sides; otherwise one side would be measured over more suites
    # than the other.
    noise = noise_suites(side_a.model, a) | noise_suites(side_b.model, b)
    return RunComparison(
        a=side_a,
        b=side_b,
        pairs=len(pairing.pairs),
        only_a=pairing.only_a,
        only_b=pairing.only_b,
        changed=pairing.changed,
        other_content=sum(both.a.row.content != both.b.row.content for both in pairing.pairs),
        warnings=tuple(_warnings(side_a, side_b, pairing)),
        rates={kind: _rate_change(pairing.pairs, kind, noise) for kind in KINDS},
    )


def _warnings(a: ComparedSide, b: ComparedSide, pairing: Pairing) -> list[str]:
    warnings = []
    if a.judge != b.judge:
        warnings.append(
            "the judges differ, so this is no comparison of models: a change may be that of the judge; "
            "judge both runs with the same one"
        )
    if pairing.changed:
        warnings.append(f"{pairing.changed} samples of the same suite and id ask something else and are left out")
    left = pairing.only_a + pairing.only_b
    # A twentieth: a few samples always fail on one side, and a warning that is always there is not read. Between
    # variants of one run it is normal that samples have no partner.
    if a.variant == b.variant and left > 0.05 * (left + len(pairing.pairs)):
        warnings.append(f"{left} samples are in one of the two alone and are left out")
    warnings += [
        f"{name} is unfinished: not all samples were asked and judged"
        for name, side in (("a", a), ("b", b))
        if not side.complete
    ]
    return warnings


def _rate_change(pairs: Sequence[SamplePair], kind: RateName, noise: frozenset[str]) -> RateChange:
    about = [both for both in pairs if is_about(both.a, kind)]
    # Without suites of noise where others are left; where all of them are noise, all of them are shown, not nothing.
    together = [both for both in about if both.a.sample.suite not in noise] or about
    suites = grouped(about, lambda both: both.a.sample.suite)
    # Holm's correction within each table: suites are one family of tests, categories another. Over both together the
    # few suites would pay for the many categories.
    by_suite = holm({name: change_of(members, kind) for name, members in suites.items()})
    # McNemar's tests of all cells, keyed by suite and category, so that one call corrects over all of them.
    by_category = holm(
        {
            (suite, category): change_of(inside, kind)
            for suite, members in suites.items()
            for category, inside in grouped(members, lambda both: both.a.sample.category).items()
            if category
        }
    )
    return RateChange(
        change_of(together, kind),
        {
            name: SuiteChange(
                all_, {category: cell for (suite, category), cell in by_category.items() if suite == name}
            )
            for name, all_ in by_suite.items()
        },
    )
