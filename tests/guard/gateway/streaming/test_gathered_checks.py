"""One check is about all that has come meanwhile, text goes on leaving, and no check waits for what is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import pytest

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.streaming.guarded_stream import GATHERED, GuardedStream
from equipoise.guard.gateway.streaming.stream_stats import StreamStats
from equipoise.guard.pipeline import allow
from equipoise.guard.policy import StreamPolicy

pytestmark = pytest.mark.anyio
EVERY = 10


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def words(text: str, index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]}


class Reviewer:
    """Allows everything after a while; remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    async def __call__(self, text: str, *, side_texts: tuple[str, ...], rewrite: bool) -> GuardDecision:
        self.shown.append(text)
        await asyncio.sleep(0.001)
        return GuardDecision("allow", text, 0.0, "words", "fine")


def guarded(review: Reviewer, upstream: AsyncIterator[dict[str, Any] | None]) -> AsyncIterator[bytes]:
    async def stop() -> None:
        return

    stream = GuardedStream(review, StreamPolicy(mode="holdback", hold=20, every=EVERY), StreamStats(), allow)
    return stream.run(upstream, stop)


async def test_what_is_there_already_is_judged_together_up_to_a_limit() -> None:
    async def upstream() -> AsyncIterator[dict[str, Any]]:
        for _ in range(2 * GATHERED + 40):
            yield words("word ")
        yield words("", finish="stop")

    review = Reviewer()
    parts = [part async for part in guarded(review, upstream())]
    assert [len(text) for text in review.shown] == [5 * GATHERED, 10 * GATHERED, 10 * GATHERED + 200]
    # What a check allows leaves as one piece.
    assert len(parts) == len(review.shown) + 1


@pytest.mark.parametrize("mode", ["holdback", "buffer"])
async def test_a_part_that_nobody_can_check_counts_though_it_comes_with_the_end(
    mode: Literal["holdback", "buffer"],
) -> None:
    async def upstream() -> AsyncIterator[dict[str, Any]]:
        yield words("word ")
        yield {"choices": [{"index": 0, "delta": {"content": [{"type": "hologram", "data": "x"}]}}]}
        yield words("", finish="stop")

    def uncheckable(text: str) -> GuardDecision:
        return GuardDecision("refuse", "Unchecked.", None, "words", "unknown")

    async def stop() -> None:
        return

    stream = GuardedStream(Reviewer(), StreamPolicy(mode=mode), StreamStats(), uncheckable)
    sent = b"".join([part async for part in stream.run(upstream(), stop)])
    assert b"Unchecked." in sent
    assert b"hologram" not in sent


async def test_what_comes_slowly_is_judged_whenever_a_check_is_due() -> None:
    async def upstream() -> AsyncIterator[dict[str, Any]]:
        for _ in range(20):
            await asyncio.sleep(0.01)
            yield words("word ")
        yield words("", finish="stop")

    review = Reviewer()
    async for _ in guarded(review, upstream()):
        pass
    # A slow machine may gather two words now and then.
    assert max(later - earlier for earlier, later in pairwise([0, *map(len, review.shown)])) < 3 * EVERY


@pytest.mark.parametrize("last", [None, words("b" * 50, index=1), {"choices": [], "usage": {"total_tokens": 1}}])
async def test_a_check_that_waited_is_done_once_nothing_more_is_there(last: dict[str, Any] | None) -> None:
    async def upstream() -> AsyncIterator[dict[str, Any] | None]:
        yield words("a" * 10)
        yield words("a" * 40)
        yield last
        await asyncio.sleep(3600)

    async def read(review: Reviewer) -> None:
        async for _ in guarded(review, upstream()):
            pass

    review = Reviewer()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(review), 0.2)
    assert "a" * 50 in review.shown


class Withholder(Reviewer):
    """Cannot check one choice."""

    async def __call__(self, text: str, *, side_texts: tuple[str, ...], rewrite: bool) -> GuardDecision:
        await super().__call__(text, side_texts=side_texts, rewrite=rewrite)
        if text.startswith("unchecked"):
            return GuardDecision("withhold", "", None, "fail mode", "late", failure="late")
        return GuardDecision("allow", text, 0.0, "words", "fine")


@pytest.mark.parametrize("at_end", [False, True])
async def test_what_was_allowed_leaves_though_another_choice_is_withheld(*, at_end: bool) -> None:
    async def upstream() -> AsyncIterator[dict[str, Any]]:
        for _ in range(20):
            yield words("word ")
        yield words("unchecked " * 20, index=1)
        if not at_end:
            await asyncio.sleep(3600)

    parts = [part async for part in guarded(Withholder(), upstream())]
    assert parts[0].count(b"word ") >= 10
    assert b"unchecked" not in b"".join(parts)
    assert b"check_timeout" in parts[-2]


async def test_text_leaves_though_the_stream_stays_open_after_its_finish_reason() -> None:
    async def upstream() -> AsyncIterator[dict[str, Any]]:
        for _ in range(20):
            yield words("word ")
        yield words("", finish="stop")
        await waits.wait()

    waits, review = asyncio.Event(), Reviewer()
    stream = guarded(review, upstream())
    assert await asyncio.wait_for(anext(stream), 5) != b""
    waits.set()
    async for _ in stream:
        pass
    assert review.shown == ["word " * 20], "the whole text was checked already"


@pytest.mark.parametrize(
    "contents",
    [
        [
            [{"type": "text", "text": "word "}],
            [{"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}],
        ],
        [[{"type": "text", "text": "word "}], [{"type": "hologram"}]],
        [[{"type": "text", "text": "word "}], [{"type": "file", "file": {"file_id": "f"}}]],
        ["word ", {"type": "hologram"}],
    ],
    ids=["picture", "unknown", "file", "object"],
)
async def test_a_field_that_held_text_may_hold_what_nobody_can_check(contents: Sequence[Any]) -> None:
    async def upstream() -> AsyncIterator[dict[str, Any]]:
        for content in [*[contents[0]] * 5, *contents[1:]]:
            await asyncio.sleep(0)
            yield {"choices": [{"index": 0, "delta": {"content": content}}]}
        yield words("", finish="stop")

    def uncheckable(text: str) -> GuardDecision:
        return GuardDecision("refuse", "Unchecked.", None, "words", "unknown")

    async def stop() -> None:
        return

    kinds = frozenset({"picture", "unsupported", "file"})
    stats = StreamStats()
    stream = GuardedStream(Reviewer(), StreamPolicy(mode="holdback"), stats, uncheckable, kinds)
    assert b"Unchecked." in b"".join([part async for part in stream.run(upstream(), stop)])
    # Each kind has a receipt of its own.
    assert len(set(stats.choices[0].kinds.values())) == 2
