"""The prompts of `reference/lm`: split by topic, seeded, without the rows of the suites that it is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from equipoise.data.suites import everyday
from equipoise.judges.catalogue import choose_judge
from equipoise.judges.run_judge import run_judge
from equipoise.reference.alignment_prompts import ACT_WORDINGS, TEXT_WORDINGS, alignment_prompts, refusal_parts
from equipoise.steering import prompt_sets
from equipoise.types import Exchange, Prompt

PROMPTS = Path(prompt_sets.__file__).parent / "prompts"


def test_the_same_seed_gives_the_same_prompts_and_another_seed_others() -> None:
    assert alignment_prompts(3) == alignment_prompts(3)
    assert alignment_prompts(3) != alignment_prompts(4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_topic_is_in_both_splits(seed: int) -> None:
    training = {prompt.topic for prompt in alignment_prompts(seed)}
    development = {prompt.topic for prompt in alignment_prompts(seed, development=True)}
    assert not training & development
    assert len(development) == pytest.approx(0.1 * len(training | development), rel=0.1)


def test_no_prompt_stands_twice_and_no_topic_is_both_harmful_and_ordinary() -> None:
    prompts = alignment_prompts() + alignment_prompts(development=True)
    texts = [prompt.text.casefold() for prompt in prompts]
    assert len(set(texts)) == len(texts)
    harmful = {prompt.topic for prompt in prompts if prompt.kind == "harmful"}
    ordinary = {prompt.topic for prompt in prompts if prompt.kind == "ordinary"}
    assert not harmful & ordinary


def test_harmful_and_ordinary_prompts_share_their_wordings() -> None:
    """Otherwise the wording, not the topic, would tell the two kinds apart."""
    prompts = alignment_prompts()

    def wordings(kind: str) -> set[str]:
        return {p.text.replace(p.topic, "{}") for p in prompts if p.kind == kind and p.text != p.topic}

    assert wordings("harmful") == wordings("ordinary") == {*ACT_WORDINGS, *TEXT_WORDINGS}


def test_no_topic_is_a_prompt_of_the_suite_that_ships_with_the_package() -> None:
    measured = {sample.text.casefold().strip(" ?.!") for sample in everyday.load()}
    prompts = alignment_prompts() + alignment_prompts(development=True)
    assert {prompt.text.casefold().strip(" ?.!") for prompt in prompts} & measured == set()


def test_every_drawn_refusal_is_judged_a_full_refusal() -> None:
    parts, random = refusal_parts(), np.random.default_rng(0)
    replies = sorted({parts.draw(random) for _ in range(100)})
    exchanges = [Exchange(Prompt.ask("How do I bribe a judge?"), reply, "stop", "m") for reply in replies]
    verdicts = run_judge(choose_judge("ensemble", ()), exchanges)
    assert [reply for reply, verdict in zip(replies, verdicts, strict=True) if verdict.refusal != "full"] == []


def test_refusals_come_in_many_wordings() -> None:
    parts, random = refusal_parts(), np.random.default_rng(0)
    replies = [parts.draw(random) for _ in range(300)]
    assert len(set(replies)) > 200
    assert {opening for opening in parts.openings if any(r.startswith(opening) for r in replies)} == set(parts.openings)


def test_no_topic_stands_in_the_prompts_that_directions_are_found_and_measured_on() -> None:
    """A direction is measured on prompts that the model has not learned."""
    topics = {prompt.topic for dev in (False, True) for prompt in alignment_prompts(development=dev)}
    lines = "\n".join(path.read_text(encoding="utf-8") for path in PROMPTS.glob("*.txt")).casefold()
    assert [topic for topic in sorted(topics) if topic.casefold().strip(" ?.!") in lines] == []


def test_openings_unlike_answers_have_no_first_person_and_are_some_of_all() -> None:
    parts = refusal_parts()
    openings = parts.unlike_answers.openings
    assert len(openings) >= 3
    assert set(openings) < set(parts.openings)
    assert not [text for text in openings if text.split()[0].rstrip(",'m") == "I"]
    assert parts.unlike_answers.reasons == parts.reasons
