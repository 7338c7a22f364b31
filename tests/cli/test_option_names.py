"""One name for an option, and one meaning for a name, over all verbs of the command."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import typer.main

from equipoise.cli.main import app

TRAININGS = ("train", "testbed train", "reference train")
"""The recipe of a training decides its number formats."""


def verbs(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, list[Any]]]:
    """Every verb with its options, former names left out."""
    command = typer.main.get_command(app) if command is None else command
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from verbs(inner, (*path, name))
    else:
        options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
        yield " ".join(path), [option for option in options if not option.hidden]


def test_there_are_verbs_to_check() -> None:
    assert len(list(verbs())) > 40


def test_an_option_has_the_same_spellings_and_the_same_nature_in_all_verbs() -> None:
    uses: dict[str, set[tuple[tuple[str, ...], bool]]] = defaultdict(set)
    for _, options in verbs():
        for option in options:
            long = next(name for name in option.opts if name.startswith("--"))
            uses[long].add((tuple(option.opts + option.secondary_opts), bool(option.is_flag)))
    assert {name: shapes for name, shapes in uses.items() if len(shapes) > 1} == {}


def test_a_short_option_means_one_thing() -> None:
    uses: dict[str, set[str]] = defaultdict(set)
    for _, options in verbs():
        for option in options:
            for short in (name for name in option.opts if not name.startswith("--")):
                uses[short].add(option.opts[0])
    assert {short: names for short, names in uses.items() if len(names) > 1} == {}


def test_json_lines_come_beside_one_document() -> None:
    names = {verb: {name for option in options for name in option.opts} for verb, options in verbs()}
    assert [verb for verb, own in names.items() if "--jsonl" in own and "--json" not in own] == []


def test_a_verb_that_loads_weights_takes_device_and_number_format() -> None:
    names = {verb: {name for option in options for name in option.opts} for verb, options in verbs()}
    loading = {verb for verb, own in names.items() if own & {"--model", "--judge", "--detector", "--device", "--dtype"}}
    assert len(loading) > 20
    incomplete = {verb for verb in loading if not names[verb] >= {"--device", "--dtype"}}
    assert {verb for verb in incomplete if not verb.startswith(TRAININGS)} == set()
