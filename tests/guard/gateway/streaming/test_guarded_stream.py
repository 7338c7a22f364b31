"""Nothing leaves that was not judged with what follows; allowed streams leave whole; every end is a valid one."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.streaming.events import LONGEST, chunks
from equipoise.guard.gateway.streaming.guarded_stream import GuardedStream
from equipoise.guard.gateway.streaming.stream_stats import StreamStats
from equipoise.guard.pipeline import allow, fail_mode_decision
from equipoise.guard.policy import Policy, Rail, StreamPolicy

BAD = "BOMB"
Mode = Literal["off", "buffer", "holdback", "observe"]


class Bytes(httpx.AsyncByteStream):
    def __init__(self, parts: Sequence[bytes], error: Exception | None = None) -> None:
        self.parts, self.error = parts, error
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            # The gateway acts before the next part is there.
            await asyncio.sleep(0)
            yield part
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Reviewer:
    """Finds BOMB wherever it stands; remembers what it was shown."""

    rewrite: str = "A bird."
    shown: list[str] = field(default_factory=list)
    side_texts: list[str] = field(default_factory=list)

    async def __call__(self, text: str, *, side_texts: tuple[str, ...], rewrite: bool) -> GuardDecision:
        self.shown.append(text)
        self.side_texts += side_texts
        await asyncio.sleep(0)
        if not any(BAD in part for part in (text, *side_texts)):
            return GuardDecision("allow", text, 0.0, "words", "fine")
        if rewrite:
            return GuardDecision("rewrite", self.rewrite, 0.9, "words", "found")
        return GuardDecision("refuse", "I can't say that.", 0.9, "words", "found")


@dataclass
class Outcome:
    documents: list[dict[str, Any]]
    watch: StreamStats
    reviewer: Reviewer
    stopped: int
    raw: bytes

    def words_sent(self, name: str = "content", index: int = 0) -> str:
        text = ""
        for document in self.documents:
            for choice in document.get("choices", []):
                if choice["index"] == index:
                    text += choice["delta"].get(name) or ""
        return text

    def finish(self, index: int = 0) -> list[str]:
        return [
            choice["finish_reason"]
            for document in self.documents
            for choice in document.get("choices", [])
            if choice["index"] == index and choice["finish_reason"]
        ]


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish, **more}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def stream(words: Sequence[str], index: int = 0, finish: str = "stop") -> list[dict[str, Any]]:
    return [
        chunk({"role": "assistant", "content": ""}, index=index),
        *(chunk({"content": word}, index=index) for word in words),
        chunk({}, finish, index=index),
    ]


def wire(documents: Sequence[dict[str, Any]], newline: str = "\n", *, done: bool = True) -> bytes:
    parts = [
        f": ping{newline}data: {json.dumps(document, ensure_ascii=False)}{newline}{newline}" for document in documents
    ]
    return ("".join(parts) + (f"data: [DONE]{newline}{newline}" if done else "")).encode()


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted({cut_at % (len(data) + 1) for cut_at in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def run(
    parts: Sequence[bytes],
    mode: Mode = "holdback",
    *,
    hold: int = 20,
    every: int = 10,
    error: Exception | None = None,
    closed: bool = True,
) -> Outcome:
    async def go() -> Outcome:
        body = Bytes(parts, error)
        response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)
        reviewer, watch, stopped = Reviewer(), StreamStats(), 0

        async def stop() -> None:
            nonlocal stopped
            stopped += 1
            await response.aclose()

        def unseen(text: str) -> GuardDecision:
            policy = Policy(output=Rail(fail="refuse" if closed else "open"), refusal="Unchecked.")
            return fail_mode_decision("cannot be looked at", policy.output, policy, text)

        guarded = GuardedStream(reviewer, StreamPolicy(mode=mode, hold=hold, every=every), watch, unseen)
        raw = b"".join([part async for part in guarded.run(chunks(response), stop)])
        assert body.closed
        again = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=raw)
        events = [event.data for event in EventSource(again).iter_sse()]
        assert events[-1] == "[DONE]"
        return Outcome([json.loads(event) for event in events[:-1]], watch, reviewer, stopped, raw)

    return asyncio.run(go())


def scripted(seed: int) -> tuple[list[str], int | None, list[bytes]]:
    """A reply in words, where its harm begins, and its bytes cut at random."""
    draw = random.Random(seed)
    letters = 'abc défgh 漢字🙂👩‍👩‍👧 \n"\\'
    words = ["".join(draw.choices(letters, k=draw.randint(1, 9))) for _ in range(draw.randint(0, 60))]
    if draw.random() < 0.7:
        # In one word, or spread over several.
        position = draw.randint(0, len(words))
        words[position:position] = draw.choice([["BOMB"], ["BO", "MB"], ["B", "O", "M", "B"], ["xBOMBx"]])
    text = "".join(words)
    begin = text.find(BAD) if BAD in text else None
    data = wire(stream(words), draw.choice(["\n", "\r\n", "\r"]))
    return words, begin, cut(data, [draw.randrange(len(data)) for _ in range(draw.randint(0, 25))])


@pytest.mark.parametrize("block", range(5))
def test_no_character_of_harm_leaves_in_250_streams_cut_at_random_bytes(block: int) -> None:
    for seed in range(50 * block, 50 * block + 50):
        words, begin, parts = scripted(seed)
        text = "".join(words)
        hold = random.Random(seed).choice([4, 20, 60])
        result = run(parts, hold=hold, every=random.Random(seed).choice([1, 7, 30]))
        content = result.words_sent()
        assert result.watch.leaked == 0
        if begin is None:
            assert content == text, seed
            assert result.finish() == ["stop"]
            continue
        assert result.stopped >= 1
        assert BAD not in result.raw.decode()
        if result.finish() == ["stop"]:
            assert content == "A bird.", seed
        else:
            assert result.finish() == ["content_filter"]
            assert result.words_sent("refusal") == "I can't say that."
            # What left is a beginning of the reply that ends before the harm does, by the hold at least.
            assert text.startswith(content), seed
            assert len(content) <= begin + len(BAD) - hold or content == "", seed


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), max_size=30),
    st.sampled_from(["off", "buffer", "holdback", "observe"]),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_an_allowed_reply_leaves_whole_in_every_mode(
    words: list[str], mode: Mode, places: list[int], hold: int, every: int
) -> None:
    words = [word.replace(BAD, "") for word in words]
    if BAD in "".join(words):
        return
    result = run(cut(wire(stream(words)), places), mode, hold=hold, every=every)
    assert result.words_sent() == "".join(words)
    assert result.finish() == ["stop"]
    assert result.watch.problem is None
    if mode != "off":
        assert result.reviewer.shown[-1] == "".join(words)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab ", min_size=1, max_size=9), min_size=1, max_size=40), st.integers(1, 40), st.integers(1, 40)
)
def test_what_leaves_was_judged_with_what_follows(words: list[str], hold: int, every: int) -> None:
    async def go() -> None:
        reviewed: list[str] = []

        async def review(text: str, *, side_texts: tuple[str, ...], rewrite: bool) -> GuardDecision:
            reviewed.append(text)
            return GuardDecision("allow", text, 0.0, "words", "fine")

        async def upstream() -> AsyncIterator[dict[str, Any]]:
            for document in stream(words):
                await asyncio.sleep(0)
                yield document

        async def stop() -> None:
            return

        left = 0
        guarded = GuardedStream(review, StreamPolicy(mode="holdback", hold=hold, every=every), StreamStats(), allow)
        async for part in guarded.run(upstream(), stop):
            for event in part.split(b"\n\n")[:-1]:
                if b"[DONE]" not in event:
                    (choice,) = json.loads(event.removeprefix(b"data: "))["choices"]
                    left += len(choice["delta"].get("content") or "")
            judged = max(map(len, reviewed), default=0)
            assert left == 0 or left <= judged - hold or judged == len("".join(words))

    asyncio.run(go())


def test_buffer_lets_nothing_leave_before_the_end() -> None:
    result = run([wire(stream(["fine "] * 50 + ["BOMB"]))], "buffer")
    assert (result.words_sent(), result.finish()) == ("A bird.", ["stop"])
    assert len(result.reviewer.shown) == 1


def test_observe_lets_all_leave_and_counts_what_leaked() -> None:
    words = ["fine "] * 5 + ["BOMB "] + ["more "] * 5
    result = run([wire(stream(words))], "observe", every=5)
    assert result.words_sent() == "".join(words)
    assert result.watch.leaked > 0


def test_off_asks_nobody_and_changes_nothing() -> None:
    documents = stream(["a BOMB"])
    result = run([wire(documents)], "off")
    assert result.documents == documents
    assert result.reviewer.shown == []


def test_choices_are_judged_apart() -> None:
    one, two = stream(["safe "] * 30), stream(["a BOMB ", *["more "] * 30], index=1)
    mixed = [document for pair in zip(one, two, strict=False) for document in pair] + one[len(two) :] + two[len(one) :]
    result = run([wire(mixed)])
    assert result.words_sent(index=0) == "safe " * 30
    assert result.finish(0) == ["stop"]
    assert result.words_sent(index=1) == "A bird."
    assert result.finish(1) == ["stop"]
    both = run([wire([{**one[1], "choices": [one[1]["choices"][0], two[1]["choices"][0]]}, one[-1], two[-1]])])
    assert (both.words_sent(index=0), both.words_sent(index=1)) == ("safe ", "A bird.")


def test_a_tool_call_leaves_only_when_all_of_it_was_judged() -> None:
    def call(**function: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": function}]}

    pieces = [call(name="run", arguments=""), *(call(arguments="x" * 15) for _ in range(20))]
    safe = run([wire([chunk({"role": "assistant"}), *map(chunk, pieces), chunk({}, "tool_calls")])])
    assert sum("tool_calls" in document["choices"][0]["delta"] for document in safe.documents) == 21
    bad = [call(), *pieces, call(arguments="BOMB")]
    result = run([wire([chunk({"role": "assistant"}), *map(chunk, bad), chunk({}, "tool_calls")])])
    assert b"tool_calls" not in result.raw


def test_calls_that_come_in_turns_are_judged_one_by_one() -> None:
    def call(index: int | None, name: str | None, arguments: str) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, "function": {"name": name, "arguments": arguments}}]})

    turns = [call(index, None, piece) for piece in ("a B", "OM", "B") for index in (0, 1)]
    repeated = [call(0, "run", piece) for piece in ("a B", "OM", "B")]
    legacy = [chunk({"function_call": {"name": "run", "arguments": piece}}) for piece in ("a B", "OM", "B")]
    for pieces in (turns, repeated, legacy, [chunk({"tool_calls": {"0": "a BOMB"}})]):
        result = run([wire([*pieces, chunk({}, "tool_calls")])])
        assert b"OM" not in result.raw
        assert any("BOMB" in text for text in (*result.reviewer.shown, *result.reviewer.side_texts))


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "refusal", "surprise"])
def test_words_in_any_field_are_judged(name: str) -> None:
    result = run(
        [wire([chunk({"role": "assistant"}), chunk({name: "a BOMB"}), chunk({"content": "ok"}), chunk({}, "stop")])]
    )
    assert BAD not in result.raw.decode()
    assert any(path.endswith(name) for path in result.watch.choices[0].kinds)


def test_a_part_that_nobody_can_look_at_stops_a_reply_where_the_rail_fails_closed() -> None:
    documents = [chunk({"role": "assistant"}), chunk({"audio": {"data": "AAAA"}}), chunk({}, "stop")]
    result = run([wire(documents)])
    assert (result.words_sent("refusal"), result.finish()) == ("Unchecked.", ["content_filter"])
    assert b"AAAA" not in result.raw
    assert b"AAAA" in run([wire(documents)], closed=False).raw


def test_usage_comes_after_the_words_and_ids_are_the_upstream_s() -> None:
    usage = {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 9}}
    result = run([wire([*stream(["fine"]), usage])])
    assert result.documents[-1] == usage
    hit = run([wire([*stream(["BOMB"]), usage])])
    assert {document["id"] for document in hit.documents} == {"c"}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (wire(stream(["fine"]))[:-40] + b"data: {half\n\n", None),
        (wire(stream(["fine"])[:-1], done=False), None),
        (b"", None),
        (b"data: 3\n\n", None),
        (b'data: {"choices": [7]}\n\n', None),
        (b'data: {"error": {"message": "a BOMB"}}\n\n', None),
        (wire(stream(["fine"])[:-1], done=False), httpx.ReadError("gone")),
        (wire(stream(["fine"])[:-1], done=False), httpx.ReadTimeout("slow")),
        (b"data: " + b"x" * (LONGEST + 10), None),
        (b"\xff\xfe\x00 garbage \n\n", None),
    ],
)
def test_an_upstream_out_of_order_ends_in_an_error_that_says_so(data: bytes, error: Exception | None) -> None:
    result = run([data], error=error)
    problem = result.documents[-1]["error"]
    assert problem["code"] == "upstream"
    assert BAD not in problem["message"], "an upstream's words in an error are judged, too"
    assert result.words_sent() in ("", "fine")


def test_a_broken_stream_s_tail_is_judged_before_it_leaves() -> None:
    result = run([wire(stream(["a BOMB"])[:-1], done=False)], error=httpx.ReadError("gone"))
    assert BAD not in result.raw.decode()


def test_another_content_type_is_an_error() -> None:
    async def go() -> str | None:
        response = httpx.Response(200, headers={"content-type": "text/html"}, stream=Bytes([b"<html>"]))
        watch = StreamStats()
        guarded = GuardedStream(Reviewer(), StreamPolicy(), watch, allow)
        async for _ in guarded.run(chunks(response), response.aclose):
            pass
        return watch.problem

    assert "event stream" in (asyncio.run(go()) or "")


def test_a_client_that_goes_away_stops_the_upstream() -> None:
    async def go() -> bool:
        body = Bytes([wire([document]) for document in stream(["fine "] * 50)])
        response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)
        events = GuardedStream(Reviewer(), StreamPolicy(mode="off"), StreamStats(), allow).run(
            chunks(response), response.aclose
        )
        async for _ in events:
            break
        await events.aclose()
        return body.closed

    assert asyncio.run(go())


@pytest.mark.parametrize("name", ["note", "provider_specific_fields"])
def test_a_field_that_repeats_the_content_for_a_while_is_judged_by_itself(name: str) -> None:
    deltas = [{"content": "BO", name: "BO"}, {"content": "OK", name: "MB"}]
    outcome = run([wire([*map(chunk, deltas), chunk({}, "stop")])])
    assert outcome.watch.decisions[0].changed


def test_the_name_of_a_custom_tool_is_no_part_of_its_input() -> None:
    def call(**custom: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "type": "custom", "custom": custom}]}

    outcome = run(
        [wire([chunk(call(name="patch", input="")), chunk(call(input="*** Begin")), chunk({}, "tool_calls")])]
    )
    assert outcome.reviewer.shown[-1] == "patch\n*** Begin"
