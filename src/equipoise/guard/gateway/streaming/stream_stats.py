"""`StreamStats`: what happened in a guarded stream, for receipts, the record and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.guard.decision import CheckFailure, GuardDecision
from equipoise.guard.gateway.dialects import is_frame
from equipoise.guard.gateway.errors import RequestProblem, unchecked_problem
from equipoise.guard.gateway.streaming.choice_buffer import ChoiceBuffer
from equipoise.guard.gateway.upstream_errors import ReportedError


@dataclass
class StreamStats:
    """What happened in a stream, for receipts, the record and metrics."""

    choices: dict[int, ChoiceBuffer] = field(default_factory=dict)
    """The buffer of each choice by its index."""
    decisions: dict[int, GuardDecision] = field(default_factory=dict)
    """The last decision about each choice."""
    leaked: int = 0
    """Characters sent although a check flagged the text with them; 0 unless the mode is `observe`."""
    first_text_received: float | None = None
    """When the first text came, on the monotonic clock."""
    first_text_sent: float | None = None
    """When the first text was sent."""
    problem: str | None = None
    """What was wrong with the upstream's stream."""
    reported: ReportedError | None = None
    """The error that the upstream reported in its stream, if it did."""
    error: dict[str, Any] = field(default_factory=dict)
    """The error object that ended a broken stream; empty if none did."""
    usage: Any = None
    """The last token counts of the upstream."""
    failure: CheckFailure | None = None
    """Why a choice could not be checked, if that ended the stream."""
    framed: Mapping[str, Any] = field(default_factory=dict)
    """A chunk of the upstream, the latest with a choice if there was one: it has the fields that all chunks share."""

    @property
    def frame(self) -> dict[str, Any]:
        """Fields that all chunks of the upstream share, such as id and model."""
        return frame_of(self.framed)

    def ending(self) -> RequestProblem | None:
        """The error that ended the stream; None if it is complete."""
        if self.failure is not None:
            return unchecked_problem(self.failure, "reply")
        if not self.error:
            return None
        status = (self.reported.status if self.reported is not None else None) or 502
        error, headers = self.error, self.reported.headers if self.reported is not None else {}
        return RequestProblem(status, error["message"], error["code"], headers, error["param"], error["type"])

    def unsent_problem(self) -> RequestProblem | None:
        """The error that ended the stream before anything was sent, if it has a status: clients retry by that."""
        has_status = self.failure is not None or (self.reported is not None and self.reported.status is not None)
        started = any(choice.started for choice in self.choices.values())
        return self.ending() if has_status and not started else None


def frame_of(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a chunk that all chunks of a stream share."""
    return {name: value for name, value in chunk.items() if is_frame(name, value) and name not in ("choices", "usage")}
