"""Loader of the suites of our own prompts, which come with the package as one TOML file each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files

from equipoise.types import Expected, Sample


def load_own_prompts(suite: str, table: str, kinds: Mapping[str, Expected], *, dropped: str = "") -> list[Sample]:
    """The prompts of `SUITE.toml`: an array of tables, each with a name (the category) and lists of prompts.

    Args:
        suite: name of the suite and of its file.
        table: name of the array of tables.
        kinds: the lists of a table, and what a model should do with their prompts. An id holds its list's name where
            there are several.
        dropped: characters of names that ids leave out. Ids name stored replies, so that a suite keeps its own.
    """
    drop = str.maketrans(" _", "--", dropped)
    text = files("equipoise.data").joinpath(f"{suite}.toml").read_text(encoding="utf-8")
    samples = []
    for group in tomllib.loads(text)[table]:
        for kind, expected in kinds.items():
            parts = [group["name"].translate(drop), *([kind.translate(drop)] if len(kinds) > 1 else [])]
            samples += [
                Sample(
                    id="-".join([*parts, str(number)]),
                    suite=suite,
                    text=prompt,
                    expected=expected,
                    category=group["name"],
                    source="Equipoise",
                    licence="MIT",
                )
                for number, prompt in enumerate(group.get(kind, ()), 1)
            ]
    return samples
