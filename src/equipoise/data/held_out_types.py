"""`SplitRegistry`: samples divided by whole types, and the check that nothing that is fitted holds a test sample."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from equipoise.data.splits import find_overlaps, related_groups, split
from equipoise.errors import UsageError
from equipoise.types import Sample


@dataclass(frozen=True)
class SplitRegistry:
    """Development and test samples that share no type and no related sample."""

    development: tuple[Sample, ...]
    """To choose on."""
    test: tuple[Sample, ...]
    """To report on, and for nothing else."""
    held_out: tuple[str, ...]
    """Types of the test samples."""

    @property
    def sha256(self) -> str:
        """Over suites and ids of both parts."""
        parts = [[f"{sample.suite} {sample.id}" for sample in part] for part in (self.development, self.test)]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def check_pool(self, rows: Iterable[Sample], what: str) -> None:
        """Refuse rows that are related to a test sample, or of a type that is held out.

        Args:
            rows: what is shown to a model or fitted to.
            what: what people call them.

        Raises:
            UsageError: a test sample is among them; the message names the first.
        """
        rows = tuple(rows)
        overlaps = find_overlaps(self.test, rows)
        if overlaps:
            first = overlaps[0]
            raise UsageError(
                f"expected {what} without test samples, got {len(overlaps)} related to them, {first.right} to "
                f"{first.left} by {first.kind}; try rows of other types, or none of this suite"
            )
        # The same type teaches its pattern, whatever the words are.
        shared = sorted({row.category for row in rows if row.category} & set(self.held_out))
        if shared:
            raise UsageError(
                f"expected {what} of types that are not held out, got rows of {', '.join(shared)}; "
                "try leaving these rows out"
            )


def split_by_types(samples: Sequence[Sample], held_out: Sequence[str] = (), *, seed: int = 0) -> SplitRegistry:
    """Divide samples into development and test by whole types.

    A type goes to the test part with all samples that are related to its own, so with the types of its contrasts.
    Without types, the parts are those of `splits.split`: development is what that calls selection and development.

    Args:
        samples: of one or several suites, all in one call.
        held_out: categories for the test part.
        seed: of the division without types.

    Raises:
        UsageError: a type that no sample has, or a part without samples.
    """
    if held_out:
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
    else:
        parts = split(samples, seed=seed)
        development, test = [*parts.selection, *parts.development], list(parts.test)
    if not development or not test:
        raise UsageError(
            f"expected samples to choose on and to report on, got {len(development)} and {len(test)}; "
            "try --held-out-types with fewer or other types, or another suite"
        )
    types = sorted({sample.category for sample in test if sample.category})
    return SplitRegistry(tuple(development), tuple(test), tuple(types))
