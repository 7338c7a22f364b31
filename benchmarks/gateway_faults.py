"""What the gateway does under load and with impatient clients, before a scripted upstream on loopback.

    python benchmarks/gateway_faults.py

The gateway runs with the embedded detector, the default policy and a record. All replies are harmless, so every refusal
is a false one. Long streams by 130 clients; large base64 replies beside short ones; the openai SDK leaves its streams.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from gateway import free_port, ours, serving
from page import put

CLIENTS, SECONDS, WORDS = 130, 20.0, 100
LARGE, NEIGHBOURS, BYTES, ROUNDS = 6, 4, 350_000, 20
VOCABULARY = ("bread", "flour", "water", "oven", "warm", "slice", "morning", "butter", "table", "garden", "river")
NUMBERS = count(1)
FRAME = {"id": "chatcmpl-1", "created": 1, "model": "m"}


def reply_to(prompt: str) -> str:
    """The upstream's reply, which the clients can compute too: `words SEED COUNT`, `bytes SEED` or `text SEED`."""
    kind, seed, *rest = [*prompt.split(), "0"]
    draw = random.Random(seed)
    if kind == "bytes":
        return base64.b64encode(draw.randbytes(BYTES * 3 // 4)).decode()
    length = BYTES // 8 if kind == "text" else int(rest[0]) if rest[0].isdigit() else 10
    words = " ".join([f"Number {seed}:", *draw.choices(VOCABULARY, k=length)])
    return base64.b64encode(words[: BYTES * 3 // 4].encode()).decode() if kind == "text" else words


def upstream() -> None:
    """Serve the scripted replies, streamed in words or whole."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    def piece(delta: dict[str, str], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {json.dumps({**FRAME, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n".encode()

    async def pieces(text: str) -> AsyncIterator[bytes]:
        for word in text.split(" "):
            yield piece({"content": f"{word} "}, None)
        yield piece({}, "stop")
        await asyncio.sleep(0.05)
        yield b"data: [DONE]\n\n"

    async def chat(request: Request) -> Response:
        body = await request.json()
        text = reply_to(body["messages"][-1]["content"])
        if body.get("stream"):
            return StreamingResponse(pieces(text), media_type="text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return JSONResponse({**FRAME, "object": "chat.completion", "choices": [choice]})

    routes = [Route("/v1/chat/completions", chat, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), port=int(sys.argv[2]), log_level="warning", access_log=False)


def body_for(prompt: str, *, stream: bool = False) -> dict[str, Any]:
    """A chat request."""
    return {"model": "m", "stream": stream, "messages": [{"role": "user", "content": prompt}]}


async def streamed(client: httpx.AsyncClient, url: str, prompt: str) -> str:
    """What became of one stream: `right`, `refused`, `wrong`, or the status or code of its error."""
    text, finish, body = "", None, body_for(prompt, stream=True)
    async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
        if response.status_code != 200:
            return str(response.status_code)
        async for event in (json.loads(line[6:]) async for line in response.aiter_lines() if line[:7] == "data: {"):
            if "error" in event:
                return {"check_timeout": "504", "too_many_at_once": "429"}.get(event["error"]["code"], "503")
            choice = event["choices"][0]
            if choice["delta"].get("refusal"):
                return "refused"
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
    return "right" if finish == "stop" and text.strip() == reply_to(prompt) else "wrong"


async def whole(client: httpx.AsyncClient, url: str, prompt: str) -> tuple[str, float]:
    """What became of one ordinary request, as for a stream, and its seconds."""
    response = await client.post(f"{url}/chat/completions", json=body_for(prompt))
    if response.status_code != 200:
        return str(response.status_code), response.elapsed.total_seconds()
    message = response.json()["choices"][0]["message"]
    right = message["content"] == reply_to(prompt)
    return "refused" if message.get("refusal") else "right" if right else "wrong", response.elapsed.total_seconds()


def counted(outcomes: Mapping[str, int]) -> str:
    """Outcomes in words."""
    return ", ".join(f"{number} {name}" for name, number in sorted(outcomes.items()))


async def streams(url: str) -> str:
    """Outcomes of the streams of all clients; a client asks again as soon as it has its answer."""
    outcomes = Counter(dict.fromkeys(("right", "429", "503", "504", "refused", "wrong"), 0))
    end = time.monotonic() + SECONDS
    async with httpx.AsyncClient(timeout=90, limits=httpx.Limits(max_connections=CLIENTS), trust_env=False) as client:

        async def one() -> None:
            while time.monotonic() < end:
                outcome = await streamed(client, url, f"words {next(NUMBERS)} {WORDS}")
                outcomes[outcome] += 1
                if outcome in ("429", "503", "504"):
                    await asyncio.sleep(1.0)

        await asyncio.gather(*(one() for _ in range(CLIENTS)))
    return counted(outcomes)


async def bytes_and_neighbours(url: str, kind: str) -> str:
    """Outcomes of the large replies, and the milliseconds of the neighbours that ask meanwhile, for 5 s at least."""
    taken: list[float] = []
    outcomes: Counter[str] = Counter()
    async with httpx.AsyncClient(timeout=90, trust_env=False) as client:
        least = time.monotonic() + 5.0
        large = [asyncio.create_task(whole(client, url, f"{kind} {number}")) for number in range(LARGE)]

        async def neighbour() -> None:
            while time.monotonic() < least or not all(task.done() for task in large):
                outcome, seconds = await whole(client, url, f"words {next(NUMBERS)} 10")
                outcomes[outcome] += 1
                taken.append(1000 * seconds)

        await asyncio.gather(*(neighbour() for _ in range(NEIGHBOURS)))
        replies = [task.result() for task in large]
    result = f"{counted(Counter(outcome for outcome, _ in replies))} within {max(s for _, s in replies):.1f} s"
    return f"{result}; neighbours {counted(outcomes)}, median {np.median(taken):.0f} ms, maximum {max(taken):.0f} ms"


def leaving(url: str) -> int:
    """How many of the ordinary requests after a stream that was left are answered rightly."""
    from openai import OpenAI, OpenAIError

    right = 0
    with OpenAI(base_url=url, api_key="x", timeout=15, max_retries=0) as client:
        for _ in range(ROUNDS):
            before, prompt = (f"words {next(NUMBERS)} 30" for _ in range(2))
            try:
                with client.chat.completions.create(**body_for(before, stream=True)) as stream:
                    next((chunk for chunk in stream if chunk.choices and chunk.choices[0].finish_reason), None)
                answer = client.chat.completions.create(**body_for(prompt))
                right += answer.choices[0].message.content == reply_to(prompt)
            except OpenAIError as error:
                print(error, file=sys.stderr)
    return right


def measure(url: str) -> list[str]:
    """The measurements as a Markdown table."""
    what = f"{CLIENTS} clients, unique streams of {WORDS} words, {SECONDS:g} s"
    lines = ["| load | result |", "|---|---|", f"| {what} | {asyncio.run(streams(url))} |"]
    for kind, name in (("bytes", "random bytes"), ("text", "text")):
        what = f"{LARGE} replies at once of {BYTES // 1000} kB base64 ({name}), {NEIGHBOURS} neighbours"
        lines.append(f"| {what} | {asyncio.run(bytes_and_neighbours(url, kind))} |")
    what = "openai SDK leaves a stream at its finish reason, then an ordinary request"
    return [*lines, f"| {what} | {leaving(url)} of {ROUNDS} right |"]


def main() -> None:
    """Measure, print, and write the table into the page."""
    if sys.argv[1:2] == ["upstream"]:
        upstream()
        return
    source, port = free_port(), free_port()
    target, url = f"http://127.0.0.1:{source}/v1", f"http://127.0.0.1:{port}/v1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scripted = [sys.executable, __file__, "upstream", str(source)]
        gateway = ours(target, folder, port, "", "--record", str(folder / "record.db"))
        with serving(scripted, target, folder / "up.log"), serving(gateway, url, folder / "gateway.log"):
            lines = measure(url)
    print(*lines, sep="\n")
    put(Path(__file__).resolve().parents[1] / "docs" / "gateway.md", "gateway faults", lines)


if __name__ == "__main__":
    main()
