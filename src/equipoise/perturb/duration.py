"""How long a run will take at most: a step and a check are timed on one picture, and scaled to the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from equipoise.perturb.config import PerturbConfig

TIMED: Final = 3
"""Steps of the attack that is timed."""
SCORED: Final = 7
"""Candidates that a start scores at its end, at most (see `AttackState`)."""

if TYPE_CHECKING:
    from PIL.Image import Image

    from equipoise.models.base import OpenModel


def most_seconds(
    config: PerturbConfig, sizes: Sequence[tuple[int, int]], picture: Image, targets: Sequence[OpenModel]
) -> float:
    """Seconds that the attacks of a run take at most, their own checks among them, without asking afterwards.

    Args:
        config: of the run.
        sizes: width and height of the pictures.
        picture: the one that is timed.
        targets: the models.
    """
    from equipoise.attacks.large_pictures import seen_pixels, shrunk, working_size
    from equipoise.attacks.refusal_evaluation import prompts_about
    from equipoise.media.quantize import to_pixels
    from equipoise.perturb.attack import build_attack

    most_seen = seen_pixels(targets, picture)
    worked = [width * height for width, height in (working_size(size, most_seen) for size in sizes)]
    copy = shrunk(picture, working_size(picture.size, most_seen))
    whole = build_attack(config, "")
    # Most steps evaluate as many questions as the later ones.
    attack = replace(whole, steps=TIMED, restarts=1, check_every=0, questions_first=None, max_seconds=None)
    if not attack.directions:
        attack = replace(attack, reply="I can't help with that.")
    seconds = _seconds_of_step(lambda step: attack(copy, targets, config.questions.shadow, progress=step))
    started = time.perf_counter()
    whole.success_check(targets, prompts_about(copy, config.questions.shadow, whole.system)).in_full(to_pixels(copy))
    check = time.perf_counter() - started
    # Most checks end after a few questions; whether they will, nobody knows beforehand.
    checking = math.ceil(config.steps / whole.check_every) * config.restarts * check
    # A step's time grows with the pixels that it works on, but never falls below that of the timed one: on a small
    # picture the model takes most of it.
    steps = config.steps * config.restarts
    # A start without success scores its last candidates on all questions, and through every transform.
    per_step = min(attack.questions_per_step or math.inf, len(config.questions.shadow))
    transforms = 1.0 if attack.eot is None else max(1.0, len(attack.eot.transforms) / attack.eot.samples)
    steps += math.ceil(SCORED * config.restarts * transforms * len(config.questions.shadow) / per_step)
    by_picture = [checking + steps * seconds * max(pixels / (copy.width * copy.height), 1.0) for pixels in worked]
    if config.max_seconds is not None:
        # What has begun when the time is spent, a step or a check, is ended.
        by_picture = [min(value, config.max_seconds + max(check, seconds)) for value in by_picture]
    return by_picture[0] if config.universal and config.max_seconds is not None else sum(by_picture)


def _seconds_of_step(attack: Callable[[Callable[[object], None]], object]) -> float:
    """Seconds of the last of some steps. The first compiles, allocates and compares prefix and plain batch.

    An attack that ends earlier, because its loss is no longer finite, is timed by what it did.
    """
    ends = [time.perf_counter()]

    def note(_: object) -> None:
        ends.append(time.perf_counter())
        if len(ends) > TIMED:
            # What follows the last step, the scores of all candidates, is no step.
            raise _EnoughError

    with suppress(_EnoughError):
        attack(note)
    return ends[-1] - ends[-2]


class _EnoughError(Exception):
    """Ends an attack that is timed."""


def in_words(seconds: float) -> str:
    """A time in round words: `40 seconds`, `7 minutes`, `2.5 hours`."""
    if seconds < 90:
        count = max(round(seconds), 1)
        return "1 second" if count == 1 else f"{count} seconds"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"
