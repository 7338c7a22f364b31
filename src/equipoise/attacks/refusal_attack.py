"""The refusal perturbation (MLLM-Refusal, arXiv:2407.09050)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from PIL import Image
from torch import Tensor

from equipoise.attacks.aimed_wordings import AIM_KINDS, AimKind, Aims
from equipoise.attacks.attack_state import StopCriteria
from equipoise.attacks.base import Attack
from equipoise.attacks.budgets import Budget
from equipoise.attacks.cropa import CroPAConfig, CroPAObjective
from equipoise.attacks.direction_loss import DirectionLoss
from equipoise.attacks.elicitation import elicit
from equipoise.attacks.large_pictures import (
    LARGE,
    budget_at,
    carry_up,
    seen_pixels,
    shrunk,
    shrunk_floor,
    working_size,
)
from equipoise.attacks.low_frequency import grid_size
from equipoise.attacks.objectives import EOTObjective, Objective, PreserveReplies, TargetReplyLoss
from equipoise.attacks.perceptual import Perceptual
from equipoise.attacks.perturbation_result import PerturbationResult, TraceStep
from equipoise.attacks.refusal_evaluation import prompts_about
from equipoise.attacks.refusal_targets import TARGET_REFUSALS
from equipoise.attacks.setting_checks import check_counts
from equipoise.attacks.solvers import SOLVERS
from equipoise.attacks.success_checks import AimingCheck, MeanRateCheck, OwnWordsJudge, RefusalRateCheck
from equipoise.attacks.universal import UniversalPerturbation, run_universal
from equipoise.attacks.wordings import OwnRefusals, no_refusals, refusals_of
from equipoise.errors import UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.media.quantize import to_pixels
from equipoise.models.base import OpenModel
from equipoise.models.transformers_model import TransformersModel
from equipoise.steering.direction import Direction
from equipoise.transforms.eot import EOTConfig
from equipoise.types import Judge, Prompt

DEFAULT_BUDGET: Final = Budget("linf", 8 / 255)
"""The budget of the papers."""
SENTENCE_QUESTIONS: Final = 3
"""Shadow questions on which the target sentence is chosen."""
CARRIED_QUESTIONS: Final = 8
"""Shadow questions that are asked about a large picture, to which a change was carried up."""


class SolverFactory(Protocol):
    """A class of `SOLVERS`, or anything that makes an attack from a budget and a number of steps."""

    def __call__(self, *, budget: Budget, steps: int, questions_per_step: int | None) -> Attack:
        """Make the attack."""
        ...


@dataclass(frozen=True)
class RefusalAttack:
    """Settings of the refusal perturbation; picture, models and questions arrive at the call."""

    budget: Budget = DEFAULT_BUDGET
    """How far a picture may be moved; 8/255 for every value, as in the papers, by default."""
    solver: str | SolverFactory = "momentum"
    """A name of `SOLVERS`, or a class of your own."""
    steps: int = 400
    """Most gradient steps for one picture; most pictures need far fewer, some photos need them."""
    questions_per_step: int | None = 10
    """Questions that a step evaluates; None means all, and `bim-paper` always takes 3."""
    questions_first: int | None = 5
    """Questions that the first steps evaluate, without transforms; None means as many as later."""
    settle: int | None = 3
    """Steps after the first picture that passes: theirs is the result if it passes with as many refusals."""
    reply: str | None = None
    """The target reply, a refusal or any other; None aims at each target's own refusals, and changes the aim where a
    check shows other words."""
    own_refusals: tuple[OwnRefusals, ...] = ()
    """How targets refuse, as `elicitation.elicit` found; one that is not here is aimed at `TARGET_REFUSALS`."""
    aim: AimKind = "sentence"
    """What is aimed at where no reply is given: the likeliest sentence, a set of them, or openings only."""
    directions: tuple[Direction, ...] = ()
    """Directions of refusal, one for each target: the attack moves the targets along them instead of towards words."""
    sentence_weight: float = 0.0
    """With directions: how much the loss of a refusal in words counts beside them; 0 leaves it out."""
    end: bool = True
    """Whether the reply should also end there."""
    bystander_weight: float = 1.0
    """How much a bystander's loss counts beside that of a target."""
    eot: EOTConfig | None = None
    """Transformations that the perturbation should survive (expectation over transformations)."""
    learned_prompts: CroPAConfig | None = None
    """Whether, and how, the questions learn to resist (CroPA)."""
    check_every: int = 10
    """Steps between two checks by decoding; 0 means no checks."""
    target_rate: float = 1.0
    """Refusal rate on the shadow questions at which the attack is done."""
    enough_rate: float | None = 0.95
    """The same after the first 100 steps: a few questions that no step wins would take all steps. None: no other."""
    restarts: int = 1
    """Starts; those after the first begin at a random point. The first that passes a check is the result."""
    max_seconds: float | None = None
    """Time for one picture (for all together in universal mode)."""
    system: str | None = None
    """System text of every prompt."""
    draws: int = 4
    """Draws of a randomised defence that a step averages over, and all of which a check must pass."""
    perceptual: Perceptual | None = None
    """How the change is kept from being seen: `budget.epsilon` is then the most, where texture hides it."""
    low_frequency: float | None = None
    """Values of the change along a side for each pixel along that side that the target with the finest view sees, at
    most 1; between them the change is linear (see `attacks.low_frequency`). None moves every pixel by itself."""

    def __post_init__(self) -> None:
        if isinstance(self.solver, str) and self.solver not in SOLVERS:
            raise UsageError(f"expected a solver of {', '.join(SOLVERS)}, got {self.solver!r}; try momentum")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise UsageError(f"expected more than 0 seconds, got {self.max_seconds:g}; try 60")
        if self.directions and (self.learned_prompts or self.reply is not None):
            raise UsageError("expected directions or a reply or learned prompts, got two of them; try directions alone")
        if self.sentence_weight < 0 or (self.sentence_weight and not self.directions):
            raise UsageError(
                f"expected a sentence_weight of at least 0 beside directions, got {self.sentence_weight:g} and "
                f"{len(self.directions)} directions; try sentence_weight=0"
            )
        if self.aim not in AIM_KINDS:
            raise UsageError(f"expected an aim of {', '.join(AIM_KINDS)}, got {self.aim!r}; try sentence")
        if self.perceptual is not None and self.budget.norm != "linf":
            raise UsageError("expected norm linf with a perceptual budget, got l2; try Budget('linf', 8 / 255)")
        if self.low_frequency is not None and not 0 < self.low_frequency <= 1:
            raise UsageError(f"expected a low_frequency above 0 and up to 1, got {self.low_frequency:g}; try 1")
        if self.learned_prompts and self.aim != "sentence":
            raise UsageError(f"expected aim sentence with learned prompts, got {self.aim}; try one of the two alone")
        if self.solver == "bim-paper" and self.low_frequency is not None:
            raise UsageError(
                "expected another solver than bim-paper, which moves every pixel, with low_frequency; try momentum"
            )
        check_counts(self, steps=400, restarts=1, draws=4, questions_per_step=10, questions_first=5)
        check_counts(self, least=0, check_every=10, settle=3)
        for name in ("target_rate", "enough_rate"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate <= 1:
                raise UsageError(f"expected a {name} above 0 and up to 1, got {rate!r}; try 0.95")

    def __call__(
        self,
        picture: Image.Image,
        models: Sequence[OpenModel],
        questions: Sequence[str],
        *,
        bystanders: Sequence[OpenModel] = (),
        seed: int = 0,
        judge: Judge | None = None,
        progress: Callable[[TraceStep], None] | None = None,
        floor: Tensor | None = None,
    ) -> PerturbationResult:
        """Perturb one picture.

        Args:
            picture: 8-bit, any size.
            models: every model that should refuse.
            questions: the shadow questions.
            bystanders: models whose own replies are preserved.
            seed: of all randomness.
            judge: decides in checks what a refusal is; None means `PhraseJudge()`. Report on another.
            progress: called with every step.
            floor: `H x W`, the lowest value that each pixel can have in the file (see `Appearance.floor`).

        Raises:
            UsageError: no models, no or empty questions, or settings that make no sense.
        """
        started = time.perf_counter()
        size = (
            # Large photos take another way: the attack runs on a copy of about the size that the models see, with the
            # budget scaled to it, and its change is carried up. Everything below sees small pictures only.
            working_size(picture.size, seen_pixels(models, picture)) if picture.width * picture.height > LARGE else None
        )
        if size is not None and size != picture.size:
            smaller = replace(self, budget=budget_at(self.budget, picture.size, size))
            copy = shrunk(picture, size)
            low = None if floor is None else shrunk_floor(floor, size)
            result = smaller(
                copy, models, questions, bystanders=bystanders, seed=seed, judge=judge, progress=progress, floor=low
            )
            # A few questions: each costs the processor a pass over all pixels.
            prompts = prompts_about(picture, questions[:CARRIED_QUESTIONS], self.system)
            check = self.success_check(models, prompts, judge) if self.check_every else None
            carried = carry_up(result, picture, self.budget, check, floor)
            return replace(carried, seconds=time.perf_counter() - started)
        # `aims` is shared: the objective reads from it what each target shall say, and the success check changes it.
        # Its version tells the attack's state that earlier losses were of another objective.
        objective, prompts, aims = self._objective(picture, models, questions, bystanders)
        prepared = time.perf_counter() - started
        grid = None
        if self.low_frequency is not None:
            grid = grid_size(picture.height, picture.width, seen_pixels(models, picture), self.low_frequency)
        result = replace(self._solver(), grid=grid)(
            objective,
            to_pixels(picture),
            seed=seed,
            success=self._success(models, prompts, judge, aims),
            stop=self._stop_criteria(prepared),
            progress=progress,
            floor=floor,
        )
        warnings = (*result.warnings, *self._aim_warnings(models))
        return replace(result, seconds=result.seconds + prepared, warnings=warnings)

    def run_universal(
        self,
        pictures: Sequence[Image.Image],
        models: Sequence[OpenModel],
        questions: Sequence[str],
        *,
        bystanders: Sequence[OpenModel] = (),
        seed: int = 0,
        judge: Judge | None = None,
        progress: Callable[[TraceStep], None] | None = None,
        floors: Sequence[Tensor | None] = (),
    ) -> UniversalPerturbation:
        """Perturb many pictures with one shared change; arguments as for one picture, `floors` in their order.

        A check takes the mean success rate over the pictures; `enough_rate` is for one picture only.

        Raises:
            UsageError: no pictures, a perceptual budget or low frequencies, or as for one picture.
        """
        if self.perceptual is not None or self.low_frequency is not None:
            raise UsageError(
                "expected a universal change without a perceptual budget or low frequencies, which are those of one "
                "picture, got both; try one of them"
            )
        if not pictures:
            raise UsageError("expected at least one picture, got none; try a folder of PNG files")
        started = time.perf_counter()
        objectives, checks = [], []
        for picture in pictures:
            objective, prompts, aims = self._objective(picture, models, questions, bystanders)
            objectives.append(objective)
            checks.append(self._success(models, prompts, judge, aims))

        universal = run_universal(
            self._solver(),
            objectives,
            [to_pixels(picture) for picture in pictures],
            seed=seed,
            success=MeanRateCheck([check for check in checks if check is not None]) if self.check_every else None,
            stop=replace(self._stop_criteria(time.perf_counter() - started), enough_rate=None),
            progress=progress,
            floors=floors,
        )
        warnings = tuple(self._aim_warnings(models))
        results = tuple(replace(result, warnings=(*result.warnings, *warnings)) for result in universal.pictures)
        return replace(universal, pictures=results)

    def _stop_criteria(self, spent: float = 0.0) -> StopCriteria:
        """The limits of the solver, `spent` seconds after the start."""
        # A limit must be positive; a spent one stops the attack before its first step.
        left = None if self.max_seconds is None else max(self.max_seconds - spent, 1e-3)
        checks = bool(self.check_every)
        return StopCriteria(self.check_every or self.steps, self.target_rate, left, checks, self.enough_rate)

    def _solver(self) -> Attack:
        factory = SOLVERS[self.solver] if isinstance(self.solver, str) else self.solver
        if self.solver == "bim-paper":
            attack = factory(budget=self.budget, steps=self.steps)  # type: ignore[call-arg]
        else:
            attack = factory(budget=self.budget, steps=self.steps, questions_per_step=self.questions_per_step)
        attack = replace(attack, perceptual=self.perceptual, questions_first=self.questions_first, settle=self.settle)
        return replace(attack, restarts=self.restarts) if self.restarts > 1 else attack

    def _objective(
        self,
        picture: Image.Image,
        models: Sequence[OpenModel],
        questions: Sequence[str],
        bystanders: Sequence[OpenModel],
    ) -> tuple[Objective, list[Prompt], Aims | None]:
        prompts = prompts_about(picture, questions, self.system)
        preserve = tuple(PreserveReplies.observe(model, prompts, weight=self.bystander_weight) for model in bystanders)
        aims = None
        if self.reply is None and (self.sentence_weight or not self.directions):
            aims = Aims(models, [self._own(model) for model in models], self.aim)
            aims.choose(to_pixels(picture), prompts[:SENTENCE_QUESTIONS])
        reply = self.reply or TARGET_REFUSALS[0]
        target_loss = TargetReplyLoss(tuple(models), tuple(prompts), reply, self.end, preserve, self.draws, aims)
        # Inside out: what is wanted (words or a direction), then CroPA, which shifts the questions' embeddings, then
        # EOT, which changes the picture. EOT is outermost, so that each draw of a transform is seen by everything
        # within.
        objective: Objective = target_loss
        if self.directions:
            objective = DirectionLoss(target_loss, self.directions, self.sentence_weight)
        if self.learned_prompts:
            objective = CroPAObjective(target_loss, self.learned_prompts)
        if self.eot:
            objective = EOTObjective(objective, self.eot)
        return objective, prompts, aims

    def _own(self, model: OpenModel) -> OwnRefusals | None:
        """How a target refuses; None where that is not known."""
        return refusals_of(model.name, self.own_refusals)

    def _aim_warnings(self, models: Sequence[OpenModel]) -> list[str]:
        """For each target that refused nothing, what that means."""
        known = [self._own(model) for model in models] if self.reply is None else []
        return [no_refusals(own) for own in known if own is not None and not own.refused]

    def _success(
        self, models: Sequence[OpenModel], prompts: Sequence[Prompt], judge: Judge | None, aims: Aims | None
    ) -> RefusalRateCheck | AimingCheck | None:
        if not self.check_every:
            return None
        check = self.success_check(models, prompts, judge, aims)
        return check if aims is None else AimingCheck(check, aims, self.target_rate)

    def success_check(
        self,
        models: Sequence[OpenModel],
        prompts: Sequence[Prompt],
        judge: Judge | None = None,
        aims: Aims | None = None,
    ) -> RefusalRateCheck:
        """The check that decides whether the attack is done; arguments as for `_objective` and `__call__`."""
        return RefusalRateCheck(
            models,
            prompts,
            target_rate=self.target_rate,
            judges=[OwnWordsJudge(judge or PhraseJudge(), self._own(model)) for model in models],
            transforms=self.eot.transforms if self.eot else (),
            draws=self.draws,
            aims=aims,
        )


def perturb_to_refuse(
    picture: Image.Image,
    models: Sequence[OpenModel] | OpenModel,
    questions: Sequence[str],
    *,
    attack: RefusalAttack | None = None,
    bystanders: Sequence[OpenModel] = (),
    seed: int = 0,
    judge: Judge | None = None,
    progress: Callable[[TraceStep], None] | None = None,
) -> PerturbationResult:
    """Perturb one picture so that models refuse to answer questions about it.

    Example:
        `perturb_to_refuse(picture, model, questions, attack=RefusalAttack(steps=50), seed=1).save("out/photo")`

    Args:
        picture: 8-bit, any size.
        models: every model that should refuse, or the only one.
        questions: the shadow questions.
        attack: the settings; None means `RefusalAttack()` aimed at the targets' own refusals.
        bystanders: models whose own replies are preserved.
        seed: of all randomness.
        judge: decides in checks what a refusal is.
        progress: called with every step.

    Raises:
        UsageError: no models, or no or empty questions.
    """
    targets = (models,) if isinstance(models, OpenModel) else tuple(models)
    # Models of transformers have exact revisions, by which their refusals are cached: they are asked once, without what
    # defends them.
    attack = attack or RefusalAttack(
        own_refusals=tuple(elicit(model.core) for model in targets if isinstance(model.core, TransformersModel))
    )
    return attack(picture, targets, questions, bystanders=bystanders, seed=seed, judge=judge, progress=progress)
