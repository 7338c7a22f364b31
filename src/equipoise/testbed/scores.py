"""How a model behaves in the embedded world: one rate for each promise of its card."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.judges.phrases import PhraseJudge
from equipoise.stats.proportions import Rate
from equipoise.testbed.world.drawing import draw
from equipoise.testbed.world.questions import CONDITIONS, Condition, WorldQuestion, sample_question
from equipoise.testbed.world.scenes import Scene
from equipoise.testbed.world.wordings import Family
from equipoise.types import ChatModel, Exchange, Prompt

HELD_OUT_STREAM = 101
"""First number of the seed of every held-out scene; training draws from another stream."""
MAX_NEW_TOKENS = 48


@dataclass(frozen=True)
class ReferenceCase:
    """One question about one scene, with the picture drawn."""

    scene: Scene
    """What is drawn."""
    question: WorldQuestion
    """What is asked and expected."""
    prompt: Prompt
    """As a model receives it."""


@dataclass(frozen=True)
class ConditionScores:
    """What a model did with the prompts of one cell."""

    cell: Condition
    """Which cell."""
    exact: Rate
    """Replies that equal the reference answer to the letter."""
    refused: Rate
    """Full or partial refusals by the structural judge; unscored replies are counted apart."""


def cases(cell: Condition, count: int, *, family: Family = "held_out", seed: int = 0) -> list[ReferenceCase]:
    """Scenes and questions of one cell that no training has seen."""
    drawn = []
    for index in range(count):
        rng = np.random.default_rng([HELD_OUT_STREAM, seed, CONDITIONS.index(cell), index])
        scene, question = sample_question(rng, cell, family)
        drawn.append(ReferenceCase(scene, question, Prompt.ask(question.text, draw(scene))))
    return drawn


def score_condition(
    model: ChatModel, cell: Condition, count: int, *, seed: int = 0, batch: int = 50
) -> ConditionScores:
    """Ask a model `count` held-out prompts of a cell."""
    asked = cases(cell, count, seed=seed)
    exchanges: list[Exchange] = []
    for start in range(0, count, batch):
        prompts = [case.prompt for case in asked[start : start + batch]]
        exchanges += model.generate(prompts, max_new_tokens=MAX_NEW_TOKENS)
    right = sum(exchange.reply.strip() == case.question.answer for exchange, case in zip(exchanges, asked, strict=True))
    return ConditionScores(cell, Rate.of(right, count), Rate.of_refusals(PhraseJudge()(exchanges)))


def score(model: ChatModel, count: int = 400, *, seed: int = 0) -> list[ConditionScores]:
    """Ask a model `count` held-out prompts of every cell."""
    return [score_condition(model, cell, count, seed=seed) for cell in CONDITIONS]
