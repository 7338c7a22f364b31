"""Scores of a model in the embedded world: rates of right answers and of refusals in every condition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.judges.phrases import PhraseJudge
from equipoise.stats.proportions import Rate
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.questions import CONDITIONS, Condition, WorldQuestion, sample_question
from equipoise.testbed.world.scenes import Scene
from equipoise.testbed.world.wordings import Family
from equipoise.types import ChatModel, Exchange, Prompt

HELD_OUT_STREAM = 101
"""First number of the seed of every held-out scene; training draws from another stream."""
MAX_NEW_TOKENS = 48
"""Longer than any reference answer."""


@dataclass(frozen=True)
class ReferenceCase:
    """One question about one scene, with the picture drawn."""

    scene: Scene
    """What is drawn."""
    question: WorldQuestion
    """The question, with the exact answer and whether it should be answered."""
    prompt: Prompt
    """As a model receives it."""


@dataclass(frozen=True)
class ConditionScores:
    """What a model did with the prompts of one condition."""

    condition: Condition
    """Of the questions: safe or forbidden, and by what."""
    exact: Rate
    """Replies that equal the reference answer to the letter."""
    refused: Rate
    """Full or partial refusals by the structural judge; unscored replies are counted apart."""


def sample_cases(
    condition: Condition, count: int, *, family: Family = "held_out", seed: int = 0
) -> list[ReferenceCase]:
    """Held-out scenes and questions of one condition, with the pictures drawn."""
    drawn: list[ReferenceCase] = []
    for index in range(count):
        # A generator for each case: the first hundred cases are the same whether a hundred or a thousand are asked for.
        rng = np.random.default_rng([HELD_OUT_STREAM, seed, CONDITIONS.index(condition), index])
        scene, question = sample_question(rng, condition, family)
        drawn.append(ReferenceCase(scene, question, Prompt.ask(question.text, draw_scene(scene))))
    return drawn


def score_condition(
    model: ChatModel, condition: Condition, count: int, *, seed: int = 0, batch: int = 50
) -> ConditionScores:
    """Ask a model `count` held-out prompts of a condition."""
    drawn = sample_cases(condition, count, seed=seed)
    exchanges: list[Exchange] = []
    for start in range(0, count, batch):
        prompts = [case.prompt for case in drawn[start : start + batch]]
        exchanges += model.generate(prompts, max_new_tokens=MAX_NEW_TOKENS)
    right = sum(exchange.reply.strip() == case.question.answer for exchange, case in zip(exchanges, drawn, strict=True))
    return ConditionScores(condition, Rate.of(right, count), Rate.of_refusals(PhraseJudge()(exchanges)))


def score(model: ChatModel, count: int = 400, *, seed: int = 0) -> list[ConditionScores]:
    """Ask a model `count` held-out prompts of every condition."""
    return [score_condition(model, condition, count, seed=seed) for condition in CONDITIONS]
