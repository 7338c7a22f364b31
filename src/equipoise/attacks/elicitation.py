"""Elicitation: ask a model what it refuses, and keep how it refuses in the user's cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from PIL.Image import new as new_image

from equipoise.attacks.wordings import OwnRefusals, learn_refusals
from equipoise.errors import OutputError, UsageError
from equipoise.files import write_json
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel
from equipoise.models.reference_base import cache_folder
from equipoise.models.transformers_model import TransformersModel
from equipoise.steering.prompt_sets import PromptSet, own_prompts, read_prompts
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.questions import Condition, sample_question
from equipoise.types import Exchange, Judge, Prompt, Verdict

FORMAT: Final = 4
"""Of the cached file; raised when other prompts are asked or other things are learned from the replies."""
REPLY_TOKENS: Final = 40
"""Tokens of a reply: enough for the first sentence of a refusal."""
WRITTEN: Final = 10
"""Prompts of each kind, from the texts of `steering/prompts`, with a picture and without one."""
DRAWN: Final = 6
"""Prompts of each condition of the embedded world."""
BATCH: Final = 8
"""Prompts that are asked together."""
_GREY: Final = new_image("RGB", (96, 96), (128, 128, 128))
_REFUSED: Final[tuple[Condition, ...]] = ("forbidden_text", "forbidden_picture", "forbidden_emblem")


@lru_cache(maxsize=1)
def elicitation_prompts() -> tuple[tuple[Prompt, ...], tuple[Prompt, ...]]:
    """Our own prompts: those that an aligned model refuses, and harmless ones of the same forms.

    Half of the texts come with a picture. The embedded world adds requests and pictures that its models refuse.
    """
    scene, _ = sample_question(np.random.default_rng([5, 0]), "plain_safe", "train")
    picture = draw_scene(scene)
    prompts: dict[str, list[Prompt]] = {}
    for name in ("harmful", "harmless"):
        texts = own_prompts(name).prompts
        # Evenly spaced over the file, not its beginning: neighbouring prompts are often about one topic, and a model
        # may refuse one topic in other words than another.
        chosen = texts[:: max(len(texts) // (2 * WRITTEN), 1)][: 2 * WRITTEN]
        prompts[name] = [
            Prompt.ask(prompt.text, picture) if number % 2 else prompt for number, prompt in enumerate(chosen)
        ]
    conditions: dict[str, Sequence[Condition]] = {"harmful": _REFUSED, "harmless": ("plain_safe", "look_alike_safe")}
    for name, group in conditions.items():
        for number, condition in enumerate(group):
            for index in range(DRAWN):
                # A generator for each drawing: adding a condition or a drawing later leaves all others as they are, and
                # with them the cache.
                rng = np.random.default_rng([5, number, index])
                drawn, question = sample_question(rng, condition, "train", watermarks=False)
                prompts[name].append(Prompt.ask(question.text, draw_scene(drawn)))
    return tuple(prompts["harmful"]), tuple(prompts["harmless"])


def elicit(
    model: OpenModel,
    *,
    file: Path | None = None,
    judge: Judge | None = None,
    progress: Callable[[int, int], None] | None = None,
    cached: bool = True,
) -> OwnRefusals:
    """How a model refuses, from its replies to prompts that ask for harm; from the cache where it was asked before.

    Args:
        model: the target, without defences.
        file: further prompts that it refuses (see `steering.prompt_sets.read_prompts`); asked first.
        judge: decides what a refusal is; None means `PhraseJudge()`, and only then the result is cached.
        progress: called with the prompts asked so far and their number.
        cached: whether the cache is read and written.

    Raises:
        UsageError: a file without prompts.
    """
    given: PromptSet | None = None if file is None else read_prompts(file)
    # Not cached with a judge of the caller's: its identity is unknown here, and another judge would then be given this
    # one's refusals.
    path = _cache_path(model, given) if cached and judge is None else None
    kept = None if path is None else _read(path)
    if kept is not None:
        # The same weights may have been asked under another name, and an attack finds a target's refusals by its name.
        return replace(kept, model=model.name)
    harmful, harmless = elicitation_prompts()
    # The harmless replies are needed as well: an opening is a model's refusal only where its harmless replies do not
    # begin with it ("I'm sorry, I see no ..." may be an answer).
    groups = ((*(given.prompts if given else ()), *harmful), harmless)
    report = progress or (lambda _done, _total: None)
    total, verdicts_by = sum(map(len, groups)), judge or PhraseJudge()
    judged = [
        _ask(model, groups[0], verdicts_by, lambda done: report(done, total)),
        _ask(model, groups[1], verdicts_by, lambda done: report(len(groups[0]) + done, total)),
    ]
    learned = learn_refusals(model.name, model.revision, *judged)
    if path is not None:
        _write(path, learned)
    return learned


def _ask(
    model: OpenModel, prompts: Sequence[Prompt], judge: Judge, progress: Callable[[int], object]
) -> list[tuple[Exchange, Verdict]]:
    exchanges: list[Exchange] = []
    for start in range(0, len(prompts), BATCH):
        exchanges += _replies(model, prompts[start : start + BATCH])
        progress(len(exchanges))
    return list(zip(exchanges, judge(exchanges), strict=True))


def _replies(model: OpenModel, prompts: Sequence[Prompt]) -> list[Exchange]:
    """Replies to prompts; one without a picture gets a grey one where the model cannot do without."""
    with_pictures = [prompt if prompt.pictures else prompt.with_picture(_GREY) for prompt in prompts]
    if isinstance(model, TransformersModel):
        try:
            return model.generate(prompts, max_new_tokens=REPLY_TOKENS)
        except UsageError:
            # Processors without a chat template of their own put the picture first and need one.
            pass
    return model.generate(with_pictures, max_new_tokens=REPLY_TOKENS)


def _cache_path(model: OpenModel, given: PromptSet | None) -> Path | None:
    """The file of a model's refusals; None where its revision names no exact weights."""
    if not model.revision:
        return None
    # All that the result depends on. Our own prompts are covered by `FORMAT`, a user's file by its hash.
    key = [FORMAT, model.revision, PhraseJudge().identity, given.sha256 if given else None]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    return cache_folder() / "refusals" / f"{digest[:32]}.json"


def _read(path: Path) -> OwnRefusals | None:
    try:
        return OwnRefusals.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, learned: OwnRefusals) -> None:
    try:
        write_json(path, learned.to_dict())
    except OutputError:
        # A cache that cannot be written costs the same questions next time, and nothing else.
        return
