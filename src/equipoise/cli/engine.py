"""The attack that a plan asks for."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from equipoise.cli.plan import PerturbConfig

if TYPE_CHECKING:
    from PIL.Image import Image

    from equipoise.attacks.perturbation_result import PerturbationResult, TraceStep
    from equipoise.models.base import OpenModel
    from equipoise.transforms.base import Transform
    from equipoise.transforms.eot import EOTConfig


def attack(
    plan: PerturbConfig,
    name: str,
    clean: Image,
    targets: Sequence[OpenModel],
    bystanders: Sequence[OpenModel],
    progress: Callable[[TraceStep], None],
) -> PerturbationResult:
    """Perturb one picture as planned.

    Args:
        plan: what to do.
        name: what the picture is called, so that each draws a sentence of its own.
        clean: the picture.
        targets: models that shall refuse.
        bystanders: models that shall not; they steer the attack only where the plan says keep away.
        progress: is told of every step.
    """
    from equipoise.attacks.budgets import Budget
    from equipoise.attacks.refusal_attack import RefusalAttack

    _reset_peak(targets)
    prepared = RefusalAttack(
        Budget(plan.norm.value, plan.epsilon),
        solver=plan.solver,
        steps=plan.steps,
        reply=_sentence(plan, name),
        eot=_expectation(plan.eot),
        max_seconds=plan.max_seconds,
    )
    return prepared(
        clean,
        targets,
        plan.questions.shadow,
        bystanders=bystanders if plan.keep_away else (),
        seed=plan.seed,
        progress=progress,
    )


def peak_memory(models: Sequence[OpenModel]) -> int | None:
    """Bytes in use at the worst moment: of the GPUs since the attack began, or of the process on a CPU."""
    import torch

    devices = {model.device for model in models if model.device.type == "cuda"}
    if devices:
        return sum(torch.cuda.max_memory_allocated(device) for device in devices)
    try:
        import resource
    except ImportError:
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def _sentence(plan: PerturbConfig, name: str) -> str | None:
    """The sentence to aim at; None leaves it to the attack, which takes the likeliest."""
    from equipoise.attacks.refusal_targets import draw_target

    return draw_target(plan.seed + zlib.crc32(name.encode())) if plan.refusal == "random" else plan.refusal


def _reset_peak(models: Sequence[OpenModel]) -> None:
    import torch

    for device in {model.device for model in models if model.device.type == "cuda"}:
        torch.cuda.reset_peak_memory_stats(device)


def _expectation(names: Sequence[str]) -> EOTConfig | None:
    if not names:
        return None
    from equipoise.transforms.eot import EOTConfig
    from equipoise.transforms.geometry import Crop, Resize
    from equipoise.transforms.jpeg import Jpeg
    from equipoise.transforms.noise import Noise

    known: dict[str, Transform] = {"jpeg": Jpeg(), "resize": Resize(), "crop": Crop(), "noise": Noise()}
    return EOTConfig(tuple(known[name] for name in names))
