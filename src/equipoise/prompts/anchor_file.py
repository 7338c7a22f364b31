"""States and labels of anchors in a file: what takes long before the optimisation, and is the same for all seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from equipoise.errors import UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.judges.run_judge import identity_of
from equipoise.models.base import OpenModel
from equipoise.models.tensor_file import load_with_document, save_with_document
from equipoise.prompts.anchors import Anchor
from equipoise.prompts.dro import DroProgress, DroSettings, anchor_data
from equipoise.prompts.refusal_space import SpaceData
from equipoise.prompts.safety_texts import paper_texts, start_text
from equipoise.types import Judge

FORMAT: Final = 1
"""Part of the name of every file."""


def kept_anchor_data(
    folder: Path,
    model: OpenModel,
    anchors: Sequence[Anchor],
    settings: DroSettings,
    *,
    text: str | None = None,
    judge: Judge | None = None,
    progress: DroProgress | None = None,
) -> SpaceData | None:
    """States and labels of anchors from a folder, read from the model where they are not there yet.

    Args:
        folder: of the files, one for everything that decides them.
        model: of transformers.
        anchors: the requests.
        settings: of the optimisation; the seed does not matter.
        text: that soft prompts begin as; None is `start_text(model)`.
        judge: labels the replies; None means `PhraseJudge()`.
        progress: hears of every stage.

    Returns:
        None where replies are sampled: those are each seed's own.

    Raises:
        UsageError: as `anchor_data`, or a judge that does not say what it is.
        ModelError: likewise.
    """
    if settings.samples != 1:
        return None
    text, judge = text or start_text(model), judge or PhraseJudge()
    pictures = [[(picture.size, picture.tobytes()) for picture in anchor.prompt.pictures] for anchor in anchors]
    requests = [
        (anchor.kind, anchor.prompt.system, [(message.role, message.text) for message in anchor.prompt.messages])
        for anchor in anchors
    ]
    decides = (
        FORMAT,
        model.revision,
        model.number_format,
        text,
        identity_of(judge),
        settings.layer,
        settings.reply_tokens,
        requests,
        pictures,
    )
    file = folder / f"anchors-{hashlib.sha256(repr(decides).encode()).hexdigest()[:16]}.safetensors"
    data = _stored(file, anchors, text)
    if data is None:
        data = anchor_data(model, anchors, settings, text=text, judge=judge, progress=progress)
        save_with_document(file, {"states": data.states, "comply": data.comply}, {"format": FORMAT})
    return data


def _stored(file: Path, anchors: Sequence[Anchor], text: str) -> SpaceData | None:
    try:
        tensors, _ = load_with_document(file, "states of anchors", "equipoise prompt optimise")
    except UsageError:
        # Not there yet, or half written when the process was killed: the states are read again.
        return None
    count = len(paper_texts(text))
    return SpaceData(
        tensors["states"],
        tuple(anchor.modality for anchor in anchors) * count,
        tensors["comply"],
        torch.tensor([anchor.target for anchor in anchors] * count),
        tuple(range(len(anchors))) * count,
    )
