"""`PerturbConfig`: what a run does, checked before a model is loaded, and the recipe that tells runs apart."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from equipoise.attacks.budgets import Norm
from equipoise.errors import UsageError
from equipoise.models.compute import ComputeConfig
from equipoise.perturb.questions import QuestionSets, choose_questions, require_characters

ObjectiveName = Literal["sentence", "set", "openings", "direction"]
OBJECTIVES: Final[tuple[ObjectiveName, ...]] = ("sentence", "set", "openings", "direction")
"""What an attack without a given refusal aims at; see `attacks.aimed_wordings` and `attacks.direction_loss`."""
RANDOM_REFUSAL: Final = "random"
"""In place of a refusal sentence: one of ours, drawn for each picture."""
LONGEST_REFUSAL: Final = 2000
"""Characters of `refusal`, at most."""


@dataclass(frozen=True)
class PerturbConfig:
    """What a run does to every picture.

    Raises:
        UsageError: a value that cannot be, or values that do not go together.
    """

    models: tuple[str, ...]
    """Target models, by name (see `models.load.load`)."""
    out: Path
    """Folder of the results; never that of the pictures."""
    bystanders: tuple[str, ...] = ()
    """Models that should go on answering."""
    defences: tuple[str, ...] = ()
    """Countermeasures around every target; the attack goes through them."""
    questions: QuestionSets = field(default_factory=choose_questions)
    """Shadow and held-out questions."""
    epsilon: float = 8 / 255
    """Largest change, in units of `[0, 1]`."""
    norm: Norm = "linf"
    """How the change is measured."""
    steps: int = 400
    """Gradient steps at most."""
    solver: str = "momentum"
    """Update rule, a name of `attacks.solvers.SOLVERS`."""
    seed: int = 0
    """Seed of all randomness."""
    refusal: str | None = None
    """The sentence to aim at; `random` draws one for each picture, None aims at each target's own refusals."""
    objective: ObjectiveName = "sentence"
    """What is aimed at without `refusal`: the likeliest sentence, a set of them, openings only, or `directions`."""
    directions: tuple[Path, ...] = ()
    """Files of directions (see `steering.direction`), one for each target; for the objective `direction`."""
    sentence_weight: float = 0.0
    """With the objective `direction`: how much a nat per token of a refusal in words counts beside one length of the
    direction."""
    elicit: Path | None = None
    """A file of further prompts that the targets refuse, by which their own refusals are learned."""
    eot: tuple[str, ...] = ()
    """Names of the transformations that the change must survive (see `perturb.attack.eot_transforms`)."""
    keep_away: bool = False
    """Whether the bystanders' own replies are kept likely."""
    universal: bool = False
    """Whether one change is made for all pictures together."""
    learned_prompts: bool = False
    """Whether the shadow questions learn to resist the attack (CroPA)."""
    perceptual: bool = False
    """Whether the change is kept from being seen: less where a picture is flat, `epsilon` at most where texture hides
    it (see `attacks.perceptual`)."""
    low_frequency: float | None = None
    """Values of the change along a side for each pixel that the targets see, at most 1; None moves every pixel."""
    restarts: int = 1
    """Starts of the attack; those after the first begin at random points."""
    max_seconds: float | None = None
    """Time for one picture; with `universal`, for all together."""
    max_new_tokens: int = 64
    """Tokens of a reply at most."""
    overwrite: bool = False
    """Whether results of another recipe in the folder may be replaced."""
    estimate: bool = False
    """Whether a step is timed before the first attack, to say how long all pictures take."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """Where and how models run."""

    def __post_init__(self) -> None:
        from equipoise.attacks.budgets import Budget
        from equipoise.attacks.solvers import SOLVERS
        from equipoise.countermeasures.catalogue import parse
        from equipoise.perturb.attack import eot_transforms

        Budget(self.norm, self.epsilon)
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
        if self.perceptual and (self.norm != "linf" or self.universal):
            got = "--universal" if self.universal else f"--norm {self.norm}"
            raise UsageError(f"expected --perceptual with --norm linf on single pictures, got {got}; try one of them")
        if self.low_frequency is not None and self.universal:
            raise UsageError("expected --low-frequency on single pictures, got --universal; try one of them")
        if self.low_frequency is not None and not 0 < self.low_frequency <= 1:
            raise UsageError(
                f"expected --low-frequency above 0 and up to 1, got {self.low_frequency:g}; try --low-frequency 1"
            )
        if self.restarts < 1:
            raise UsageError(f"expected at least 1 start, got {self.restarts}; try --restarts 2")
        if self.objective not in OBJECTIVES:
            raise UsageError(
                f"expected --objective of {', '.join(OBJECTIVES)}, got {self.objective!r}; try --objective sentence"
            )
        if self.refusal is not None and (self.objective != "sentence" or self.elicit is not None):
            raise UsageError(
                "expected --refusal or the targets' own refusals (--objective, --elicit), got both; try one of them"
            )
        if (self.objective == "direction") != (len(self.directions) == len(self.models) and bool(self.directions)):
            raise UsageError(
                f"expected --objective direction with one --direction FILE for each of {len(self.models)} models, got "
                f"--objective {self.objective} and {len(self.directions)}; try equipoise direction find"
            )
        if not 0 <= self.sentence_weight < math.inf or (self.sentence_weight and self.objective != "direction"):
            raise UsageError(
                f"expected --sentence-weight of at least 0 with --objective direction, got {self.sentence_weight:g} "
                f"and --objective {self.objective}; try --sentence-weight 0.5"
            )
        if self.objective == "direction" and (self.defences or self.learned_prompts):
            raise UsageError(
                "expected --objective direction on a model without defences and learned prompts, got one of them; "
                "try --objective sentence"
            )
        if self.learned_prompts and self.objective not in ("sentence", "direction"):
            raise UsageError(
                f"expected --objective sentence with --learned-prompts, got {self.objective}; try one of the two alone"
            )
        if self.solver == "bim-paper" and self.low_frequency is not None:
            raise UsageError(
                "expected another --solver than bim-paper, which moves every pixel, with --low-frequency; try momentum"
            )
        if self.elicit is not None and not self.elicit.is_file():
            raise UsageError(f"expected a file of prompts after --elicit, got {self.elicit}; try one prompt a line")
        if self.refusal is not None and not self.refusal.strip():
            raise UsageError('expected a refusal sentence, got empty text; try --refusal "I can\'t help with that."')
        if self.refusal is not None:
            require_characters(self.refusal, "after --refusal")
            if len(self.refusal) > LONGEST_REFUSAL:
                # Every step computes the probability of all its tokens, for each question.
                raise UsageError(
                    f"expected a refusal of at most {LONGEST_REFUSAL:,} characters, got {len(self.refusal):,}; "
                    "try its first sentences"
                )
        if self.max_seconds is not None and not 0 < self.max_seconds < math.inf:
            raise UsageError(
                f"expected a finite --max-seconds above 0, got {self.max_seconds:g}; try 60, or leave it out"
            )
        unknown = set(self.eot) - set(eot_transforms())
        if unknown:
            names = ", ".join(eot_transforms())
            raise UsageError(f"expected --eot of {names}, got {min(unknown)!r}; try --eot jpeg,resize")

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides the results except the pictures and the models' revisions, in JSON values.

        Keys that came later appear only where they are used, so that results of earlier versions keep their recipe.
        """
        return {
            "models": list(self.models),
            **({"defences": list(self.defences)} if self.defences else {}),
            "bystanders": list(self.bystanders),
            "shadow": self.questions.kind,
            "shadow_questions": list(self.questions.shadow),
            "held_out_questions": list(self.questions.held_out),
            "epsilon": self.epsilon,
            "norm": self.norm,
            "steps": self.steps,
            "solver": self.solver,
            "seed": self.seed,
            "refusal": self.refusal,
            **({"objective": self.objective} if self.objective != "sentence" else {}),
            **({"directions": [str(path) for path in self.directions]} if self.directions else {}),
            **({"sentence_weight": self.sentence_weight} if self.sentence_weight else {}),
            **({"elicit": str(self.elicit)} if self.elicit else {}),
            "eot": list(self.eot),
            "keep_away": self.keep_away,
            **({"universal": True} if self.universal else {}),
            **({"learned_prompts": True} if self.learned_prompts else {}),
            **({"perceptual": True} if self.perceptual else {}),
            **({"low_frequency": self.low_frequency} if self.low_frequency is not None else {}),
            **({"restarts": self.restarts} if self.restarts > 1 else {}),
            "max_seconds": self.max_seconds,
            "max_new_tokens": self.max_new_tokens,
            "dtype": self.compute.dtype,
            "quantize": self.compute.quantize,
            **({"chat_template": str(self.compute.chat_template)} if self.compute.chat_template else {}),
        }

    @property
    def run_recipe(self) -> dict[str, Any]:
        """The recipe with the content of the files that the options name, as it is now; what a folder is claimed by."""
        given = [path for path in (self.elicit, *self.directions, self.compute.chat_template) if path is not None]
        hashes = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in given if path.is_file()}
        return self.recipe | ({"files_sha256": hashes} if hashes else {})

    def command(self, pictures: Sequence[Path]) -> str:
        """The `equipoise perturb` command line that makes these pictures again."""
        names = [str(picture) for picture in pictures]
        # A name such as `-1.png` would be read as an option; everything after `--` is a picture.
        dashed = any(name.startswith("-") for name in names)
        words = ["equipoise", "perturb", *([] if dashed else names)]
        for option, values in (("--model", self.models), ("--bystander", self.bystanders), ("--defend", self.defences)):
            words += [word for value in values for word in (option, value)]
        words += [*self.questions.options, "--shadow", self.questions.kind]
        # The numbers must come back bit by bit, or the folder would belong to another recipe.
        levels = round(self.epsilon * 255)
        epsilon = f"{levels}/255" if levels / 255 == self.epsilon else repr(self.epsilon)
        words += ["--epsilon", epsilon, "--norm", self.norm]
        words += ["--steps", str(self.steps), "--solver", self.solver, "--seed", str(self.seed)]
        words += ["--eot", ",".join(self.eot) or "none"]
        if self.refusal is not None:
            words += ["--refusal", self.refusal]
        if self.objective != "sentence":
            words += ["--objective", self.objective]
        words += [word for path in self.directions for word in ("--direction", str(path))]
        if self.sentence_weight:
            words += ["--sentence-weight", repr(self.sentence_weight)]
        if self.elicit is not None:
            words += ["--elicit", str(self.elicit)]
        flags = {
            "keep-away": self.keep_away,
            "universal": self.universal,
            "learned-prompts": self.learned_prompts,
            "perceptual": self.perceptual,
        }
        words += [f"--{name}" for name, is_set in flags.items() if is_set]
        if self.low_frequency is not None:
            words += ["--low-frequency", repr(self.low_frequency)]
        if self.restarts > 1:
            words += ["--restarts", str(self.restarts)]
        if self.max_seconds is not None:
            words += ["--max-seconds", repr(self.max_seconds).removesuffix(".0")]
        if self.compute.dtype:
            words += ["--dtype", self.compute.dtype]
        if self.compute.quantize:
            words += ["--quantize", self.compute.quantize]
        if self.compute.chat_template:
            words += ["--chat-template", str(self.compute.chat_template)]
        words += ["--max-new-tokens", str(self.max_new_tokens), "--out", str(self.out)]
        return shlex.join([*words, "--", *names] if dashed else words)


def _require_names(option: str, names: tuple[str, ...]) -> None:
    if any(not name.strip() for name in names):
        raise UsageError(f"expected the name of a model after {option}, got empty text; try testbed/llava")
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise UsageError(f"expected different models after {option}, got {min(repeated)} twice; try it once")
