"""The direction that makes a model refuse where it is added: for steering under a condition.

The search of `find_direction` wants one direction that ends refusals when it is ablated and brings them when the
difference in means is added once. In small models different layers do the two, and once is not enough. Conditional
steering ablates nothing, so that only the second is asked for here, of the model's own replies, with the least multiple
that does it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from equipoise.steering.batch_work import reply_rows
from equipoise.steering.candidates import Candidate, prune
from equipoise.steering.direction import Direction
from equipoise.steering.edits import add
from equipoise.steering.find import DirectionSearch, FindResult
from equipoise.steering.prompt_sets import PromptSet
from equipoise.steering.refusal_candidates import RefusalCandidates, prepare_candidates
from equipoise.types import Prompt

COEFFICIENTS: Final = (1.0, 1.5, 2.0, 3.0)
"""Multiples of the difference in means that are tried, the least first: a large one breaks the language of a model."""
FINALISTS: Final = 4
"""Candidates whose replies are read: those under which refusals are likeliest."""
PROMPTS: Final = 24
"""Validation prompts that the model answers, whose replies are read, at most."""
LONGEST: Final = 600
"""Characters of such a prompt, at most, where enough are that short: a few documents would take most of the time."""
ENOUGH: Final = 0.8
"""Share of them that has to be refused for the search to end."""
LEAST: Final = 0.5
"""Share below which there is no direction."""


@dataclass(frozen=True)
class AddedDirection:
    """A direction to add, or why there is none."""

    direction: Direction | None
    """Its vector holds the multiple of the difference in means that is added."""
    reason: str | None
    """Why there is none."""
    coefficient: float = 1.0
    """The multiple."""
    refused: int = 0
    """Prompts that the model answers as it is and refuses with the direction added."""
    prompts: int = 0
    """Of so many."""


def find_added_direction(search: DirectionSearch, harmful: PromptSet, harmless: PromptSet) -> AddedDirection:
    """The direction and the least multiple of it under which the model refuses what it would answer.

    Args:
        search: the model and how to look; stages of `find_direction` are read where they are finished.
        harmful: prompts that the model should refuse.
        harmless: prompts that it answers.
    """
    prepared = prepare_candidates(search, harmful, harmless, {})
    if isinstance(prepared, str):
        return AddedDirection(None, prepared)
    finalists = sorted(_scored(search, prepared), key=lambda one: -(one.induce or 0.0))[:FINALISTS]
    best: tuple[int, float, Candidate] | None = None
    count = len(_read_prompts(prepared))
    for coefficient in COEFFICIENTS:
        for candidate in finalists:
            refused = _refused(search, prepared, candidate, coefficient)
            if best is None or refused > best[0]:
                best = refused, coefficient, candidate
        # The best of a multiple, not the first that is good enough: they cost the language alike.
        if best is not None and best[0] >= ENOUGH * count:
            break
    if best is None or best[0] < LEAST * count:
        most = "no candidate" if best is None else f"at most {best[0]} of {count}"
        return AddedDirection(None, f"{most} answered prompts are refused with a direction added", prompts=count)
    refused, coefficient, candidate = best
    direction = Direction(
        prepared.differences[candidate.layer, candidate.position] * coefficient,
        layer=candidate.layer,
        position=candidate.position,
        model=search.steerable.name,
        revision=search.steerable.revision,
        kind="refusal",
        data={"harmful": harmful.sha256, "harmless": harmless.sha256},
        metrics={"auroc": candidate.auroc, "induce": candidate.induce or 0.0},
        details={"coefficient": coefficient, "refused": refused, "prompts": count},
    )
    return AddedDirection(direction, None, coefficient, refused, count)


def direction_to_add(
    search: DirectionSearch, result: FindResult, harmful: PromptSet, harmless: PromptSet
) -> tuple[Direction | None, AddedDirection | None]:
    """What steering under a condition adds: the refusal direction, or where there is none one that brings refusals.

    Returns:
        The direction, and what the second search gave where it was needed.
    """
    if result.direction is not None:
        return result.direction, None
    added = find_added_direction(search, harmful, harmless)
    return added.direction, added


def _read_prompts(prepared: RefusalCandidates) -> list[Prompt]:
    """The prompts whose replies are read: the short ones first."""
    return sorted(prepared.answered, key=lambda prompt: len(prompt.text) > LONGEST)[:PROMPTS]


def _scored(search: DirectionSearch, prepared: RefusalCandidates) -> list[Candidate]:
    """The best separated candidates with the log-odds of a refusal of answered prompts while each is added once."""
    pruned = prune(prepared.ranked, search.settings.keep)
    scored = []
    for number, candidate in enumerate(pruned):
        name = f"added-score{candidate.layer}{candidate.position}"
        induce: float | None = search.stages.get(name, float)
        if induce is None:
            vector = prepared.differences[candidate.layer, candidate.position]
            with add(search.steerable, vector, layers=[candidate.layer]):
                induce = float(prepared.scorer.sweep(_read_prompts(prepared))[0].mean())
            search.stages.put(name, induce)
        scored.append(replace(candidate, induce=induce))
        search.progress("added candidates", number + 1, len(pruned))
    return scored


def _refused(search: DirectionSearch, prepared: RefusalCandidates, candidate: Candidate, coefficient: float) -> int:
    """How many answered prompts are refused with a multiple of a candidate added, by the judge of the search."""
    name = f"added-texts{candidate.layer}{candidate.position}-{coefficient:g}"
    rows: list[dict[str, Any]] | None = search.stages.get(name, list)
    if rows is None:
        vector = prepared.differences[candidate.layer, candidate.position]
        prompts = _read_prompts(prepared)
        with add(search.steerable, vector, layers=[candidate.layer], coefficient=coefficient):
            rows = reply_rows(search.steerable, search.judge, prompts, search.settings.reply_tokens)
        search.stages.put(name, rows)
    return sum(row["refused"] is True for row in rows)
