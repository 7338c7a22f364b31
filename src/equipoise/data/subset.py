"""A seeded, stratified subset of a suite, of which a larger one is a superset."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from equipoise.types import Sample


def choose_subset(samples: Sequence[Sample], limit: int, *, seed: int = 0) -> list[Sample]:
    """A part of the samples in the shares of the whole, over category and what is expected.

    Contrast pairs (a cluster with different expectations) come whole; the last may be cut short by the limit. Clusters
    that merely share a picture are spread instead: one question of each before a second of any, as ten questions about
    one picture say less than ten pictures. The choice for a smaller limit is part of the choice for a larger one.

    Args:
        samples: all of a suite.
        limit: how many at most.
        seed: another seed, another choice.

    Returns:
        The chosen ones in their old order.
    """
    clusters: dict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        clusters[sample.cluster or sample.id].append(index)
    strata: dict[str, list[tuple[int, str, list[int]]]] = defaultdict(list)
    for name, members in clusters.items():
        for turn, unit in enumerate(_units(samples, members, seed)):
            stratum = " ".join(sorted({f"{samples[i].category}/{samples[i].expected}" for i in unit}))
            strata[stratum].append((turn, _order(seed, name), unit))
    ranked = []
    for stratum, units in strata.items():
        units.sort()
        # The i-th of k units ranks at (i + 0.5) / k, so that any beginning of the merged ranking has every stratum in
        # its share.
        for index, (_, _, unit) in enumerate(units):
            ranked.append(((index + 0.5) / len(units), _order(seed, stratum), unit))
    # One order of all samples; a limit takes its beginning, so that a larger limit only adds.
    ranked.sort()
    chosen = [index for _, _, unit in ranked for index in unit][:limit]
    return [samples[index] for index in sorted(chosen)]


def _units(samples: Sequence[Sample], members: list[int], seed: int) -> list[list[int]]:
    """What is chosen together: a whole contrast pair, else single samples in a seeded order."""
    if len({samples[index].expected for index in members}) > 1:
        return [members]
    return [[index] for index in sorted(members, key=lambda index: _order(seed, samples[index].id))]


def _order(seed: int, name: str) -> str:
    """A sort key that looks random and is the same on every machine."""
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
