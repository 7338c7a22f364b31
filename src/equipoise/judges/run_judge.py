"""One judge's verdicts on a batch; a judge that fails gives unscored verdicts with the reason."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from equipoise.errors import UsageError
from equipoise.types import Exchange, Judge, Verdict

logger = logging.getLogger(__name__)

Said = TypeVar("Said")
BROKEN = 3
"""Exchanges in a row on which a judge fails alone, after which it is taken for broken."""


def name_of(judge: Judge) -> str:
    """What people call a judge: its `name`, or that of its class."""
    return str(getattr(judge, "name", type(judge).__name__))


def identity_of(judge: Judge) -> str:
    """The hash over everything that decides a judge's verdicts.

    Raises:
        UsageError: it has none.
    """
    identity = getattr(judge, "identity", None)
    if not isinstance(identity, str):
        raise UsageError(f"expected a judge with an identity hash, got {name_of(judge)} without one; try adding one")
    return identity


def digest(parts: Any) -> str:
    """sha256 over the canonical JSON of what decides a verdict."""
    # A reply may hold half a surrogate pair, which strict UTF-8 has no bytes for.
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def run_judge(judge: Judge, exchanges: Sequence[Exchange]) -> list[Verdict]:
    """One verdict for each exchange, in order; unscored, with the reason, where the judge breaks on it."""
    outcomes = run_judge_safely(name_of(judge), judge, exchanges)
    return [Verdict(None, unscored=outcome) if isinstance(outcome, str) else outcome for outcome in outcomes]


def run_judge_safely(
    name: str, ask: Callable[[Sequence[Exchange]], Sequence[Said]], exchanges: Sequence[Exchange]
) -> list[Said | str]:
    """What a judge says of each exchange, or the reason in one sentence where it failed.

    A broken judge must neither end a run nor decide anything in it; the log has its traceback. An exchange on which it
    breaks must not cost the others of its batch their verdicts: they are asked about one by one then.
    """
    if not exchanges:
        return []
    try:
        outcomes = list(ask(exchanges))
    except Exception as error:
        # Whatever it is, it is this judge's failure and no verdict.
        logger.warning("the judge %s failed on %d exchanges", name, len(exchanges), exc_info=True)
        reason = f"the judge {name} failed: {error_line(error)}"
        return _one_by_one(name, ask, exchanges, reason) if len(exchanges) > 1 else [reason]
    if len(outcomes) != len(exchanges):
        logger.warning("the judge %s gave %d verdicts for %d exchanges", name, len(outcomes), len(exchanges))
        return [f"the judge {name} gave {len(outcomes)} verdicts for {len(exchanges)} exchanges"] * len(exchanges)
    return [*outcomes]


def _one_by_one(
    name: str, ask: Callable[[Sequence[Exchange]], Sequence[Said]], exchanges: Sequence[Exchange], reason: str
) -> list[Said | str]:
    """The same of a batch on which a judge has failed, each exchange by itself."""
    outcomes: list[Said | str] = []
    failures = 0
    for exchange in exchanges:
        (outcome,) = run_judge_safely(name, ask, [exchange])
        outcomes.append(outcome)
        failures = failures + 1 if isinstance(outcome, str) else 0
        if failures == BROKEN:
            break
    return outcomes + [reason] * (len(exchanges) - len(outcomes))


def error_line(what: object, limit: int = 200) -> str:
    """An error's message, or any text, in one line of at most `limit` characters."""
    text = " ".join(str(what).split()) or type(what).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
