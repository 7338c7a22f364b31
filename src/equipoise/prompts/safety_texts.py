"""System texts of ours that soft prompts begin as, and those whose states span their space."""

from __future__ import annotations

from typing import Final

from equipoise.models.base import OpenModel
from equipoise.prompts.default_text import default_system_text
from equipoise.prompts.policy import SystemText, joined
from equipoise.prompts.policy_file import load_policy

SHORT_TEXT: Final = "You are a helpful and honest assistant. Be as useful as you can without causing harm."
"""A short safety prompt of ours, one of those whose states span the space."""


def safety_text() -> str:
    """The text of our policy `safety`."""
    return _text_of("safety")


def start_text(model: OpenModel) -> str:
    """The text that soft prompts of a model begin as: what its template says by itself, then the text of `safety`.

    So the policy `safety` gives it to the model. A soft prompt stands in the place of the template's text; without
    that, the model would be optimised, and compared, away from the text that it was tuned under.
    """
    default = default_system_text(model)
    return joined(default, safety_text()) if default else safety_text()


def paper_texts(text: str) -> tuple[str | None, ...]:
    """The system texts whose states span the space: none, the one to start from, and two more of ours."""
    return None, text, SHORT_TEXT, _text_of("balanced")


def _text_of(name: str) -> str:
    policy = load_policy(name)
    assert isinstance(policy, SystemText)
    return policy.text
