"""What a gateway costs: ours, LiteLLM's proxy and NeMo Guardrails before the same upstream, in one run.

    python benchmarks/gateway.py [--litellm FOLDER/bin/litellm] [--nemo FOLDER/bin/nemoguardrails] [--page]

The others are installed in environments of their own (`pip install 'litellm[proxy]'`, `pip install
'nemoguardrails[server]'`); without their flags they are left out. With rails they ask our detector, which runs beside
them: LiteLLM by its generic guardrail interface, NeMo by an action. The upstream answers at once with a hundred words,
each time with another number in them, whole or as a stream of words.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from page import put

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gateway.json"
PAGE = ROOT / "docs" / "gateway.md"
LOADS = ((1, 100), (16, 320), (64, 640))
"""Clients at once, and requests of all of them."""
STREAMS = ((1, 20), (16, 80), (64, 192))
"""The same for streams."""
BODY = {"model": "m", "messages": [{"role": "user", "content": "What is a good way to keep bread fresh?"}]}
# Every reply is a new one: a detector may remember what it has judged.
FIRST = "Your question has the number {}. "
REPLY = ("Keep it in a paper bag or a wooden box, away from the sun, and eat it within three days. " * 6).strip()


def upstream() -> None:
    """Serve an answer at once, each time with another number in it."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    message = {"role": "assistant", "content": FIRST + REPLY}
    reply = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 100, "total_tokens": 110},
    }
    head, tail = json.dumps(reply).split("{}", 1)
    numbers = count(1)

    def event(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        return f"data: {json.dumps(chunk)}\n\n".encode()

    async def events(number: int) -> AsyncIterator[bytes]:
        yield event({"role": "assistant", "content": ""})
        for word in (FIRST + REPLY).format(number).split():
            yield event({"content": f"{word} "})
        yield event({}, "stop")
        yield b"data: [DONE]\n\n"

    async def chat(request: Request) -> Response:
        if (await request.json()).get("stream"):
            return StreamingResponse(events(next(numbers)), media_type="text/event-stream")
        return Response(f"{head}{next(numbers)}{tail}", media_type="application/json")

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "m", "object": "model"}]})

    routes = [Route("/v1/chat/completions", chat, methods=["POST"]), Route("/v1/models", models)]
    uvicorn.run(Starlette(routes=routes), port=int(sys.argv[2]), log_level="warning", access_log=False)


HEADERS = {"authorization": "Bearer x"}


async def _whole(client: httpx.AsyncClient, url: str) -> bool:
    """One reply; whether it is the upstream's."""
    response = await client.post(f"{url}/chat/completions", json=BODY, headers=HEADERS)
    return response.status_code == 200 and REPLY[:40] in response.text


async def _streamed(client: httpx.AsyncClient, url: str) -> bool:
    """One stream, read to its end; whether all of the upstream's words are in it."""
    text, ended, body = "", False, BODY | {"stream": True}
    async with client.stream("POST", f"{url}/chat/completions", json=body, headers=HEADERS) as response:
        async for line in response.aiter_lines():
            ended |= line.strip() == "data: [DONE]"
            if line.startswith("data: {"):
                for choice in json.loads(line[6:]).get("choices") or ():
                    text += choice["delta"].get("content") or ""
    return response.status_code == 200 and ended and text.strip().endswith(REPLY)


Sender = Callable[[httpx.AsyncClient, str], Awaitable[bool]]


async def _load(url: str, clients: int, requests: int, request: Sender = _whole) -> dict[str, Any]:
    """So many requests by so many clients at once."""
    left = iter(range(requests))
    taken: list[float] = []
    failed = 0
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:

        async def one() -> None:
            nonlocal failed
            for _ in left:
                begin = time.perf_counter()
                failed += not await request(client, url)
                taken.append(time.perf_counter() - begin)

        begin = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(clients)))
        seconds = time.perf_counter() - begin
    p50, p99 = np.quantile(taken, [0.5, 0.99])
    return {
        "p50_ms": round(1000 * float(p50), 2),
        "p99_ms": round(1000 * float(p99), 2),
        "rps": round(len(taken) / seconds, 1),
        "failed": failed,
    }


def load() -> None:
    """The load generator's own process."""
    kinds: dict[str, tuple[Sender, tuple[tuple[int, int], ...]]] = {
        "whole": (_whole, LOADS),
        "streams": (_streamed, STREAMS),
    }
    url, (request, loads) = sys.argv[2], kinds[sys.argv[3]]
    asyncio.run(_load(url, 4, 40, request))
    print(
        json.dumps({str(clients): asyncio.run(_load(url, clients, requests, request)) for clients, requests in loads})
    )


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(command: list[str], url: str, log: Path, **environment: str) -> Iterator[str]:
    """A server, until it answers a chat request, and no longer than it is needed."""
    with log.open("w") as file:
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        process = subprocess.Popen(command, stdout=file, stderr=file, env=variables, start_new_session=True)
    try:
        for _ in range(240):
            if process.poll() is not None:
                raise RuntimeError(f"expected a server, got: {log.read_text()[-600:]}")
            try:
                response = httpx.post(f"{url}/chat/completions", json=BODY, headers=HEADERS, timeout=20)
                if response.status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        else:
            raise RuntimeError(f"expected an answer, got none: {log.read_text()[-600:]}")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def ours(target: str, folder: Path, port: int, policy: str, *words: str) -> list[str]:
    """Our gateway with a policy."""
    file = folder / f"{port}.toml"
    file.write_text(policy)
    command = [sys.executable, "-m", "equipoise.cli.main", "guard", "serve", "--upstream", target, "--port", str(port)]
    return [*command, "--policy", str(file), *words]


def litellm(binary: str, target: str, folder: Path, port: int, detector: str | None = None) -> list[str]:
    """LiteLLM's proxy, without rails or one that asks our detector by its generic guardrail interface."""
    model = {"model_name": "m", "litellm_params": {"model": "openai/m", "api_base": target, "api_key": "x"}}
    settings: dict[str, Any] = {"model_list": [model]}
    if detector is not None:
        rail = {"guardrail": "generic_guardrail_api", "mode": "post_call", "api_base": detector.removesuffix("/v1")}
        rail |= {"api_key": "x", "default_on": True}
        settings["guardrails"] = [{"guardrail_name": "harm", "litellm_params": rail}]
    file = folder / f"litellm-{port}.yaml"
    file.write_text(json.dumps(settings))
    return [binary, "--config", str(file), "--port", str(port), "--host", "127.0.0.1"]


def nemo(binary: str, target: str, folder: Path, port: int, detector: str | None = None) -> list[str]:
    """NeMo Guardrails' server, without rails or with an output rail that asks our detector."""
    name = "plain" if detector is None else "rails"
    configured = folder / f"nemo-{name}" / name
    configured.mkdir(parents=True)
    model = {"type": "main", "engine": "openai", "model": "m", "parameters": {"base_url": target, "api_key": "x"}}
    settings: dict[str, Any] = {"models": [model]}
    if detector is not None:
        settings["rails"] = {"output": {"flows": ["check harm"], "streaming": STREAMED_RAILS}}
        (configured / "rails.co").write_text(NEMO_RAIL)
        (configured / "actions.py").write_text(NEMO_ACTION.replace("DETECTOR", detector))
    (configured / "config.yml").write_text(json.dumps(settings))
    folder_path = str(configured.parent)
    return [binary, "server", "--config", folder_path, "--port", str(port), "--default-config-id", name]


STREAMED_RAILS = {"enabled": True, "stream_first": False}
"""NeMo's output rails judge a stream's pieces before they leave; its default sends them first."""
NEMO_RAIL = """
define bot refuse to respond
  "I can't help with that."

define flow check harm
  $harm = execute check_harm
  if $harm.is_blocked
    bot refuse to respond
    stop
"""
NEMO_ACTION = """
import httpx
from nemoguardrails.actions import action
from nemoguardrails.actions.rail_outcome import RailOutcome

client = httpx.AsyncClient(timeout=60, trust_env=False)


@action(name="check_harm")
async def check_harm(context: dict, **others) -> RailOutcome:
    response = await client.post("DETECTOR/moderations", json={"input": context["bot_message"]})
    return RailOutcome.block() if response.json()["results"][0]["flagged"] else RailOutcome.allow()
"""


OTHERS = {"OPENAI_API_KEY": "x", "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
"""What the others need to start without keys of their own; nobody's gateway checks keys here."""
RAILS = "embedded detector beside it"
"""Ends the name of another's gateway whose output rail asks our detector, in a process of its own."""
FAST_WORKERS = ("--detector", "embedded-fast", "--check-workers", "2")
OFF = "[output]\nenabled = false\n[pictures]\nread_text = false\n"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every server in turn, before the same upstream."""
    results: dict[str, Any] = {"cores": os.cpu_count(), "instructions": instructions(), "servers": {}}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        target = f"http://127.0.0.1:{port}/v1"
        stack.enter_context(serving([sys.executable, __file__, "--upstream", str(port)], target, folder / "up.log"))
        results["servers"]["the upstream itself"] = generated(target)
        for name, command in servers(arguments, target, folder).items():
            results["servers"][name] = served(name, command, target, folder)
            print(name, json.dumps(results["servers"][name]), flush=True)
    return results


def instructions() -> str:
    """The widest vector instructions that matrices are multiplied with."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


Command = Callable[[int, str], list[str]]
"""A server's port, and where our detector answers, to its command line."""


def servers(arguments: argparse.Namespace, target: str, folder: Path) -> dict[str, Command]:
    """What is measured; who is named "their rails" asks our detector beside it."""
    record = ("--record", str(folder / "record.db"))
    commands: dict[str, Command] = {
        "Equipoise, no rails": lambda at, _: ours(target, folder, at, OFF),
        "Equipoise, no rails, audit record": lambda at, _: ours(target, folder, at, OFF, *record),
        "Equipoise, embedded-fast": lambda at, _: ours(target, folder, at, "", "--detector", "embedded-fast"),
        "Equipoise, embedded-fast, 2 check workers": lambda at, _: ours(target, folder, at, "", *FAST_WORKERS),
        "Equipoise, embedded detector": lambda at, _: ours(target, folder, at, ""),
    }
    if arguments.litellm:
        commands["LiteLLM proxy, no rails"] = lambda at, _: litellm(arguments.litellm, target, folder, at)
        commands[f"LiteLLM proxy, {RAILS}"] = lambda at, judge: litellm(arguments.litellm, target, folder, at, judge)
    if arguments.nemo:
        commands["NeMo Guardrails, no rails"] = lambda at, _: nemo(arguments.nemo, target, folder, at)
        commands[f"NeMo Guardrails, {RAILS}"] = lambda at, judge: nemo(arguments.nemo, target, folder, at, judge)
    return commands


def served(name: str, command: Command, target: str, folder: Path) -> dict[str, Any]:
    """What the load generator measures of one server."""
    at, judge = free_port(), free_port()
    url, judge_url = (f"http://127.0.0.1:{port}/v1" for port in (at, judge))
    with ExitStack() as stack:
        if name.endswith(RAILS):
            stack.enter_context(serving(ours(target, folder, judge, ""), judge_url, folder / f"{judge}.log"))
        started = serving(command(at, judge_url), url, folder / f"{at}.log", **OTHERS, OPENAI_BASE_URL=target)
        stack.enter_context(started)
        loads = generated(url)
        if name.endswith(RAILS) and checks(judge_url) < sum(count for _, count in (*LOADS, *STREAMS)):
            raise RuntimeError(f"expected {name} to ask about each reply, got {checks(judge_url)} questions")
    return loads


def checks(url: str) -> int:
    """How many replies a gateway of ours has judged."""
    exposition = httpx.get(url.removesuffix("/v1") + "/metrics").text
    counts = [line.split() for line in exposition.splitlines() if line.startswith("equipoise_decisions_total{")]
    return int(sum(float(fields[-1]) for fields in counts))


def generated(url: str) -> dict[str, Any]:
    """What the load generator measures, of whole replies and of streams."""
    results = {}
    for kind in ("whole", "streams"):
        words = [sys.executable, __file__, "--load", url, kind]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        results[kind] = json.loads(done.stdout.splitlines()[-1])
    return results


def rows(results: dict[str, Any], kind: str, loads: tuple[tuple[int, int], ...], unit: str) -> list[str]:
    """The table of whole replies or of streams."""
    bare = results["servers"]["the upstream itself"][kind]
    heads = [f"{clients} client{'s' * (clients > 1)}" for clients, _ in loads]
    lines = [
        f"| {kind}, server | {' | '.join(f'{head}: added p50, p99 (ms); {unit} a second' for head in heads)} |",
        f"|---|{'---|' * len(heads)}",
    ]
    for name, measured in results["servers"].items():
        cells = []
        for clients, _ in loads:
            got, base = measured[kind][str(clients)], bare[str(clients)]
            added = (got[what] - base[what] for what in ("p50_ms", "p99_ms"))
            failed = f"; {got['failed']} failed" if got["failed"] else ""
            cells.append(f"{', '.join(f'{value:.1f}' for value in added)}; {got['rps']:.0f}{failed}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def render(results: dict[str, Any]) -> None:
    """Write the tables into the page."""
    lines = [
        f"{results['cores']} cores ({results['instructions']}) for upstream, gateway and clients together.",
        "",
        *rows(results, "whole", LOADS, "requests"),
        "",
        *rows(results, "streams", STREAMS, "streams"),
    ]
    put(PAGE, "gateway", lines)


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--litellm")
    parser.add_argument("--nemo")
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    arguments = parser.parse_args()
    if not arguments.page:
        RESULTS.write_text(json.dumps(measure(arguments), indent=1) + "\n")
    render(json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--upstream"]:
        upstream()
    elif sys.argv[1:2] == ["--load"]:
        load()
    else:
        main()
