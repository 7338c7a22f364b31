"""The fit of a DeRTa adapter for a frontier: rows that the model itself writes to prompts of the selection split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from equipoise.audit.frontier.fitters import FitOutcome, FitRequest, evenly
from equipoise.audit.text_attacks import AGREEMENT
from equipoise.data.refusal_rows import RefusalRow, RowKind
from equipoise.errors import EquipoiseError
from equipoise.models.transformers_model import TransformersModel
from equipoise.reference.alignment_prompts import refusal_parts
from equipoise.training.compiled_layers import has_compiler
from equipoise.training.derta.train import DertaTrainingConfig, train
from equipoise.types import Sample

ROWS: Final = 48
"""Rows of each kind at most."""
ANSWER_TOKENS: Final = 48
"""Length of the answers that the model writes."""
STEPS: Final = 240
"""Of the optimiser."""
SETTINGS: Final[dict[str, Any]] = {"batch": 8, "rate": 3e-4, "rto_weight": 0.3}
"""Of the training: few steps need a high rate, and a full weight of the transition would make a model repeat openers
before it has learned how to go on."""
FOLDER: Final = "adapter"
LONGEST: Final = 600
"""Characters of a prompt that is learned from, at most: a few documents would take most of the time of a fit, and one
that is longer than a row may be would end it."""
COMPILED_FROM: Final = 50_000_000
"""Parameters from which compiled layers save more time on a CPU than the compiler takes."""


def fit_derta(request: FitRequest, *, steps: int = STEPS) -> FitOutcome:
    """An adapter with which the model refuses at any position of a reply; the folder `adapter`.

    No harmful answer comes with Equipoise: the model writes them, after its reply has begun to agree. Answers to
    harmless prompts are its own as well, so that little else is learned.
    """
    groups = {
        "harmful": evenly(_texts(request.data.harmful), ROWS),
        "boundary": evenly([s for s in _texts(request.data.harmless) if s.suite != "equipoise-harmless"], ROWS),
        "ordinary": evenly([s for s in _texts(request.data.harmless) if s.suite == "equipoise-harmless"], ROWS),
    }
    rows: list[RefusalRow] = []
    for kind, samples in groups.items():
        rows += _written(request, kind, samples, len(rows))  # type: ignore[arg-type]
    used = tuple(sample for samples in groups.values() for sample in samples)
    config = DertaTrainingConfig(
        request.model.name, steps=steps, seed=request.seed, compiled=_compile(request), **SETTINGS
    )
    counts = {kind: sum(row.kind == kind for row in rows) for kind in groups}
    for kind, count in counts.items():
        if not count:
            return FitOutcome(None, used, f"the model wrote no usable answer to {len(groups[kind])} {kind} prompts")
    try:
        train(
            config,
            rows,
            request.folder / FOLDER,
            checkpoint_every=10,
            progress=lambda step, total, _: request.progress("derta", step, total),
        )
    except EquipoiseError as error:
        return FitOutcome(None, used, str(error))
    doubts = (f"trained for {steps} steps on {len(rows)} rows, whose answers the model wrote itself",)
    return FitOutcome(FOLDER, used, doubts=doubts, details={"rows": counts})


def _written(request: FitRequest, kind: RowKind, samples: Sequence[Sample], first: int) -> list[RefusalRow]:
    """Rows with the model's own answers; prompts that it refuses are left out."""
    parts, random = refusal_parts().unlike_answers, np.random.default_rng([request.seed, 23])
    prefill = AGREEMENT if kind == "harmful" else ""
    exchanges = []
    for start in range(0, len(samples), 16):
        prompts = [replace(sample.prompt, prefill=prefill) for sample in samples[start : start + 16]]
        exchanges += request.model.generate(prompts, max_new_tokens=ANSWER_TOKENS)
        request.progress("rows", start, len(samples))
    rows: list[RefusalRow] = []
    for sample, exchange, verdict in zip(samples, exchanges, request.judge(exchanges), strict=True):
        reply = exchange.reply.strip()
        if reply and verdict.refusal == "none":
            refusal = parts.draw(random) if kind == "harmful" else ""
            line = first + len(rows) + 1
            rows.append(RefusalRow(line, kind, (("user", sample.text),), reply, refusal, sample.system))
    return rows


def _compile(request: FitRequest) -> bool:
    """Whether layers are compiled for the training: on a CPU, for a model that is worth it, with a C++ compiler."""
    if not isinstance(request.model, TransformersModel) or request.model.device.type != "cpu":
        return False
    large = sum(parameter.numel() for parameter in request.model.model.parameters()) >= COMPILED_FROM
    return large and has_compiler()


def _texts(samples: Sequence[Sample]) -> list[Sample]:
    """Those of one turn and no picture, as rows have them, that are no documents."""
    return [s for s in samples if not s.pictures and not s.prefill and not s.earlier and len(s.text) <= LONGEST]
