"""A frontier of the planted model; run as a program, one that kills itself or refuses to fit."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.audit.engine.session import EvaluationTarget
from equipoise.audit.frontier import fitters
from equipoise.audit.frontier.config import FrontierCallbacks, FrontierConfig
from equipoise.audit.frontier.run import run_frontier
from equipoise.audit.frontier.variant import parse_variant
from equipoise.audit.run import AuditCallbacks
from equipoise.steering.prompt_sets import PromptSet
from tests.audit.frontier.samples import PlantedJudge, registry
from tests.steering import planted


class SorryJudge:
    """Who judges refusals while fitting."""

    identity = "sorry"
    __call__ = staticmethod(planted.sorry_judge)


def own(name: str) -> PromptSet:
    """Stands in for prompts of our own, in the words of the planted model."""
    kinds = {"harmful": ("attack",), "pseudo_harmful": ("shoot",), "contrast_harmful": ("attack", "shoot")}
    words = kinds.get(name, ())
    return planted.prompts(f"own-{name}", 32, *words)


def planted_config(folder: Path, *texts: str, **fields: Any) -> FrontierConfig:
    model = planted.planted_model()
    return FrontierConfig(
        target=EvaluationTarget("planted", model.revision, model),
        registry=registry(),
        judge=PlantedJudge(),
        out=folder,
        variants=tuple(parse_variant(text, "planted") for text in texts),
        max_new_tokens=2,
        fit_judge=SorryJudge(),
        **fields,
    )


def main() -> None:
    import equipoise.steering.prompt_sets as prompt_sets

    prompt_sets.own_prompts = own  # type: ignore[assignment]
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    watch = FrontierCallbacks()
    if mode == "kill":

        def progress(state: Any) -> None:
            if list(folder.glob("runs/surgical/replies.jsonl")) and state.done >= 3:
                os.kill(os.getpid(), signal.SIGKILL)

        watch = replace(watch, audit=AuditCallbacks(progress=progress))
    elif mode == "kill-in-fit":

        def fitting(stage: str, done: int, total: int) -> None:
            if stage.startswith("activations"):
                os.kill(os.getpid(), signal.SIGKILL)

        watch = replace(watch, fit=fitting)
    elif mode == "refuse-to-fit":

        def refuse(request: Any) -> Any:
            raise AssertionError("fitted twice")

        fitters.FITTERS["surgical"] = replace(fitters.FITTERS["surgical"], fit=refuse)
    run_frontier(planted_config(folder, "surgical"), watch)


if __name__ == "__main__":
    main()
