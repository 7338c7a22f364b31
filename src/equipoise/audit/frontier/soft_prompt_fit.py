"""The fit of a soft prompt (DRO) for a frontier: anchors of the selection split and of our own, one prompt a seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from equipoise.audit.frontier.fitters import FitOutcome, FitRequest, evenly
from equipoise.errors import UsageError
from equipoise.prompts.anchor_file import kept_anchor_data
from equipoise.prompts.anchors import Anchor, AnchorKind
from equipoise.prompts.dro import DroSettings, optimise
from equipoise.types import Sample

ANCHORS: Final = 32
"""Anchors of each kind at most: states and replies of every one are needed under four system texts."""
SETTINGS: Final = DroSettings(epochs=12, batch=16, learning_rate=3e-3, patience=3, reply_tokens=20)
"""Fewer and larger steps than the paper's, so that a fit takes minutes on a processor; early stop decides."""


def fit_soft_prompt(request: FitRequest, settings: DroSettings = SETTINGS) -> FitOutcome:
    """A soft prompt that begins as our policy `safety`; `soft.safetensors`.

    Anchors are an even choice of harmful samples, of harmless ones, and of such that look harmful or that a suite
    asks because models refuse them.
    """
    samples = _chosen(request)
    settings = replace(settings, seed=request.seed)
    anchors = [Anchor(sample.prompt, kind) for sample, kind in samples]
    used = tuple(sample for sample, _ in samples)
    try:
        data = (
            None
            if request.shared is None
            else kept_anchor_data(
                request.shared, request.model, anchors, settings, judge=request.judge, progress=request.progress
            )
        )
        result = optimise(request.model, anchors, settings, judge=request.judge, progress=request.progress, data=data)
    except UsageError as error:
        # A model that answers, or refuses, all anchors has no direction of compliance to optimise along.
        return FitOutcome(None, used, str(error))
    first, best = (result.history[index]["validation"] for index in (0, result.best))
    if result.best == 0:
        return FitOutcome(None, used, f"no pass lowered the loss of {first:.3f} on anchors kept back")
    result.prompt.save(request.folder / "soft.safetensors")
    doubts = (f"its loss on anchors kept back fell from {first:.3f} to {best:.3f}",)
    details = {"passes": result.best, "tokens": len(result.prompt), "complied": result.details["complied"]}
    return FitOutcome("soft.safetensors", used, doubts=doubts, details=details)


def _chosen(request: FitRequest) -> list[tuple[Sample, AnchorKind]]:
    """At most `ANCHORS` of each kind, evenly over the suites."""
    reads = request.model.reads_pictures
    rows: dict[AnchorKind, list[Sample]] = {"harmful": [], "harmless": [], "pseudo-harmful": []}
    for sample in (*request.data.harmful, *request.data.harmless):
        plain = sample.suite == "equipoise-harmless"
        kind: AnchorKind = "harmful" if sample.expected == "refuse" else "harmless" if plain else "pseudo-harmful"
        if (reads or not sample.pictures) and not sample.prefill:
            rows[kind].append(sample)
    return [(sample, kind) for kind, group in rows.items() for sample in evenly(group, ANCHORS)]
