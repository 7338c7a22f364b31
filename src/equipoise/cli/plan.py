"""`PerturbConfig`: what a run shall do, checked before anything is loaded, and the recipe that tells runs apart."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from equipoise.cli.loading import ComputeOptions
from equipoise.cli.options import Norm, Shadow
from equipoise.errors import UsageError

TRANSFORMS = ("jpeg", "resize", "crop", "noise")
"""What `--eot` can name."""

SOLVERS = ("bim", "momentum", "apgd", "bim-paper")
"""What `--solver` can name."""


@dataclass(frozen=True)
class QuestionSets:
    """What the attack optimises on, and what is asked afterwards."""

    kind: Shadow
    """Where the shadow questions come from."""
    shadow: tuple[str, ...]
    """What the attack optimises on."""
    held_out: tuple[str, ...]
    """What is asked afterwards."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the numbers measured with these questions."""
        from equipoise.data.questions import check_disjoint

        shared = len(check_disjoint(self.shadow, self.held_out))
        if not shared:
            return ()
        count = "" if shared == len(self.held_out) else f" for {shared} of {len(self.held_out)} questions"
        return (f"asked the shadow questions themselves{count}: other wordings may be refused less often",)


@dataclass(frozen=True)
class PerturbConfig:
    """What a run shall do."""

    verb: Literal["perturb", "protect"]
    """Which command it is."""
    images: tuple[Path, ...]
    """The pictures, no two with one stem."""
    models: tuple[str, ...]
    """Target models."""
    bystanders: tuple[str, ...]
    """Models that should go on answering."""
    questions: QuestionSets
    """Shadow and held-out questions."""
    epsilon: float
    """Largest change, in units of `[0, 1]`."""
    norm: Norm
    """How the change is measured."""
    steps: int
    """Steps at most."""
    solver: str
    """Which update rule."""
    seed: int
    """Source of all chance."""
    out: Path
    """Folder for the results."""
    refusal: str | None = None
    """The sentence to aim at; `random` draws one for each picture, None takes the likeliest of ours."""
    eot: tuple[str, ...] = ()
    """Transformations that the change shall survive."""
    keep_away: bool = False
    """Whether the bystanders' true replies are kept likely."""
    max_seconds: float | None = None
    """Time for one picture."""
    max_new_tokens: int = 64
    """Length of a reply at most."""
    overwrite: bool = False
    """Whether results of another recipe may be replaced."""
    machine: ComputeOptions = field(default_factory=ComputeOptions)
    """Where and how models run."""
    defences: tuple[str, ...] = ()
    """Countermeasures around every target."""

    def __post_init__(self) -> None:
        from equipoise.attacks.budgets import Budget
        from equipoise.countermeasures.catalogue import parse

        Budget(self.norm.value, self.epsilon)
        for spec in self.defences:
            parse(spec)
        if self.solver not in SOLVERS:
            raise UsageError(f"expected a solver of {', '.join(SOLVERS)}, got {self.solver!r}; try momentum")
        _require_names("--model", self.models)
        _require_names("--bystander", self.bystanders)
        both = set(self.models) & set(self.bystanders)
        if both:
            raise UsageError(f"expected other bystanders than targets, got {min(both)} as both; try another model")
        if self.keep_away and not self.bystanders:
            raise UsageError("expected a bystander to keep away from, got none; try --bystander MODEL")
        if self.refusal is not None and not self.refusal.strip():
            raise UsageError('expected a refusal sentence, got empty text; try --refusal "I can\'t help with that."')
        unknown = set(self.eot) - set(TRANSFORMS)
        if unknown:
            raise UsageError(f"expected --eot of {', '.join(TRANSFORMS)}, got {min(unknown)!r}; try --eot jpeg,resize")
        inside = next((i for i in self.images if i.resolve().parent == self.out.resolve()), None)
        if inside:
            raise UsageError(
                f"expected another folder for the results than that of the pictures, got {self.out} for both "
                f"({inside.name} could be overwritten); try --out {self.out / 'perturbed'}"
            )

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides the results, but the picture and the models' revisions; values are JSON's."""
        return {
            "models": list(self.models),
            **({"defences": list(self.defences)} if self.defences else {}),
            "bystanders": list(self.bystanders),
            "shadow": self.questions.kind.value,
            "shadow_questions": list(self.questions.shadow),
            "held_out_questions": list(self.questions.held_out),
            "epsilon": self.epsilon,
            "norm": self.norm.value,
            "steps": self.steps,
            "solver": self.solver,
            "seed": self.seed,
            "refusal": self.refusal,
            "eot": list(self.eot),
            "keep_away": self.keep_away,
            "max_seconds": self.max_seconds,
            "max_new_tokens": self.max_new_tokens,
            "dtype": self.machine.dtype.value if self.machine.dtype else None,
            "quantize": self.machine.quantize.value if self.machine.quantize else None,
        }

    def command(self, given: Sequence[str], image: Path) -> str:
        """A command line that makes one picture again.

        Args:
            given: the options that chose the questions, as the user gave them.
            image: the picture.
        """
        words = ["equipoise", self.verb, str(image)]
        for name in self.models:
            words += ["--model", name]
        for name in self.bystanders:
            words += ["--bystander", name]
        for spec in self.defences:
            words += ["--defend", spec]
        words += [*given, "--shadow", self.questions.kind.value]
        levels = self.epsilon * 255
        exact = abs(levels - round(levels)) < 1e-9
        words += ["--epsilon", f"{round(levels)}/255" if exact else repr(self.epsilon), "--norm", self.norm.value]
        words += ["--steps", str(self.steps), "--solver", self.solver, "--seed", str(self.seed)]
        words += ["--eot", ",".join(self.eot) or "none"]
        if self.refusal is not None:
            words += ["--refusal", self.refusal]
        if self.keep_away:
            words += ["--keep-away"]
        if self.max_seconds is not None:
            words += ["--max-seconds", f"{self.max_seconds:g}"]
        if self.machine.dtype:
            words += ["--dtype", self.machine.dtype.value]
        if self.machine.quantize:
            words += ["--quantize", self.machine.quantize.value]
        words += ["--max-new-tokens", str(self.max_new_tokens), "--out", str(self.out)]
        return shlex.join(words)


def parse_eot(text: str) -> tuple[str, ...]:
    """`"jpeg,resize"` as names; `"none"` and empty text mean none, `"all"` all."""
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    if names == ("all",):
        return TRANSFORMS
    return () if names == ("none",) else names


def _require_names(option: str, names: tuple[str, ...]) -> None:
    if any(not name.strip() for name in names):
        raise UsageError(f"expected the name of a model after {option}, got empty text; try testbed/llava")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"expected different models after {option}, got {min(twice)} twice; try it once")
