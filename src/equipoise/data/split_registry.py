"""`SplitRegistry`: which samples may be fitted to or chosen on, which are reported on, and that they stay apart.

The frontier and the selection of prompts both divide their samples with it, and hold what is fitted against it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from equipoise.data.catalogue import Suite
from equipoise.data.splits import Overlap, SampleSplit, find_overlaps, related_groups, split
from equipoise.errors import UsageError
from equipoise.types import Sample


@dataclass(frozen=True)
class SplitRegistry:
    """The division of samples into parts that share no related sample."""

    parts: SampleSplit
    """Selection to fit on, development to choose settings on, test to report on."""
    held_out: tuple[str, ...] = ()
    """Types of the test samples that no other part has; empty where samples were not divided by types."""
    suites: tuple[Suite, ...] = ()
    """As they were loaded; empty where only samples were given."""
    seed: int = 0
    """Of the division."""

    @classmethod
    def of(cls, suites: Sequence[Suite], seed: int = 0) -> Self:
        """Divide the samples of suites by their own rules.

        Raises:
            UsageError: no sample falls into the test part.
        """
        parts = split([sample for suite in suites for sample in suite.samples], seed=seed)
        if not parts.test:
            raise UsageError("expected samples in the test split, got none; try a larger --limit or another suite")
        return cls(parts, (), tuple(suites), seed)

    @property
    def tuning(self) -> tuple[Sample, ...]:
        """All samples but those of the test part: what may be fitted to and chosen on."""
        return (*self.parts.selection, *self.parts.development)

    @property
    def test(self) -> tuple[Sample, ...]:
        """To report on, and for nothing else."""
        return self.parts.test

    @property
    def test_suites(self) -> tuple[Suite, ...]:
        """The suites with their test samples alone, those that have any."""
        wanted = {(sample.suite, sample.id) for sample in self.test}
        # Whole suites with fewer samples, not loose samples: the audit hashes and reports by suite.
        reduced = [
            replace(suite, samples=tuple(s for s in suite.samples if (s.suite, s.id) in wanted))
            for suite in self.suites
        ]
        return tuple(suite for suite in reduced if suite.samples)

    @property
    def sha256(self) -> str:
        """Over suites and ids of the tuning samples and of the test part."""
        parts = [[f"{sample.suite} {sample.id}" for sample in part] for part in (self.tuning, self.test)]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def leaks(self, samples: Iterable[Sample]) -> tuple[Overlap, ...]:
        """Every one of these samples that is related to a test sample: by cluster, wording, 13 words or picture."""
        return find_overlaps(self.test, samples)

    def require_apart(self, what: str, samples: Iterable[Sample]) -> None:
        """Refuse samples that are related to a test sample, or of a type that is held out.

        Args:
            what: what shows them to a model or was fitted to them, as people call it.
            samples: that it used.

        Raises:
            UsageError: it leaks; the message names the first.
        """
        samples = tuple(samples)
        overlaps = self.leaks(samples)
        if overlaps:
            first, count = overlaps[0], len({overlap.right for overlap in overlaps})
            raise UsageError(
                f"expected {what} apart from the test split, got {count} related samples ({first.right} shares its "
                f"{first.kind} with {first.left}); try fitting on other samples"
            )
        # The same type teaches its pattern, whatever the words are.
        shared = sorted({sample.category for sample in samples if sample.category} & set(self.held_out))
        if shared:
            raise UsageError(
                f"expected {what} of types that are not held out, got samples of {', '.join(shared)}; "
                "try leaving these out"
            )

    def to_json(self) -> dict[str, Any]:
        """Seed, a hash of the test part, and the size of every part by suite."""
        counts = {
            name: Counter(sample.suite for sample in getattr(self.parts, name))
            for name in ("selection", "development", "test")
        }
        suites = dict.fromkeys(sample.suite for suite in self.suites for sample in suite.samples)
        return {
            "seed": self.seed,
            "test_sha256": Suite("test", self.parts.test, "").sha256,
            "selection_sha256": Suite("selection", self.parts.selection, "").sha256,
            "suites": [{"name": name, **{part: counts[part][name] for part in counts}} for name in suites],
        }


def split_by_types(samples: Sequence[Sample], held_out: Sequence[str] = (), *, seed: int = 0) -> SplitRegistry:
    """Divide samples into development and test by whole types.

    A type goes to the test part with all samples that are related to its own, so with the types of its contrasts.
    Without types, the parts are those of `splits.split`.

    Args:
        samples: of one or several suites, all in one call.
        held_out: categories for the test part.
        seed: of the division without types.

    Raises:
        UsageError: a type that no sample has, or a part without samples.
    """
    parts = _parts_by_types(samples, held_out) if held_out else split(samples, seed=seed)
    types = sorted({sample.category for sample in parts.test if sample.category})
    registry = SplitRegistry(parts, tuple(types), seed=seed)
    if not registry.tuning or not registry.test:
        raise UsageError(
            f"expected samples to choose on and to report on, got {len(registry.tuning)} and {len(registry.test)}; "
            "try --held-out-types with fewer or other types, or another suite"
        )
    return registry


def _parts_by_types(samples: Sequence[Sample], held_out: Sequence[str]) -> SampleSplit:
    known = {sample.category for sample in samples if sample.category}
    missing = [name for name in held_out if name not in known]
    if missing:
        names = ", ".join(sorted(known)) or "none at all"
        raise UsageError(f"expected types to hold out among {names}, got {', '.join(missing)}; try one of these")
    test: list[Sample] = []
    development: list[Sample] = []
    for group in related_groups(samples, by_category=True):
        members = [samples[i] for i in group]
        chosen = any(sample.category in held_out for sample in members)
        (test if chosen else development).extend(members)
    return SampleSplit((), tuple(development), tuple(test))


def content_hash(samples: Iterable[Sample]) -> str:
    """A hash over what samples ask and expect, with their pictures."""
    digest = hashlib.sha256()
    for sample in samples:
        pictures = [picture.sha256 for picture in sample.pictures]
        digest.update(repr((sample.suite, sample.id, sample.text, sample.system, sample.expected, pictures)).encode())
    return digest.hexdigest()
