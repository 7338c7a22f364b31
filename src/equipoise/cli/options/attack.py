"""Options of the refusal perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from equipoise.cli.options.param_types import ATTACK, NormName, usable_seconds, usable_seed
from equipoise.errors import UsageError

Epsilon = Annotated[str, typer.Option(help="Largest change, of values in [0, 1].", rich_help_panel=ATTACK)]


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """What every verb that attacks pictures lets the user choose."""

    epsilon: Epsilon = "8/255"
    steps: Annotated[
        int, typer.Option(min=1, help="Steps at most; easy pictures stop early.", rich_help_panel=ATTACK)
    ] = 400
    max_seconds: Annotated[
        float | None,
        typer.Option(
            callback=usable_seconds,
            help="Seconds a picture may take; a step or a check that has begun is ended.",
            rich_help_panel=ATTACK,
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.", callback=usable_seed, rich_help_panel=ATTACK)] = 0

    @property
    def largest_change(self) -> float:
        """`--epsilon` as a number in units of `[0, 1]`.

        Raises:
            UsageError: it is none.
        """
        from equipoise.attacks.budgets import parse_epsilon

        return parse_epsilon(self.epsilon)


@dataclass(frozen=True, kw_only=True)
class RobustAttackOptions(AttackOptions):
    """The same, and what the change must survive."""

    eot: Annotated[
        str,
        typer.Option(
            help="What the change shall survive: jpeg,resize,crop,noise, all or none.", rich_help_panel=ATTACK
        ),
    ] = "none"
    perceptual: Annotated[
        bool,
        typer.Option(
            "--perceptual/--no-perceptual",
            help="Keep the change from being seen: little where a picture is flat, up to --epsilon where texture hides "
            "it.",
            rich_help_panel=ATTACK,
        ),
    ] = False
    low_frequency: Annotated[
        float | None,
        typer.Option(
            help="Let the change vary no faster than this share, up to 1, of the resolution at which the models see "
            "the picture.",
            rich_help_panel=ATTACK,
            show_default=False,
        ),
    ] = None
    restarts: Annotated[
        int,
        typer.Option(min=1, help="Starts of a picture; those after the first are random.", rich_help_panel=ATTACK),
    ] = 1

    def settings(self) -> dict[str, Any]:
        """Arguments of `PerturbConfig`."""
        return {
            "epsilon": self.largest_change,
            "steps": self.steps,
            "max_seconds": self.max_seconds,
            "seed": self.seed,
            "eot": parse_eot(self.eot),
            "perceptual": self.perceptual,
            "low_frequency": self.low_frequency,
            "restarts": self.restarts,
        }


@dataclass(frozen=True, kw_only=True)
class FullAttackOptions(RobustAttackOptions):
    """Everything that `perturb` lets the user choose."""

    norm: Annotated[NormName, typer.Option(help="How the change is measured.", rich_help_panel=ATTACK)] = NormName.linf
    solver: Annotated[
        str,
        typer.Option(
            help="bim, momentum, apgd, or bim-paper, the update of the official code.", rich_help_panel=ATTACK
        ),
    ] = "momentum"
    refusal: Annotated[
        str | None,
        typer.Option(
            help="The sentence to aim at; random draws one of ours for each picture. By default each model is aimed "
            "at its own refusals, which it is asked for first.",
            rich_help_panel=ATTACK,
        ),
    ] = None
    objective: Annotated[
        str,
        typer.Option(
            help="What to aim at without --refusal: sentence, the likeliest; set, any of a few; openings, whatever "
            "follows them; direction, the model's inner one.",
            rich_help_panel=ATTACK,
        ),
    ] = "sentence"
    direction: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --objective direction: the refusal direction of each --model, as direction find writes it.",
            rich_help_panel=ATTACK,
            show_default=False,
        ),
    ] = None
    sentence_weight: Annotated[
        float,
        typer.Option(
            help="With --objective direction: how much a refusal in words counts beside it, in lengths of the "
            "direction for a nat per token.",
            rich_help_panel=ATTACK,
        ),
    ] = 0.0
    elicit: Annotated[
        Path | None,
        typer.Option(
            help="A file of prompts that the models refuse, one a line, to learn their refusals from beside ours.",
            rich_help_panel=ATTACK,
            show_default=False,
        ),
    ] = None
    keep_away: Annotated[
        bool,
        typer.Option("--keep-away", help="Also keep the bystanders' replies as they are.", rich_help_panel=ATTACK),
    ] = False
    universal: Annotated[
        bool,
        typer.Option("--universal", help="Make one change for all the pictures together.", rich_help_panel=ATTACK),
    ] = False
    learned_prompts: Annotated[
        bool,
        typer.Option(
            "--learned-prompts",
            help="Let the questions learn to resist (CroPA), so that the change works for other wordings.",
            rich_help_panel=ATTACK,
        ),
    ] = False

    def settings(self) -> dict[str, Any]:
        """Arguments of `PerturbConfig`."""
        return super().settings() | {
            "norm": self.norm.value,
            "solver": self.solver,
            "refusal": _refusal(self.refusal),
            "objective": self.objective,
            "elicit": self.elicit,
            "directions": tuple(self.direction or ()),
            "sentence_weight": self.sentence_weight,
            "keep_away": self.keep_away,
            "universal": self.universal,
            "learned_prompts": self.learned_prompts,
        }


def _refusal(text: str | None) -> str | None:
    """`random` in any letters, or a sentence as it is."""
    from equipoise.perturb.config import RANDOM_REFUSAL

    return RANDOM_REFUSAL if text is not None and text.strip().lower() == RANDOM_REFUSAL else text


def parse_eot(text: str) -> tuple[str, ...]:
    """`"jpeg,resize"` as names; `"none"` and empty text mean none, `"all"` all.

    Raises:
        UsageError: commas without a name, as a script with empty variables writes them.
    """
    if text.strip() and not text.replace(",", "").strip():
        raise UsageError(f"expected names of transforms, got {text!r}; try --eot jpeg,resize or --eot none")
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    if names == ("all",):
        from equipoise.perturb.attack import eot_transforms

        return tuple(eot_transforms())
    return () if names == ("none",) else names
