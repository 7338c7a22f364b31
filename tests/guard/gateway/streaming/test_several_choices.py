"""Choices of one stream: words before the first of them, and choices that come one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.streaming.events import FINISHED
from equipoise.guard.gateway.streaming.guarded_stream import GuardedStream
from equipoise.guard.gateway.streaming.stream_stats import StreamStats
from equipoise.guard.pipeline import allow
from equipoise.guard.policy import StreamPolicy
from tests.guard.gateway.streaming.test_guarded_stream import Reviewer, chunk, stream


def sent(documents: list[dict[str, Any]], choices: int) -> tuple[bytes, list[str]]:
    """What leaves of chunks that come one by one, and what was judged."""
    judged: list[str] = []
    reviewer = Reviewer()

    async def review(text: str, *, side_texts: tuple[str, ...], rewrite: bool) -> GuardDecision:
        judged.append(text)
        return await reviewer(text, side_texts=side_texts, rewrite=False)

    async def upstream() -> AsyncIterator[dict[str, Any] | None]:
        for document in (*documents, FINISHED):
            yield document
            await asyncio.sleep(0)

    async def stop() -> None:
        pass

    async def go() -> bytes:
        settings = StreamPolicy(hold=20, every=10)
        guarded = GuardedStream(review, settings, StreamStats(), allow, choices=choices)
        return b"".join([part async for part in guarded.run(upstream(), stop)])

    return asyncio.run(go()), judged


@pytest.mark.parametrize("first", ["a BOMB", "fine"])
def test_every_word_before_the_first_choice_is_judged(first: str) -> None:
    notes = [{"id": "c", "choices": [], "note": words} for words in (first, "done")]
    raw, judged = sent([*notes, *stream(["All is well."])], 1)
    assert all(words in judged[-1] for words in (first, "done"))
    assert (b"BOMB" in raw, b"All is well." in raw) == (False, first == "fine")


def test_a_choice_that_begins_after_another_was_refused_is_sent() -> None:
    documents = [*stream(["a BOMB " * 9]), *stream(["All is well."], index=1)]
    raw, _ = sent(documents, 2)
    assert b"BOMB" not in raw
    assert b"All is well." in raw
    alone, judged = sent([*stream(["a BOMB " * 9]), chunk({"content": "never read"}, index=1)], 1)
    assert b"never read" not in alone
    assert judged
