"""The attack of a run: a `RefusalAttack` built from the config, on one picture or on all of them together."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from equipoise.perturb.config import RANDOM_REFUSAL, PerturbConfig

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from equipoise.attacks.perturbation_result import PerturbationResult, TraceStep
    from equipoise.attacks.refusal_attack import RefusalAttack
    from equipoise.attacks.wordings import OwnRefusals
    from equipoise.models.base import OpenModel
    from equipoise.transforms.base import Transform
    from equipoise.transforms.eot import EOTConfig


def attack_picture(
    config: PerturbConfig,
    name: str,
    clean: Image,
    targets: Sequence[OpenModel],
    bystanders: Sequence[OpenModel],
    progress: Callable[[TraceStep], None],
    own_refusals: Sequence[OwnRefusals] = (),
    floor: Tensor | None = None,
) -> PerturbationResult:
    """Perturb one picture.

    Args:
        config: what to do.
        name: name of the picture; with a random refusal, each picture draws a sentence of its own.
        clean: the 8-bit picture.
        targets: models that are to refuse.
        bystanders: models that are not; the attack takes them into account only with `keep_away`.
        progress: called after every step.
        own_refusals: how the targets refuse.
        floor: the lowest value of each pixel in the file, where it is partly transparent.
    """
    return build_attack(config, name, own_refusals)(
        clean,
        targets,
        config.questions.shadow,
        bystanders=bystanders if config.keep_away else (),
        seed=config.seed,
        progress=progress,
        floor=floor,
    )


def attack_universal(
    config: PerturbConfig,
    clean: Sequence[Image],
    targets: Sequence[OpenModel],
    bystanders: Sequence[OpenModel],
    progress: Callable[[TraceStep], None],
    own_refusals: Sequence[OwnRefusals] = (),
    floors: Sequence[Tensor | None] = (),
) -> tuple[PerturbationResult, ...]:
    """Perturb pictures with one and the same change; one result for each, in order. Arguments as for one picture."""
    universal = build_attack(config, "", own_refusals).run_universal(
        clean,
        targets,
        config.questions.shadow,
        bystanders=bystanders if config.keep_away else (),
        seed=config.seed,
        progress=progress,
        floors=floors,
    )
    return universal.pictures


def build_attack(config: PerturbConfig, name: str, own_refusals: Sequence[OwnRefusals] = ()) -> RefusalAttack:
    """The attack that a config describes, for the picture of this name, on targets that refuse in these words."""
    from equipoise.attacks.budgets import Budget
    from equipoise.attacks.cropa import CroPAConfig
    from equipoise.attacks.perceptual import Perceptual
    from equipoise.attacks.refusal_attack import RefusalAttack
    from equipoise.steering.direction import Direction

    return RefusalAttack(
        Budget(config.norm, config.epsilon),
        solver=config.solver,
        steps=config.steps,
        reply=_refusal_sentence(config, name),
        own_refusals=tuple(own_refusals),
        aim="sentence" if config.objective == "direction" else config.objective,
        directions=tuple(Direction.load(path) for path in config.directions),
        sentence_weight=config.sentence_weight,
        eot=_eot_config(config.eot),
        learned_prompts=CroPAConfig() if config.learned_prompts else None,
        max_seconds=config.max_seconds,
        perceptual=Perceptual() if config.perceptual else None,
        restarts=config.restarts,
        low_frequency=config.low_frequency,
    )


def eot_transforms() -> dict[str, Transform]:
    """The transformations that `eot` can name."""
    from equipoise.transforms.geometry import Crop, Resize
    from equipoise.transforms.jpeg import Jpeg
    from equipoise.transforms.noise import Noise

    return {"jpeg": Jpeg(), "resize": Resize(), "crop": Crop(), "noise": Noise()}


def _refusal_sentence(config: PerturbConfig, name: str) -> str | None:
    """The sentence to aim at; None leaves it to the attack, which aims at the targets' own refusals."""
    if config.refusal != RANDOM_REFUSAL:
        return config.refusal
    from equipoise.attacks.refusal_targets import draw_target

    # A checksum, not `hash`: Python salts that anew in every process.
    return draw_target(config.seed + zlib.crc32(os.fsencode(name)))


def _eot_config(names: Sequence[str]) -> EOTConfig | None:
    if not names:
        return None
    from equipoise.transforms.eot import EOTConfig

    transforms = eot_transforms()
    return EOTConfig(tuple(transforms[name] for name in names))
