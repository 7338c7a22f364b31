"""`RecordEntry`: one request in the record; without its words unless the operator wants them kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from equipoise.guard.decision import GuardDecision, difference, sha256


@dataclass(frozen=True)
class RecordEntry:
    """One request and what became of it; everything in it is JSON."""

    request: str
    """The request's id, as in the response's header."""
    time: str
    """When it was answered: ISO 8601, UTC."""
    route: str
    """Such as `/v1/chat/completions`."""
    key: str | None
    """The name of the client's key; None without keys."""
    model: str | None
    """The upstream model that was asked for."""
    status: int
    """Of the response."""
    policy: str
    """Name and revision."""
    detector: str
    """Identity."""
    decisions: Sequence[Mapping[str, Any]]
    """Of the request, then of each reply."""
    receipts: Sequence[Mapping[str, Any]]
    """What was looked at."""
    seconds: float
    """From the request's first byte to the answer."""

    def canonical(self) -> str:
        """One form of JSON for one entry, which is what is hashed."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def describe_decision(decision: GuardDecision, original: str, *, keep_text: bool) -> dict[str, Any]:
    """A decision as the record holds it.

    Args:
        decision: what was decided.
        original: the text it was about.
        keep_text: keep the texts and the difference; otherwise only hashes and lengths, from which nothing is read.
    """
    document: dict[str, Any] = {
        "action": decision.action,
        "observed": decision.observed,
        "harm": decision.harm,
        "categories": list(decision.categories),
        "decided_by": decision.decided_by,
        "why": decision.why,
        "rounds": decision.rounds,
        "scores": [
            {
                "detector": score.detector,
                "harm": score.harm,
                "failure": score.failure,
                "reading": score.reading,
                "seconds": round(score.seconds, 6),
            }
            for score in decision.scores
        ],
        "original": {"sha256": decision.original, "characters": len(original)},
        "returned": {"sha256": sha256(decision.response), "characters": len(decision.response)},
    }
    if keep_text:
        document["original"]["text"] = original
        document["returned"]["text"] = decision.response
        document["difference"] = difference(original, decision.response)
    return document


FIRST = "0" * 64
"""What the first entry is chained to."""


def chained(before: str, canonical: str) -> str:
    """The hash of an entry: sha256 over the hash before and its canonical form."""
    return hashlib.sha256(f"{before}\n{canonical}".encode()).hexdigest()
