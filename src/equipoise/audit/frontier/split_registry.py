"""`FrontierSplits`: which samples of a frontier may be fitted to, which are measured on, and that they stay apart."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from equipoise.data.catalogue import Suite
from equipoise.data.splits import Overlap, SampleSplit, find_overlaps, split
from equipoise.errors import UsageError
from equipoise.types import Sample


@dataclass(frozen=True)
class FrontierSplits:
    """The division of the samples of all suites."""

    suites: tuple[Suite, ...]
    """As they were loaded."""
    seed: int
    """Of the division."""
    parts: SampleSplit
    """Selection to fit on, development to choose settings on, test to report on."""

    @classmethod
    def of(cls, suites: Sequence[Suite], seed: int = 0) -> Self:
        """Divide the samples of suites.

        Raises:
            UsageError: no sample falls into the test part.
        """
        parts = split([sample for suite in suites for sample in suite.samples], seed=seed)
        if not parts.test:
            raise UsageError("expected samples in the test split, got none; try a larger --limit or another suite")
        return cls(tuple(suites), seed, parts)

    @property
    def test_suites(self) -> tuple[Suite, ...]:
        """The suites with their test samples alone, those that have any."""
        wanted = {(sample.suite, sample.id) for sample in self.parts.test}
        reduced = [
            replace(suite, samples=tuple(s for s in suite.samples if (s.suite, s.id) in wanted))
            for suite in self.suites
        ]
        return tuple(suite for suite in reduced if suite.samples)

    def leaks(self, samples: Iterable[Sample]) -> tuple[Overlap, ...]:
        """Every one of these samples that is related to a test sample: by cluster, wording, 13 words or picture."""
        return find_overlaps(self.parts.test, samples)

    def require_apart(self, name: str, samples: Iterable[Sample]) -> None:
        """Refuse a mitigation that was fitted on test samples, or on samples related to them.

        Raises:
            UsageError: it leaks.
        """
        overlaps = self.leaks(samples)
        if overlaps:
            first, count = overlaps[0], len({overlap.right for overlap in overlaps})
            raise UsageError(
                f"expected {name} fitted apart from the test split, got {count} related samples ({first.right} "
                f"shares its {first.kind} with {first.left}); try fitting on the selection split"
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


def read_declared(path: Path) -> tuple[Sample, ...]:
    """What a mitigation of the user was tuned on: a file of prompts, as samples to compare with the test split.

    Args:
        path: one prompt a line, or a table with a column `prompt` or `text`.

    Raises:
        UsageError: no such file, or no prompts in it.
    """
    from equipoise.steering.prompt_sets import read_prompts

    return tuple(
        Sample(str(number), f"declared:{path.name}", prompt.text, "borderline")
        for number, prompt in enumerate(read_prompts(path).prompts)
    )


def content_hash(samples: Iterable[Sample]) -> str:
    """A hash over what samples ask and expect, with their pictures."""
    digest = hashlib.sha256()
    for sample in samples:
        pictures = [picture.sha256 for picture in sample.pictures]
        digest.update(repr((sample.suite, sample.id, sample.text, sample.system, sample.expected, pictures)).encode())
    return digest.hexdigest()
