"""Options of the questions that an attack optimises on and of those that are asked afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.options.expansion import FormerName
from equipoise.cli.options.param_types import QUESTIONS, Shadow

if TYPE_CHECKING:
    from equipoise.perturb.questions import QuestionSets

Question = Annotated[
    list[str] | None,
    typer.Option(
        "--question", "-q", help="A question that people may ask. May be repeated.", rich_help_panel=QUESTIONS
    ),
]


@dataclass(frozen=True, kw_only=True)
class HeldOutOptions:
    """Questions to measure with."""

    ask: Annotated[
        list[str] | None,
        typer.Option(
            "--ask",
            help="A held-out question to measure with, instead of the default ones. May be repeated.",
            rich_help_panel=QUESTIONS,
        ),
    ] = None

    def choose(self, seed: int) -> QuestionSets:
        """The questions of a run.

        Raises:
            UsageError: an empty question or file, or no questions where there must be some.
        """
        from equipoise.perturb.questions import choose_questions

        return choose_questions(held_out=tuple(self.ask or ()), seed=seed)


@dataclass(frozen=True, kw_only=True)
class QuestionOptions(HeldOutOptions):
    """The same, and what the attack optimises on."""

    question: Question = None
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions",
            help="A file of such questions, one a line, or a table with a column question.",
            rich_help_panel=QUESTIONS,
        ),
    ] = None
    shadow: Annotated[
        Shadow | None,
        typer.Option(
            help="Optimise on our 50 general questions, on wordings similar to the questions given, or on exactly "
            "those. By default exact where questions are given, else general.",
            rich_help_panel=QUESTIONS,
        ),
    ] = None
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out", help="A file of held-out questions, likewise.", rich_help_panel=QUESTIONS),
        FormerName("--heldout"),
    ] = None

    def choose(self, seed: int) -> QuestionSets:
        """The questions of a run.

        Raises:
            UsageError: an empty question or file, or no questions where there must be some.
        """
        from equipoise.perturb.questions import choose_questions

        return choose_questions(
            tuple(self.question or ()),
            tuple(self.ask or ()),
            kind=self.shadow.value if self.shadow else None,
            file=self.questions,
            held_out_file=self.held_out,
            seed=seed,
        )
