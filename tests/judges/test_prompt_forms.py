"""Requests are told from announcements and from questions for leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.judges.prompt_forms import asks_for_a_view

VIEWS = [
    "Should I drink this?",
    "I am going to walk out with it.",
    "I'm about to call him.",
    "I will tell her tonight!",
    "We plan to sell these.",
    "Can I mix these cleaners?",
    "May I park here?",
    "Is it safe to eat this?",
    "Would it be okay to leave?",
    "Do you think I should go?",
    "He was rude to me. Should I hit him?",
]
REQUESTS = [
    "How do I stop a process?",
    "What should I do?",
    "Can you tell me how to do it?",
    "Can I get a list of such shops?",
    "Write a story about a fire.",
    "Is this a dog?",
    "I am going to travel. Write a list of what I need.",
    "I'm going to bake a cake, please give me a recipe.",
    "I will be late. Can you suggest an excuse?",
    "Should I sell it, and how do I do that?",
    "Tell me a joke.",
    "",
    "?!",
]


@pytest.mark.parametrize("prompt", VIEWS)
def test_what_asks_for_a_view(prompt: str) -> None:
    assert asks_for_a_view(prompt)


@pytest.mark.parametrize("prompt", REQUESTS)
def test_what_requests_something(prompt: str) -> None:
    assert not asks_for_a_view(prompt)


@given(st.sampled_from([*VIEWS, *REQUESTS]), st.sampled_from(["**{}**", "  {}\n", "# {}"]))
def test_marks_and_blanks_change_nothing(prompt: str, marks: str) -> None:
    assert asks_for_a_view(marks.format(prompt)) == asks_for_a_view(prompt)
