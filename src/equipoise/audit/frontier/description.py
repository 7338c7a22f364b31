"""What a mitigation is, in words that need no documentation: for the page of a frontier."""

from __future__ import annotations

from typing import Final

from equipoise.audit.labels import PLAIN
from equipoise.countermeasures.catalogue import CATALOGUE, parse

WORDS: Final[dict[str, str]] = {
    "guard": "a second program reads every reply, and refuses or rewrites a harmful one",
    "surgical": "the model's weights stay; what makes it refuse harmless prompts is taken out of its inner states",
    "conditional": "the model's weights stay; a push towards refusing is added where a prompt looks harmful inside it",
    "dro": "a prompt of optimised numbers instead of words stands in front of every conversation",
    "derta": "a small set of extra weights, trained so that the model can still refuse in the middle of a reply",
    "recover": "asks a second time, about a changed picture, where a safe prompt was refused",
    "second": "asks a second, robust model where a safe prompt was refused",
}
"""Fitters and countermeasures that need more than the line of the catalogue."""
POLICIES: Final[dict[str, str]] = {
    "safety": "a text in front of every conversation asks for refusals of harm",
    "balanced": "a text in front of every conversation asks to judge by what is meant, not by single words",
    "contextual": "every request is put into a sentence that names its harmless reading",
    "few-shot": "four examples of requests with good replies stand in front of every request",
    "interactive": "where the model refuses a request that looks benign, it is asked again in the same conversation",
    "anew": "where the model refuses a request that looks benign, it is asked again in a new conversation",
    "combined": "a text, examples and one more request after a refusal",
}
"""Prompt policies that come with Equipoise."""


def describe(name: str) -> str:
    """A row of a frontier in a phrase: `plain`, a spec, or a chain of specs.

    Args:
        name: as `--with` names it.
    """
    if name == PLAIN:
        return "the model as it is"
    return "; then ".join(_link(part) for part in name.split(" then "))


def _link(text: str) -> str:
    kind = text.partition(":")[0].strip()
    if kind == "prompt":
        return POLICIES.get(parse(text).values["file"], "your own change of every request")
    if kind in WORDS:
        return WORDS[kind]
    if kind in CATALOGUE:
        return CATALOGUE[kind].about.partition(";")[0]
    return "further trained weights"
