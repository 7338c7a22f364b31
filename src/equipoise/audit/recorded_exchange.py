"""`to_exchange`: a recorded reply as judges take it."""

from __future__ import annotations

from equipoise.audit.records import ReplyRow
from equipoise.judges.llm_interface import drop_lone_surrogates
from equipoise.types import Exchange, Sample


def to_exchange(sample: Sample, row: ReplyRow) -> Exchange:
    """A recorded reply as judges take it; opens the sample's pictures."""
    return Exchange(
        sample.prompt, drop_lone_surrogates(row.reply), row.finish, row.model, row.wire, row.error, row.by, sample
    )
