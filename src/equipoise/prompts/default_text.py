"""The system text that a chat template writes by itself, where a conversation has none."""

from __future__ import annotations

from typing import Final

from equipoise.models.base import OpenModel
from equipoise.models.transformers_model import TransformersModel
from equipoise.types import Prompt

_SENTINEL: Final = "Zq7 xylem 93 vortex jade"
"""Stands where a system text would."""
_REQUEST: Final = "0 kayak ohm 58"


def default_system_text(model: OpenModel) -> str:
    """What the template of a model says in the place of a missing system text; empty where it says nothing there.

    Two renderings are compared: with a sentinel as the system text, and without one. Where the second has the same
    beginning and the same end, what lies between them stands in the sentinel's place. A template that leaves the
    whole system turn out, or folds it into the user's, has another beginning or end.
    """
    if not isinstance(model, TransformersModel) or not model.has_chat_template:
        return ""
    before, sentinel, after = model.render(Prompt.ask(_REQUEST, system=_SENTINEL)).partition(_SENTINEL)
    plain = model.render(Prompt.ask(_REQUEST))
    if not sentinel or len(plain) < len(before) + len(after):
        return ""
    if not plain.startswith(before) or not plain.endswith(after):
        return ""
    return plain[len(before) : len(plain) - len(after)].strip()
