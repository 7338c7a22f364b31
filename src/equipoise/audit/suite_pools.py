"""Which suites of a run may be pooled: those whose numbers are about the model. The rest is noise, and stays apart.

The summary, the console's table, the gate and the page all take their rates over several suites from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from equipoise.audit.records import AuditCase


def noise_suites(model: str, cases: Iterable[AuditCase]) -> frozenset[str]:
    """Suites whose numbers say nothing about a model: those of a world that it was not made for.

    A model of the embedded world knows that world alone. `reference/mllm` knows English, and of pictures its scenes.

    Args:
        model: the name of the model under test.
        cases: of its run.
    """
    # By the model's name: its card says which world it was made for, and no statistic of its replies could tell a wrong
    # answer from an answer about another world.
    if model.startswith("testbed/"):
        return frozenset(case.sample.suite for case in cases) - {"testbed"}
    if model.startswith("reference/mllm"):
        return frozenset(case.sample.suite for case in cases if case.pictures) - {"scenes"}
    return frozenset()


def pooled(cases: Sequence[AuditCase], noise: frozenset[str]) -> list[AuditCase]:
    """The cases that a rate over several suites is about: those of no noise, or all where nothing else is left."""
    kept = [case for case in cases if case.sample.suite not in noise]
    return kept or list(cases)


def left_out(cases: Iterable[AuditCase], kept: Iterable[AuditCase]) -> list[str]:
    """The suites of some cases that are not among those kept, sorted."""
    return sorted({case.sample.suite for case in cases} - {case.sample.suite for case in kept})
