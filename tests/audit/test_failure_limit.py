from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from equipoise.audit.failure_limit import FailureLimit, accept_failures
from equipoise.audit.records import AuditRun
from equipoise.audit.summary import summarise
from equipoise.errors import UsageError
from tests.audit.factories import rows, write_run


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("0", FailureLimit(0)),
        ("3", FailureLimit(3)),
        ("0.01", FailureLimit(share=0.01)),
        ("1%", FailureLimit(share=0.01)),
        ("2.5 %", FailureLimit(share=0.025)),
        ("1.0", FailureLimit(share=1.0)),
    ],
)
def test_a_whole_number_is_a_count_and_anything_else_a_share(text: str, limit: FailureLimit) -> None:
    assert FailureLimit.parse(text) == limit


@pytest.mark.parametrize("text", ["", "many", "-1", "1.5", "101%", "nan", "1e9", "\u0661"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="try 3"):
        FailureLimit.parse(text)


def test_a_share_is_of_all_prompts() -> None:
    limit = FailureLimit(share=0.01)
    assert limit.allows(1, 100)
    assert not limit.allows(2, 199)
    assert FailureLimit(2).allows(2, 2)
    assert not FailureLimit(0).allows(1, 1000)


def failed_run(folder: Path, *, permanent: int, passing: int) -> AuditRun:
    """A run with ten replies and these failures; `write_run` knows nothing of permanence, so that it is added here."""
    failures = [*rows(permanent, "p-", error="HTTP 400: no"), *rows(passing, "t-", error="HTTP 503: busy")]
    run = write_run(folder, [*rows(10, "a-"), *failures])
    run.replies().append(
        replace(row, permanent=True) for row in list(run.replies().rows()) if (row.error or "").startswith("HTTP 400")
    )
    return run


def test_permanent_failures_within_the_limit_finish_a_run(tmp_path: Path) -> None:
    run = failed_run(tmp_path / "run", permanent=2, passing=0)
    assert not summarise(run).complete
    assert accept_failures(run, FailureLimit(2)) == 2
    summary = summarise(run)
    assert summary.complete
    assert summary.variants["plain"].rates.needless_refusal.n == 10
    assert summary.variants["plain"].rates.needless_refusal.unscored == 2
    size = (run.folder / "replies.jsonl").stat().st_size
    assert accept_failures(run, FailureLimit(2)) == 2
    assert (run.folder / "replies.jsonl").stat().st_size == size, "each is accepted once"


@pytest.mark.parametrize("limit", [FailureLimit(), FailureLimit(1), FailureLimit(share=0.1)])
def test_more_failures_than_the_limit_accept_none(tmp_path: Path, limit: FailureLimit) -> None:
    run = failed_run(tmp_path / "run", permanent=2, passing=0)
    assert accept_failures(run, limit) == 0
    assert not summarise(run).complete


def test_a_failure_that_passes_is_never_accepted(tmp_path: Path) -> None:
    run = failed_run(tmp_path / "run", permanent=1, passing=1)
    assert accept_failures(run, FailureLimit(share=1.0)) == 1
    assert not summarise(run).complete
    assert sum(case.pending for case in run.cases()) == 1
