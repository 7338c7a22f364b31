"""A text that each check reads from its start is checked less often; nothing leaves that no check has passed."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.streaming.choice_buffer import GROWTH, ChoiceBuffer
from equipoise.guard.gateway.streaming.guarded_stream import GuardedStream
from equipoise.guard.gateway.streaming.stream_stats import StreamStats
from equipoise.guard.pipeline import allow
from equipoise.guard.policy import StreamPolicy

EVERY = 120


def checks_of(share: int, pieces: int = 2000) -> list[int]:
    """Lengths of the text at its checks, each of which reads so many sixteenths of it again."""
    buffer, lengths = ChoiceBuffer(0, 240), []
    for _ in range(pieces):
        buffer.add({"delta": {"content": "All that is said her"}}, {})
        if buffer.due(EVERY):
            lengths.append(len(buffer.text))
            buffer.reread = len(buffer.text) * share // GROWTH
            buffer.allow(final=False)
    return lengths


def test_a_text_of_which_only_the_end_is_read_is_checked_every_so_many_characters() -> None:
    assert checks_of(0) == list(range(EVERY, 40_001, EVERY))


def test_a_text_that_is_read_again_is_checked_each_time_that_it_has_grown_by_a_sixteenth() -> None:
    lengths = checks_of(GROWTH)
    for before, after in itertools.pairwise(lengths):
        least = max(EVERY, before // GROWTH)
        assert least <= after - before < least + 20
    assert [after - before for before, after in itertools.pairwise(lengths) if before < GROWTH * EVERY] == [EVERY] * 15
    # Together they read the text 17 times, not 167 times as checks of every 120 characters would.
    assert sum(lengths) < 18 * 40_000


class Upstream:
    """A stream whose checks read as much again as a test says, and allow all but one word.

    Args:
        words: of the reply.
        reread: what the checks read again, one after the other, as shares of the text in sixteenths.
        stopped: a text with it is refused.
        pauses: whether the gateway may act before the next word is there, one word after the other.
    """

    def __init__(self, words: list[str], reread: list[int], stopped: str, pauses: list[bool]) -> None:
        self.words, self.stopped = words, stopped
        self._pauses = itertools.cycle(pauses)
        self._reread = itertools.cycle(reread)
        self.allowed = ""
        """The longest text that a check has passed."""

    async def review(self, text: str, *, side_texts: tuple[str, ...], rewrite: bool) -> GuardDecision:
        reread = len(text) * next(self._reread) // GROWTH
        if self.stopped in text:
            return GuardDecision("refuse", "No.", 0.9, "words", "stopped", reread=reread)
        self.allowed = text
        return GuardDecision("allow", text, 0.0, "words", "fine", reread=reread)

    async def chunks(self) -> AsyncIterator[dict[str, object]]:
        for word in [*self.words, None]:
            delta = {} if word is None else {"content": word}
            if next(self._pauses):
                await asyncio.sleep(0)
            yield {"choices": [{"index": 0, "delta": delta, "finish_reason": "stop" if word is None else None}]}

    async def sent(self, hold: int, every: int) -> AsyncIterator[str]:
        """All that was sent, after each event."""
        stream = GuardedStream(self.review, StreamPolicy(mode="holdback", hold=hold, every=every), StreamStats(), allow)
        sent = ""
        async for part in stream.run(self.chunks(), self._stop):
            for event in part.split(b"\n\n")[:-1]:
                if b"[DONE]" not in event:
                    (choice,) = json.loads(event.removeprefix(b"data: "))["choices"]
                    sent += choice["delta"].get("content") or ""
            yield sent

    async def _stop(self) -> None:
        return


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.text("abc. <*\u0301\u200b", min_size=1, max_size=60), min_size=1, max_size=60),
    st.lists(st.integers(0, 3 * GROWTH), min_size=1, max_size=8),
    st.integers(1, 60),
    st.integers(1, 40),
    st.sampled_from(["xx", "bb", "c. a"]),
    st.lists(st.booleans(), min_size=1, max_size=8),
)
@example(["a " * 20] * 60 + ["xx"], [GROWTH], 10, 10, "xx", [True])
def test_no_character_leaves_that_no_check_has_passed(
    words: list[str], reread: list[int], hold: int, every: int, stopped: str, pauses: list[bool]
) -> None:
    async def run() -> None:
        upstream, text, sent = Upstream(words, reread, stopped, pauses), "".join(words), ""
        async for sent in upstream.sent(hold, every):
            assert upstream.allowed.startswith(sent)
            assert sent == "" or upstream.allowed == text or len(sent) <= len(upstream.allowed) - hold
            assert stopped not in sent
        assert stopped in text or sent == text

    asyncio.run(run())


@pytest.mark.parametrize("share", [0, GROWTH])
def test_what_a_late_check_has_not_seen_is_held_back(share: int) -> None:
    buffer, late = ChoiceBuffer(0, 240), 0
    for _ in range(2000):
        buffer.add({"delta": {"content": "All that is said her"}}, {})
        if buffer.due(EVERY):
            buffer.reread = len(buffer.text) * share // GROWTH
            buffer.allow(final=False)
        buffer.release(final=False)
        late = max(late, buffer.unjudged)
        assert buffer.sent <= buffer.allowed <= max(0, buffer.judged - 240)
    # The last pieces wait for longer where checks come later, and are held back for as long.
    assert (late > EVERY) == bool(share)
    assert late <= max(EVERY, 40_000 // GROWTH + 20)
