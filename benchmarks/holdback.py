"""What holding a stream back costs, and what leaks without it: scripted streams, half of them harmful, in every mode.

    python benchmarks/holdback.py [--page]

Each stream says a word every 10 ms, cut at random bytes; a check takes 5 ms and finds the word BOMB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.streaming.events import chunks
from equipoise.guard.gateway.streaming.guarded_stream import GuardedStream, StreamStats
from equipoise.guard.pipeline import allow
from equipoise.guard.policy import StreamPolicy
from page import put

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "holdback.json"
PAGE = ROOT / "docs" / "gateway.md"
STREAMS = 400
WORDS = 120
BAD = "BOMB"


class Slow(httpx.AsyncByteStream):
    """A reply of words, a word every 10 ms, its bytes cut at random places."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.words = [f"{self.draw.choice(['one', 'two', 'three', 'déjà', '漢字'])} " for _ in range(WORDS)]
        self.harmful = seed % 2 == 0
        if self.harmful:
            at = self.draw.randrange(WORDS)
            self.words[at : at + 1] = ["BO", "MB "]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at, word in enumerate([*self.words, None]):
            await asyncio.sleep(0.01)
            delta = {} if word is None else {"content": word}
            choice = {"index": 0, "delta": delta, "finish_reason": "stop" if word is None else None}
            data = f"data: {json.dumps({'id': str(at), 'choices': [choice]}, ensure_ascii=False)}\n\n".encode()
            cut = self.draw.randrange(len(data))
            yield data[:cut]
            yield data[cut:]
        yield b"data: [DONE]\n\n"


async def review(text: str, *, side_texts: tuple[str, ...], rewrite: bool) -> GuardDecision:
    """5 ms for a check."""
    await asyncio.sleep(0.005)
    harmful = BAD in text
    return GuardDecision("refuse" if harmful else "allow", "No." if harmful else text, float(harmful), "words", "")


async def one(seed: int, settings: StreamPolicy) -> dict[str, Any]:
    """One stream: what left of its harm, and how much later its first word left."""
    stream, watch = Slow(seed), StreamStats()
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)
    received = b""
    async for part in GuardedStream(review, settings, watch, allow).run(chunks(response), response.aclose):
        received += part
    heard, left = watch.first_text_received, watch.first_text_sent
    # The harm comes in two words, so half of it may leave alone.
    leaked = sum(secret in received for secret in (b'"BO"', b'"MB "'))
    return {"harmful": stream.harmful, "leaked": leaked > 0, "delay": left - heard if left and heard else None}


async def measure(mode: str, hold: int) -> dict[str, Any]:
    """All streams, twenty at once."""
    settings, gate = StreamPolicy(mode=mode, hold=hold), asyncio.Semaphore(20)  # type: ignore[arg-type]

    async def guarded(seed: int) -> dict[str, Any]:
        async with gate:
            return await one(seed, settings)

    streams = await asyncio.gather(*(guarded(seed) for seed in range(STREAMS)))
    harmful = [stream for stream in streams if stream["harmful"]]
    delays = [1000 * stream["delay"] for stream in streams if not stream["harmful"] and stream["delay"] is not None]
    return {
        "mode": mode,
        "hold": hold,
        "harmful": len(harmful),
        "leaked": sum(stream["leaked"] for stream in harmful),
        "delay_ms": round(float(np.median(delays)), 1) if delays else None,
    }


def render(results: list[dict[str, Any]]) -> None:
    """Write the table into the page."""
    lines = [
        f"{STREAMS} streams of {WORDS} words, one every 10 ms; a check takes 5 ms, every 120 characters.",
        "",
        "| mode | harmful streams of which harm left | first word later by (harmless streams, median) |",
        "|---|---|---|",
    ]
    for row in results:
        name = f"{row['mode']}, {row['hold']} characters" if row["mode"] == "holdback" else row["mode"]
        delay = "not measured" if row["delay_ms"] is None else f"{row['delay_ms']} ms"
        lines.append(f"| {name} | {row['leaked']} of {row['harmful']} | {delay} |")
    put(PAGE, "holdback", lines)


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    if not parser.parse_args().page:
        modes = (("off", 240), ("observe", 240), ("holdback", 60), ("holdback", 240), ("buffer", 240))
        results = [asyncio.run(measure(mode, hold)) for mode, hold in modes]
        print(json.dumps(results, indent=1))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    render(json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    main()
