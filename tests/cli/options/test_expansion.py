"""Dataclasses of options become options of a verb, and former names go on working."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import click
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from equipoise.cli.options.expansion import FormerName, with_options


@dataclass(frozen=True, kw_only=True)
class Small:
    size: Annotated[int, typer.Option(min=1, help="How big."), FormerName("--bigness")] = 3
    loud: Annotated[bool, typer.Option("--loud", help="Noise."), FormerName("--noisy")] = False


@dataclass(frozen=True, kw_only=True)
class Large(Small):
    names: Annotated[list[str] | None, typer.Option("--name", "-n", help="Names."), FormerName("--title")] = None


def invoke(*words: str) -> tuple[Result, list[tuple[str, Large]]]:
    calls: list[tuple[str, Large]] = []

    @with_options
    def verb(
        path: Annotated[str, typer.Argument(help="A path.")],
        options: Large = Large(size=5),
    ) -> None:
        """Do something."""
        calls.append((path, options))

    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, list(words)), calls


def test_the_fields_are_options_with_the_defaults_of_the_verb() -> None:
    _, calls = invoke("a")
    assert calls == [("a", Large(size=5, loud=False, names=None))]
    _, calls = invoke("a", "--size", "7", "--loud", "-n", "x", "--name", "y")
    assert calls == [("a", Large(size=7, loud=True, names=["x", "y"]))]


@pytest.mark.parametrize(
    ("words", "expected", "line"),
    [
        (("--bigness", "9"), Large(size=9), "--bigness is now --size"),
        (("--noisy",), Large(size=5, loud=True), "--noisy is now --loud"),
        (("--title", "x"), Large(size=5, names=["x"]), "--title is now --name"),
    ],
)
def test_a_former_name_works_and_says_so_in_one_line(words: tuple[str, ...], expected: Large, line: str) -> None:
    result, calls = invoke("a", *words)
    assert calls == [("a", expected)]
    assert result.stderr == f"equipoise: {line}; the old name goes away in the next release\n"


def test_help_shows_the_current_names_alone() -> None:
    result, _ = invoke("--help")
    text = click.unstyle(result.output)
    for name in ("--size", "--loud", "--name"):
        assert name in text
    for name in ("--bigness", "--noisy", "--title"):
        assert name not in text


def test_limits_hold_for_the_former_name_too() -> None:
    for name in ("--size", "--bigness"):
        result, calls = invoke("a", name, "0")
        assert (result.exit_code, calls) == (2, [])
