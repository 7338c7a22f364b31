"""`ask`: prompts to a model, replies to a judge, everything into append-only stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equipoise.audit.engine.session import IdentifiedJudge, Outcome, ProgressSink, Target
from equipoise.audit.records import Ledger, ReplyRow, SampleRow, VerdictRow
from equipoise.types import Sample


def ask(
    rows: Sequence[tuple[SampleRow, Sample]],
    target: Target,
    *,
    replies: Ledger[ReplyRow],
    verdicts: Ledger[VerdictRow],
    judge: IdentifiedJudge,
    logs: Path,
    max_new_tokens: int = 256,
    connections: int | None = None,
    timeout: float | None = None,
    retries: int = 2,
    progress: ProgressSink | None = None,
) -> Outcome:
    """Ask what has not been asked, judge what has not been judged."""
    raise NotImplementedError
