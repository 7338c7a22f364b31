"""Each warning of an audit is handed to the number that it is about, once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from equipoise.audit.labels import AXES
from equipoise.audit.warnings import SILENT, UNREACHED, AuditWarning
from equipoise.report.audit.warnings import WarningQueue, label

warnings = st.builds(
    AuditWarning,
    kind=st.sampled_from([UNREACHED, SILENT, "few-samples", "weak_judge"]),
    text=st.text(max_size=4),
    variant=st.sampled_from([None, "plain", "perturbed"]),
    suite=st.sampled_from([None, "safe"]),
    rate=st.sampled_from([None, *AXES]),
)


@given(st.lists(warnings, max_size=12))
def test_every_warning_is_handed_out_once_in_whatever_order_the_page_asks(content: list[AuditWarning]) -> None:
    queue = WarningQueue(content)
    handed = [*queue.first()]
    for variant in ("plain", "perturbed"):
        for suite in (None, "safe"):
            for rate in (*AXES, None):
                handed += queue.take(variant, suite, rate)
    handed += queue.rest()
    key = repr
    assert sorted(handed, key=key) == sorted(content, key=key)
    assert queue.rest() == ()


def test_those_that_void_the_numbers_come_first() -> None:
    other, unreached = AuditWarning("few-samples", "x", "plain"), AuditWarning(UNREACHED, "no model")
    queue = WarningQueue([other, unreached])
    assert queue.first() == (unreached,)
    assert queue.rest() == (other,)


def test_a_rate_takes_only_its_own_and_no_rate_takes_all_that_is_left() -> None:
    mine, theirs = (AuditWarning("few-samples", "x", "plain", "safe", rate) for rate in AXES)
    queue = WarningQueue([mine, theirs])
    assert queue.take("plain", "safe", AXES[0]) == (mine,)
    assert queue.take("plain", "safe", AXES[0]) == ()
    assert queue.take("perturbed", "safe") == ()
    assert queue.take("plain", "safe") == (theirs,)


def test_a_kind_is_shown_as_words() -> None:
    assert label(AuditWarning("few-samples", "x")) == "few samples"
    assert label(AuditWarning("weak_judge", "x")) == "weak judge"
