"""Splits of samples into selection, development and test sets that share no related samples.

Two samples are *related* when they share a mark: a cluster (a prompt pair, a base picture) of one family of suites, the
same wording up to case and punctuation, thirteen words in a row, or a picture. Related samples are never in two parts;
`find_overlaps` looks for the same marks in any two sets, such as training rows and a suite. Questions for
perturbations have no clusters: `equipoise.data.questions` splits them, with the same notion of one wording.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from equipoise.data.questions import fold
from equipoise.errors import UsageError
from equipoise.types import Sample

OverlapKind = Literal["cluster", "wording", "13-gram", "picture"]
WORDS: Final = 13
"""Words in a row that count as an overlap, as is usual in checks of contamination (arXiv 2005.14165, appendix C)."""


@dataclass(frozen=True)
class SplitRule:
    """How the rows of a suite are divided."""

    by: Literal["cluster", "category"] = "cluster"
    """What stays together; categories that share clusters (a type and its contrasts) are then one."""
    development: float = 0.2
    """Share to choose settings on."""
    test: float = 0.4
    """Share to report on."""


RULES: Final[dict[str, SplitRule]] = {
    # Types of XSTest have patterns of their own: prompts of a type seen in training make the others of it easy.
    "xstest": SplitRule(by="category"),
    # Licensed as a test set only.
    "mossbench": SplitRule(development=0, test=1),
    # Ours to report with; nothing may be fitted to it.
    "everyday": SplitRule(development=0, test=1),
    "contrast": SplitRule(development=0, test=1),
}
"""By family (the name up to `/`); any other suite is divided by cluster, 40 / 20 / 40."""


@dataclass(frozen=True)
class SampleSplit:
    """Samples in three parts of which no two are related."""

    selection: tuple[Sample, ...]
    """To train, optimise or select on."""
    development: tuple[Sample, ...]
    """To choose settings on."""
    test: tuple[Sample, ...]
    """To report on, and for nothing else."""


@dataclass(frozen=True)
class Overlap:
    """Two related samples in parts that should have none."""

    kind: OverlapKind
    """What they share."""
    left: str
    """`SUITE ID` of one."""
    right: str
    """`SUITE ID` of the other."""


def split(samples: Sequence[Sample], *, seed: int = 0, rule: SplitRule | None = None) -> SampleSplit:
    """Divide the samples of one or several suites, by hash: the same everywhere, whatever the order.

    Forms of one family (`mm-safetybench/text`, `mm-safetybench/sd`, a typographic copy) fall in the same part. Shares
    are those of a draw, so few large groups may leave a part empty.

    Args:
        samples: all that must be kept apart, in one call.
        seed: another seed, another division.
        rule: for all of them; by default `RULES`.

    Raises:
        UsageError: shares that are no shares.
    """
    if rule is not None and (min(rule.development, rule.test) < 0 or rule.development + rule.test > 1):
        raise UsageError(
            f"expected shares of at least 0 with a sum of at most 1, got {rule.development}, {rule.test}; try 0.2, 0.4"
        )
    parts: dict[str, list[Sample]] = {"selection": [], "development": [], "test": []}
    for group in _groups(samples, rule):
        rules = [rule or _rule(samples[index]) for index in group]
        # Related samples of several suites go by the strictest rule: to the test part where one of them must.
        strictest = max(rules, key=lambda candidate: (candidate.test, -candidate.development))
        # The least name of a group stands for it, so that the order of the samples decides nothing.
        name = min(f"{_family(samples[i])} {samples[i].cluster or samples[i].id}" for i in group)
        part = _part(f"{seed} {name}", strictest)
        parts[part] += [samples[index] for index in group]
    return SampleSplit(*(tuple(parts[name]) for name in ("selection", "development", "test")))


def find_overlaps(left: Iterable[Sample], right: Iterable[Sample]) -> tuple[Overlap, ...]:
    """Every sample of `right` that is related to one of `left`, once for each kind; empty if the sets are apart."""
    # An index of the marks of one side: linear in both sets, where a comparison of all pairs would be quadratic.
    owners: dict[tuple[OverlapKind, str], Sample] = {}
    for sample in left:
        for mark in _marks(sample):
            owners.setdefault(mark, sample)
    # A dictionary instead of a set: it keeps the order of `right`.
    overlaps: dict[Overlap, None] = {}
    for sample in right:
        kinds: set[OverlapKind] = set()
        for mark in _marks(sample):
            if mark in owners and mark[0] not in kinds:
                kinds.add(mark[0])
                overlaps[Overlap(mark[0], _name(owners[mark]), _name(sample))] = None
    return tuple(overlaps)


def related_groups(samples: Sequence[Sample], *, by_category: bool) -> list[list[int]]:
    """Indices of samples that are related, directly or through others.

    Args:
        samples: all that are compared.
        by_category: whether samples of one category of a family are related.
    """
    return _groups(samples, SplitRule(by="category" if by_category else "cluster"))


def _marks(sample: Sample) -> Iterator[tuple[OverlapKind, str]]:
    yield "cluster", f"{_family(sample)} {sample.cluster or sample.id}"
    for picture in sample.pictures:
        yield "picture", picture.sha256
    # "Is there a dog?" about two pictures is no repetition; a request drawn into a picture is one of the same words.
    if not sample.pictures or sample.intent:
        words = fold(sample.request).split()
        yield "wording", " ".join(words)
        for start in range(len(words) - WORDS + 1):
            yield "13-gram", " ".join(words[start : start + WORDS])


def _groups(samples: Sequence[Sample], rule: SplitRule | None) -> list[list[int]]:
    """Indices of samples that are related, directly or through others: the components of a union-find forest."""
    parent = list(range(len(samples)))

    def root(index: int) -> int:
        while parent[index] != index:
            # Path halving keeps the trees flat.
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, sample in enumerate(samples):
        marks: list[tuple[str, str]] = list(_marks(sample))
        if (rule or _rule(sample)).by == "category":
            marks.append(("category", f"{_family(sample)} {sample.category}"))
        # Whoever has a mark first stands for all that have it. Being related is transitive here: A shares a picture
        # with B and B a wording with C, so A and C may not be in two parts either.
        for mark in marks:
            parent[root(index)] = root(first.setdefault(mark, index))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(samples)):
        groups[root(index)].append(index)
    return list(groups.values())


def _part(name: str, rule: SplitRule) -> str:
    """The part of a group: its hash as a uniform number in [0, 1), so that other samples change nothing."""
    number = int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16**12
    if number < rule.test:
        return "test"
    return "development" if number < rule.test + rule.development else "selection"


def _rule(sample: Sample) -> SplitRule:
    return RULES.get(_family(sample), SplitRule())


def _family(sample: Sample) -> str:
    return sample.suite.partition("/")[0]


def _name(sample: Sample) -> str:
    return f"{sample.suite} {sample.id}"
