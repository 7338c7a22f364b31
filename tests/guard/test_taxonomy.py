"""Kinds of harm of every guard in OpenAI's categories."""

from __future__ import annotations

import pytest

from equipoise.guard.taxonomy import OPENAI_CATEGORIES, openai_categories
from equipoise.judges.guard_models import HAZARDS

WITHOUT = {"specialized advice", "privacy", "intellectual property", "elections"}


@pytest.mark.parametrize("hazard", HAZARDS.values())
def test_every_hazard_has_a_category_or_openai_has_none(hazard: str) -> None:
    scores = openai_categories({hazard: 0.7})
    assert set(scores) <= set(OPENAI_CATEGORIES)
    assert set(scores.values()) == (set() if hazard in WITHOUT else {0.7})


def test_openais_own_names_stand_for_themselves_in_any_case() -> None:
    assert openai_categories({"Self-Harm/Intent": 0.4, "violence": 0.2}) == {"self-harm/intent": 0.4, "violence": 0.2}


def test_the_highest_kind_counts() -> None:
    assert openai_categories({"non-violent crimes": 0.2, "violent crimes": 0.9})["illicit"] == 0.9
    assert openai_categories({"non-violent crimes": 0.9, "violent crimes": 0.2})["illicit"] == 0.9
    assert openai_categories({"an unknown kind": 0.9}) == {}
