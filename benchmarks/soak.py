"""The gateway under mixed clients for a long time, while its upstream and its record's database are killed.

    python benchmarks/soak.py [--minutes 30] [--clients 64] [--detector embedded] [--out benchmarks/results/soak.json]
    python benchmarks/soak.py --page       # docs/gateway.md, from the results

1. Soak: each client asks one thing after another: streams, whole replies, pictures, streams and replies that it leaves
   at a random moment, streams that it reads slowly, streams and replies with harm in them. The upstream process is
   killed and started again at random; the database is stopped the hard way (PostgreSQL, where its programs are) or
   locked and moved away (SQLite).
2. Overload: `--overload` clients (300) that ask again as soon as they have an answer.

Counted are requests without an end (hangs), refusals of harmless replies, harmful replies that the detector missed,
characters of harm that left of those that were stopped, answers that came whole and are not in the record, and the
gateway's memory. Short setting:
`--minutes 0.5 --clients 8 --overload 40`. Results are written after each part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from gateway import PAGE, free_port, ours, serving
from page import put
from soak_servers import Killed, database, memory, picture, reply_to, scripted, serving_on, upstream

LIMIT = 90.0
"""Seconds after which a request counts as one that hangs."""
SLOW = 0.02
"""Seconds between two reads of a slow reader."""
KINDS = ("stream", "whole", "picture", "leave stream", "leave whole", "slow", "harm stream", "harm whole")
WEIGHTS = (6, 6, 2, 3, 2, 2, 2, 2)
EXPECTED = ("429", "502", "503", "504", "broken", "cut")
"""Outcomes that a killed upstream, a stopped database or a full gateway may have; none of them is an answer."""


@dataclass
class Counts:
    """What came of all requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """By kind and outcome."""
    acknowledged: list[str] = field(default_factory=list)
    """Ids of the requests whose answer came to its end."""
    without_retry: int = 0
    """Errors 429 and 503 that do not say when to come back."""
    leaked: int = 0
    """Characters of harm in replies that were stopped."""
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, and MB of the gateway."""

    def total(self, outcome: str) -> int:
        """How many requests of all kinds had an outcome."""
        return sum(number for name, number in self.outcomes.items() if name.split(": ")[1] == outcome)


def body_of(kind: str, prompt: str) -> dict[str, Any]:
    """The request of a client."""
    content: Any = prompt
    if kind == "picture":
        content = [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": picture(prompt)}}]
    stream = kind not in ("whole", "leave whole", "harm whole", "picture")
    return {"model": "m", "stream": stream, "messages": [{"role": "user", "content": content}]}


async def one(client: httpx.AsyncClient, url: str, kind: str, prompt: str, counts: Counts, draw: random.Random) -> str:
    """The outcome of one request: right, stopped, refused, wrong, left, a status, broken or cut."""
    body = body_of(kind, prompt)
    if kind == "leave whole":
        work = asyncio.create_task(client.post(f"{url}/chat/completions", json=body))
        done, _ = await asyncio.wait({work}, timeout=draw.uniform(0, 0.5))
        if not done:
            work.cancel()
            await asyncio.wait({work})
            return "left"
        return _of_whole(work.result(), prompt, counts)
    if not body["stream"]:
        return _of_whole(await client.post(f"{url}/chat/completions", json=body), prompt, counts)
    leaves_after = draw.randrange(40) if kind == "leave stream" else None
    async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
        if response.status_code != 200:
            await response.aread()
            return _refused(response, counts)
        return await _of_stream(response, kind, prompt, counts, leaves_after)


async def _of_stream(response: httpx.Response, kind: str, prompt: str, counts: Counts, leaves_after: int | None) -> str:
    text, finish, ended, problem, refusal, events = "", None, False, None, "", 0
    async for line in response.aiter_lines():
        if line == "data: [DONE]":
            ended = True
        if not line.startswith("data: {"):
            continue
        events += 1
        document = json.loads(line[6:])
        if "error" in document:
            problem = str(document["error"].get("code"))
            continue
        for choice in document.get("choices", ()):
            text += choice["delta"].get("content") or ""
            refusal += choice["delta"].get("refusal") or ""
            finish = choice["finish_reason"] or finish
        if leaves_after is not None and events > leaves_after:
            return "left"
        if kind == "slow":
            await asyncio.sleep(SLOW)
    if problem is not None:
        return {"check_timeout": "504", "too_many_at_once": "429", "upstream": "502"}.get(problem, "503")
    if not ended:
        return "cut"
    counts.acknowledged.append(response.headers["x-equipoise-request-id"])
    return _judged(text.strip(), refusal, finish, prompt, counts)


def _of_whole(response: httpx.Response, prompt: str, counts: Counts) -> str:
    if response.status_code != 200:
        return _refused(response, counts)
    counts.acknowledged.append(response.headers["x-equipoise-request-id"])
    choice = response.json()["choices"][0]
    message = choice["message"]
    return _judged(message["content"] or "", message.get("refusal") or "", choice["finish_reason"], prompt, counts)


def _judged(text: str, refusal: str, finish: str | None, prompt: str, counts: Counts) -> str:
    if prompt.startswith("harm"):
        if not refusal and finish != "content_filter":
            # The detector's miss; nothing was to be held back.
            return "passed"
        counts.leaked += max(0, len(text) - len(f"Number {prompt.split()[1]}:"))
        return "stopped"
    if refusal or finish == "content_filter":
        return "refused"
    return "right" if text == reply_to(prompt) else "wrong"


def _refused(response: httpx.Response, counts: Counts) -> str:
    if response.status_code in (429, 503) and "retry-after" not in response.headers:
        counts.without_retry += 1
    return str(response.status_code)


async def clients(url: str, number: int, end: float, counts: Counts, kinds: tuple[str, ...], *, patient: bool) -> None:
    """All clients until a time.

    Args:
        url: of the gateway.
        number: of clients.
        end: on the monotonic clock.
        counts: are filled.
        kinds: of requests.
        patient: whether a client waits a little between two requests.
    """
    numbers = count(1)
    weights = [WEIGHTS[KINDS.index(kind)] for kind in kinds]
    limits = httpx.Limits(max_connections=number, max_keepalive_connections=number)
    async with httpx.AsyncClient(timeout=LIMIT, limits=limits, trust_env=False) as client:

        async def ask(seed: int) -> None:
            draw = random.Random(seed)
            while time.monotonic() < end:
                kind = draw.choices(kinds, weights)[0]
                words = draw.randrange(10, 120)
                prompt = f"{'harm' if kind.startswith('harm') else 'words'} {seed}-{next(numbers)} {words}"
                try:
                    async with asyncio.timeout(LIMIT):
                        outcome = await one(client, url, kind, prompt, counts, draw)
                except (TimeoutError, httpx.TimeoutException):
                    outcome = "hang"
                except httpx.HTTPError:
                    outcome = "broken"
                counts.outcomes[f"{kind}: {outcome}"] += 1
                if outcome in EXPECTED:
                    await asyncio.sleep(draw.uniform(0.5, 1.5))
                elif patient:
                    await asyncio.sleep(draw.uniform(0, 0.2))

        await asyncio.gather(*(ask(seed) for seed in range(number)))


async def faults(things: list[Killed], end: float, every: float) -> AsyncIterator[str]:
    """Kill one of some things, again and again; its name each time it is there again."""
    draw = random.Random(0)
    while (left := end - time.monotonic()) > every:
        await asyncio.sleep(draw.uniform(0.5, 1.0) * min(every, left))
        thing = draw.choice(things)
        await asyncio.to_thread(thing.stop)
        await asyncio.sleep(draw.uniform(0.5, 4.0))
        await asyncio.to_thread(thing.start)
        yield thing.name


async def soak(url: str, pid: int, things: list[Killed], arguments: argparse.Namespace) -> dict[str, Any]:
    """The first part."""
    counts, begin = Counts(), time.monotonic()
    end = begin + 60 * arguments.minutes
    kills: Counter[str] = Counter()

    async def kill() -> None:
        async for name in faults(things, end - 5, arguments.every):
            kills[name] += 1

    async def watch() -> None:
        while time.monotonic() < end:
            counts.memory.append((round(time.monotonic() - begin, 1), memory(pid)))
            await asyncio.sleep(max(1.0, arguments.minutes))

    work = clients(url, arguments.clients, end, counts, KINDS, patient=True)
    await asyncio.gather(work, kill(), watch())
    return {**_summary(counts), "kills": dict(kills), "minutes": arguments.minutes, "clients": arguments.clients}


async def overload(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The second part."""
    counts = Counts()
    end = time.monotonic() + max(10.0, 60 * min(1.0, arguments.minutes))
    await clients(url, arguments.overload, end, counts, ("stream", "whole"), patient=False)
    return {**_summary(counts), "clients": arguments.overload}


def _summary(counts: Counts) -> dict[str, Any]:
    values = [megabytes for _, megabytes in counts.memory]
    quarter = max(1, len(values) // 4)
    return {
        "requests": counts.outcomes.total(),
        "outcomes": dict(sorted(counts.outcomes.items())),
        "hangs": counts.total("hang"),
        "false refusals": counts.total("refused"),
        "wrong": counts.total("wrong"),
        "harm passed": counts.total("passed"),
        "leaked characters": counts.leaked,
        "errors without retry-after": counts.without_retry,
        "acknowledged": counts.acknowledged,
        # The first quarter warms up; after that the memory should be flat.
        "memory": {
            "start": values[0],
            "second quarter": round(sum(values[quarter : 2 * quarter]) / max(1, len(values[quarter : 2 * quarter])), 1),
            "last quarter": round(sum(values[-quarter:]) / quarter, 1),
            "most": max(values),
        }
        if values
        else {},
    }


def unrecorded(url: str, acknowledged: list[str]) -> tuple[int, int, str | None]:
    """How many acknowledged answers are not in the record, its entries, and what is wrong with its chain."""
    from equipoise.guard.record.store import AuditRecord

    with AuditRecord(url) as record:
        known = {json.loads(entry)["request"] for _, entry, _ in record.rows()}
        verification = record.verify()
    return len(set(acknowledged) - known), verification.entries, verification.problem


def table(document: dict[str, Any]) -> list[str]:
    """The results as a Markdown table."""
    lines = ["| part | requests | right, stopped | 429, 503, 504 | hangs | false refusals | wrong | harm passed |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name in ("soak", "overload"):
        if (part := document.get(name)) is None:
            continue
        totals: Counter[str] = Counter()
        for outcome, number in part["outcomes"].items():
            totals[outcome.split(": ")[1]] += number
        errors = ", ".join(str(totals[status]) for status in ("429", "503", "504"))
        answers = f"{totals['right']}, {totals['stopped']}"
        lines.append(
            f"| {name}, {part['clients']} clients | {part['requests']} | {answers} | {errors} "
            f"| {part['hangs']} | {part['false refusals']} | {part['wrong']} | {part['harm passed']} |"
        )
    if (part := document.get("soak")) is not None:
        room = part["memory"]
        lines += [
            "",
            f"Soak of {part['minutes']:g} minutes, record in {document['database']}; killed: "
            f"{', '.join(f'{name} {number} times' for name, number in sorted(part['kills'].items())) or 'nothing'}. "
            f"Acknowledged answers that are not in the record: {part['unrecorded']} of {part['acknowledged']}; "
            f"leaked characters: {part['leaked characters']}; the chain: {part['chain'] or 'in order'}. Memory of the "
            f"gateway: {room['start']:.0f} MB at the start, {room['second quarter']:.0f} in the second quarter, "
            f"{room['last quarter']:.0f} in the last, {room['most']:.0f} at most.",
        ]
    return lines


def arguments_of(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--overload", type=int, default=300)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two faults, at most")
    parser.add_argument("--detector", default="embedded")
    parser.add_argument("--read-text", action="store_true", help="read the text in pictures, which takes seconds each")
    parser.add_argument("--database", choices=["any", "sqlite", "postgresql"], default="any")
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/soak.json"))
    return parser.parse_args(words)


def main() -> None:
    """Measure, print, and write the results."""
    if sys.argv[1:2] == ["upstream"]:
        upstream(int(sys.argv[2]))
        return
    arguments = arguments_of(sys.argv[1:])
    if arguments.page:
        put(PAGE, "soak", table(json.loads(arguments.out.read_text())))
        return
    document: dict[str, Any] = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="eqsoak") as name, database(Path(name), arguments.database) as base:
        folder, source, port = Path(name), free_port(), free_port()
        document["database"] = base.kind
        target, url = f"http://127.0.0.1:{source}/v1", f"http://127.0.0.1:{port}/v1"
        with scripted([sys.executable, __file__, "upstream", str(source)], target) as server:
            words = ["--detector", arguments.detector, "--record", base.url]
            policy = f"[pictures]\nread_text = {str(arguments.read_text).lower()}\n"
            with serving(ours(target, folder, port, policy, *words), url, folder / "gateway.log"):
                pid = serving_on(port)
                document["soak"] = asyncio.run(soak(url, pid, [server, base], arguments))
                lost, entries, problem = unrecorded(base.url, document["soak"]["acknowledged"])
                document["soak"] |= {"unrecorded": lost, "entries": entries, "chain": problem}
                document["soak"]["acknowledged"] = len(document["soak"]["acknowledged"])
                _write(arguments.out, document)
                document["overload"] = asyncio.run(overload(url, arguments))
                document["overload"]["acknowledged"] = len(document["overload"]["acknowledged"])
                _write(arguments.out, document)
    print(*table(document), sep="\n")


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
