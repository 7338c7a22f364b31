"""A text that each check reads from its start is checked less often; nothing leaves that was not judged."""

from __future__ import annotations

from equipoise.guard.gateway.streaming.choice_buffer import GROWTH, ChoiceBuffer


def grown(reread: int) -> tuple[int, ChoiceBuffer]:
    """How many checks of 40,000 characters are due, where each reads that share of the text again in sixteenths."""
    buffer, checks = ChoiceBuffer(0, 240), 0
    for _ in range(2000):
        buffer.add({"delta": {"content": "All that is said here. "[:20]}}, {})
        if buffer.due(120):
            checks += 1
            buffer.reread = len(buffer.text) * reread // GROWTH
            buffer.allow(final=False)
        buffer.release(final=False)
        assert buffer.sent <= buffer.allowed <= buffer.judged
    return checks, buffer


def test_only_a_text_that_is_read_again_is_checked_less_often() -> None:
    assert grown(0)[0] == 40_000 // 120
    assert grown(GROWTH)[0] < 80


def test_what_a_late_check_has_not_seen_is_held_back() -> None:
    _, buffer = grown(GROWTH)
    assert 120 < buffer.unjudged <= buffer.judged // GROWTH + 20
    assert buffer.sent < buffer.judged
