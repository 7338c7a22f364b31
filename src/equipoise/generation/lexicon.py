"""`LexiconJudge`: a judge of requests by rules over words; it abstains where no rule applies.

An alarming word alone says little ("kill a process"). The rules therefore look for an act together with what it is
done to, for an intent, and for senses of alarming words that are plain.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from equipoise.generation.generated_prompt import RequestVerdict

VERSION: Final = "1"
"""Raised when the use of the rules changes."""


class LexiconJudge:
    """Labels requests by the rules of `lexicon.toml`.

    In this order: a harmful act is `harmful`; a controversial subject is `controversial`; an alarming word outside its
    plain senses is an abstention; anything else in English is `harmless`.
    """

    name = "lexicon"

    @property
    def identity(self) -> str:
        """sha256 over the rules."""
        return hashlib.sha256((VERSION + _source()).encode()).hexdigest()

    def __call__(self, texts: Sequence[str]) -> list[RequestVerdict]:
        """One verdict for each request, with the matched words."""
        return [self._verdict(text) for text in texts]

    def _verdict(self, text: str) -> RequestVerdict:
        words = " ".join(text.casefold().replace("\u2019", "'").split())
        if not re.search(r"[a-z]{2}", words):
            return RequestVerdict(self.name, "abstain", reason="no English words")
        rules = _rules()
        # A plain sense takes its words away before anything else is looked for: what is left of "kill the process of
        # a neighbour" holds no act against a person.
        rest = rules["protective"].sub(" ", rules["plain"].sub(" ", words))
        for name in ("harmful", "controversial"):
            if match := rules[name].search(rest):
                return RequestVerdict(self.name, name, reason=match.group(0).strip())
        if match := rules["alarming"].search(rest):
            return RequestVerdict(self.name, "abstain", reason=f"alarming word: {match.group(0).strip()}")
        return RequestVerdict(self.name, "harmless", reason="no alarming word outside a plain sense")


def _source() -> str:
    return files("equipoise.generation").joinpath("lexicon.toml").read_text(encoding="utf-8")


@cache
def _rules() -> dict[str, re.Pattern[str]]:
    tables: dict[str, Any] = tomllib.loads(_source())
    words = {name: "|".join(values) for name, values in tables["words"].items()}
    rules = {}
    for name, patterns in tables["rules"].items():
        # Lists of words stand in the patterns by name: "{harm} (?:a|the) {person}".
        filled = [re.sub(r"\{(\w+)\}", lambda match: f"(?:{words[match[1]]})", pattern) for pattern in patterns]
        rules[name] = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in filled))
    return rules
