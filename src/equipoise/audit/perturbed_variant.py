"""The perturbed variant of an audit: the same samples with pictures that were attacked to make the model refuse."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.attacks.budgets import Budget
from equipoise.attacks.perturbation_result import PerturbationResult, TraceStep
from equipoise.audit.append_only_log import fingerprint
from equipoise.audit.labels import PERTURBED
from equipoise.audit.perturbed_picture import PerturbedPicture
from equipoise.data.questions import check_disjoint, general
from equipoise.data.sample_pictures import StoredPicture
from equipoise.errors import PictureError, UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel
from equipoise.types import Judge, Picture, Sample

if TYPE_CHECKING:
    from equipoise.attacks.refusal_attack import RefusalAttack
    from equipoise.attacks.wordings import OwnRefusals


@dataclass(frozen=True)
class PerturbedVariantConfig:
    """Which pictures are perturbed, and how."""

    epsilon: float = 8 / 255
    """Largest change of any value."""
    steps: int = 100
    """Most gradient steps for one picture."""
    pictures: int = 4
    """How many pictures; all samples that carry one of them are asked again."""
    seed: int = 0
    """Of the attack and of the choice of pictures."""
    max_seconds: float | None = None
    """Time for one picture."""

    def attack(self, own: OwnRefusals) -> RefusalAttack:
        """The attack itself, on a target that refuses in these words."""
        from equipoise.attacks.refusal_attack import RefusalAttack

        budget = Budget("linf", self.epsilon)
        return RefusalAttack(budget, steps=self.steps, own_refusals=(own,), max_seconds=self.max_seconds)

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides the result, and which judge stops the attack."""
        # Earlier versions aimed at sentences of ours and named no aim.
        return {"name": "refusal", "judge": PhraseJudge().identity, "aim": "own refusals", **asdict(self)}


@dataclass(frozen=True)
class PerturbedSamples:
    """The samples of the perturbed variant."""

    samples: tuple[Sample, ...]
    """The plain samples with another picture."""
    pictures: tuple[PerturbedPicture, ...]
    """What was done."""


def choose_samples(samples: Sequence[Sample], count: int, seed: int) -> list[Picture]:
    """Pictures to perturb: those of samples that should be answered, the ones that carry both failures first.

    The choice depends on the pictures' bytes and the seed alone, not on the order of the samples.
    """
    expected: dict[str, set[str]] = {}
    first: dict[str, Picture] = {}
    for sample in samples:
        if len(sample.pictures) == 1 and sample.problem is None:
            (picture,) = sample.pictures
            first.setdefault(picture.sha256, picture)
            expected.setdefault(picture.sha256, set()).add(sample.expected)

    def order(name: str) -> tuple[bool, str]:
        # False sorts before True.
        return "refuse" not in expected[name], hashlib.sha256(f"{seed} {name}".encode()).hexdigest()

    safe = sorted((name for name in first if "answer" in expected[name]), key=order)
    return [first[name] for name in safe[:count]]


def perturb_samples(
    samples: Sequence[Sample],
    model: OpenModel,
    plan: PerturbedVariantConfig,
    folder: Path,
    *,
    bystanders: Sequence[OpenModel] = (),
    judge: Judge | None = None,
    variant: str = PERTURBED,
    progress: Callable[[int, int, TraceStep | None], None] | None = None,
    eliciting: Callable[[int, int], None] | None = None,
) -> PerturbedSamples:
    """Perturb some pictures and put them in place of the clean ones; results that lie in the folder are used again.

    The model without its defences is first asked what it refuses, if that is not cached. The attack aims at what it
    says then, and such a reply counts as a refusal of the target, word for word.

    Args:
        samples: of the plain variant.
        model: who shall refuse.
        plan: how.
        folder: where the pictures and their records go.
        bystanders: models that are not attacked, to see whether they refuse as well.
        judge: who says what a refusal of theirs is; None means `PhraseJudge()`.
        variant: the name under which the pictures are asked about first.
        progress: called with the number of the picture, of how many, and the step.
        eliciting: called with how many prompts the model was asked that it may refuse, and of how many.

    Raises:
        UsageError: no sample has a picture that should be answered.
    """
    from equipoise.attacks.refusal_evaluation import evaluate
    from equipoise.attacks.success_checks import OwnWordsJudge

    shadow = _shadow(samples)
    chosen = choose_samples(samples, plan.pictures, plan.seed)
    if not chosen:
        raise UsageError(
            "expected at least one sample with one picture that should be answered, got none; "
            "try a suite with pictures, or no --attack"
        )
    own = _own_refusals(model, eliciting)
    target_judge = OwnWordsJudge(judge or PhraseJudge(), own)
    judges = [(model, target_judge), *((bystander, judge) for bystander in bystanders)]
    files: dict[str, Path] = {}
    records = []
    for number, picture in enumerate(chosen, 1):
        recipe = {**plan.recipe, "model": model.name, "revision": model.revision, "shadow": shadow}
        recipe |= {"own_refusals": own.to_dict()}
        # The name holds picture and recipe, so that a run that goes on finds finished attacks, and never those of
        # another budget, model or seed.
        stem = folder / f"{picture.sha256[:16]}-{fingerprint(recipe)[:8]}"
        result = _saved(stem)
        if result is None:
            result = _attack(picture, model, shadow, plan, own, partial(progress or _ignore, number, len(chosen)))
            result.save(stem)
        files[picture.sha256] = stem.with_name(f"{stem.name}.png")
        saved = StoredPicture(files[picture.sha256])
        # Measured on the samples' own questions, which `_shadow` has kept out of the attack.
        safe = [sample.text for sample in samples if sample.expected == "answer" and _shows(sample, picture)]
        rates = [evaluate(open_model, saved.open(), safe, judge=by).refusals.rate for open_model, by in judges]
        records.append(_record(picture, result, saved.sha256, rates, variant))
    swapped = [
        replace(sample, pictures=(StoredPicture(files[sample.pictures[0].sha256]),))
        for sample in samples
        if any(_shows(sample, picture) for picture in chosen)
    ]
    return PerturbedSamples(tuple(swapped), tuple(records))


def _shows(sample: Sample, picture: Picture) -> bool:
    return len(sample.pictures) == 1 and sample.problem is None and sample.pictures[0].sha256 == picture.sha256


def _shadow(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Our general questions without those that a sample asks: no attack is measured on what it optimised."""
    shadow = general()
    sampled = check_disjoint(shadow, {sample.text for sample in samples})
    return tuple(question for question in shadow if not check_disjoint([question], sampled))


def _own_refusals(model: OpenModel, progress: Callable[[int, int], None] | None) -> OwnRefusals:
    """How the model without its defences refuses."""
    from equipoise.attacks.elicitation import elicit
    from equipoise.countermeasures.base import Countermeasure

    return elicit(model.core if isinstance(model, Countermeasure) else model, progress=progress)


def _attack(
    picture: Picture,
    model: OpenModel,
    shadow: Sequence[str],
    plan: PerturbedVariantConfig,
    own: OwnRefusals,
    progress: Callable[[TraceStep | None], None],
) -> PerturbationResult:
    progress(None)
    return plan.attack(own)(picture.open(), [model], shadow, seed=plan.seed, judge=PhraseJudge(), progress=progress)


def _ignore(number: int, count: int, step: TraceStep | None) -> None:
    """The callback of callers who want no progress."""


def _saved(stem: Path) -> PerturbationResult | None:
    try:
        return PerturbationResult.load(stem)
    except PictureError:
        return None


def _record(
    picture: Picture, result: PerturbationResult, perturbed: str, rates: Sequence[float | None], variant: str
) -> PerturbedPicture:
    target, *others = rates
    return PerturbedPicture(
        clean=picture.sha256,
        perturbed=perturbed,
        linf=result.linf,
        psnr=result.psnr,
        ssim=result.ssim,
        losses=tuple(step.loss for step in result.trace),
        stopped=result.stopped,
        seconds=round(result.seconds, 3),
        warnings=result.warnings,
        target=target,
        bystander=max((rate for rate in others if rate is not None), default=None),
        variant=variant,
    )
