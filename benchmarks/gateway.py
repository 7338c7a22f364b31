"""What a gateway costs: ours, LiteLLM's proxy and NeMo Guardrails before the same upstream, in one run.

    python benchmarks/gateway.py [--litellm FOLDER/bin/litellm] [--nemo FOLDER/bin/nemoguardrails] [--page]

The others are installed in environments of their own (`pip install 'litellm[proxy]'`, `pip install
'nemoguardrails[server]'`); without their flags they are left out. The upstream answers at once with a hundred words.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from page import put

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gateway.json"
PAGE = ROOT / "docs" / "gateway.md"
LOADS = ((1, 200), (16, 640), (64, 1280))
"""Clients at once, and requests of all of them."""
BODY = {"model": "m", "messages": [{"role": "user", "content": "What is a good way to keep bread fresh?"}]}
REPLY = ("Keep it in a paper bag or a wooden box, away from the sun, and eat it within three days. " * 6).strip()


def upstream() -> None:
    """Serve the same answer to everybody, at once."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    message = {"role": "assistant", "content": REPLY}
    reply = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 100, "total_tokens": 110},
    }
    body = json.dumps(reply).encode()

    async def chat(request: Request) -> Response:
        await request.body()
        return Response(body, media_type="application/json")

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "m", "object": "model"}]})

    routes = [Route("/v1/chat/completions", chat, methods=["POST"]), Route("/v1/models", models)]
    uvicorn.run(Starlette(routes=routes), port=int(sys.argv[2]), log_level="warning", access_log=False)


async def _load(url: str, clients: int, requests: int) -> dict[str, Any]:
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
                response = await client.post(
                    f"{url}/chat/completions", json=BODY, headers={"authorization": "Bearer x"}
                )
                taken.append(time.perf_counter() - begin)
                good = response.status_code == 200 and REPLY[:40] in response.text
                failed += not good

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
    url = sys.argv[2]
    asyncio.run(_load(url, 4, 40))
    print(json.dumps({str(clients): asyncio.run(_load(url, clients, requests)) for clients, requests in LOADS}))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


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
                found = httpx.post(
                    f"{url}/chat/completions", json=BODY, headers={"authorization": "Bearer x"}, timeout=20
                )
                if found.status_code == 200:
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


def litellm(binary: str, target: str, folder: Path, port: int) -> list[str]:
    """LiteLLM's proxy."""
    settings = {"model_name": "m", "litellm_params": {"model": "openai/m", "api_base": target, "api_key": "x"}}
    file = folder / "litellm.yaml"
    file.write_text(json.dumps({"model_list": [settings]}))
    return [binary, "--config", str(file), "--port", str(port), "--host", "127.0.0.1"]


def nemo(binary: str, target: str, folder: Path, port: int) -> list[str]:
    """NeMo Guardrails' server without rails."""
    configured = folder / "nemo" / "plain"
    configured.mkdir(parents=True)
    model = {"type": "main", "engine": "openai", "model": "m", "parameters": {"base_url": target, "api_key": "x"}}
    (configured / "config.yml").write_text(json.dumps({"models": [model]}))
    return [binary, "server", "--config", str(folder / "nemo"), "--port", str(port), "--default-config-id", "plain"]


OTHERS = {"OPENAI_API_KEY": "x", "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
"""What the others need to start without keys of their own; nobody's gateway checks keys here."""
OFF = "[output]\nenabled = false\n[pictures]\nread_text = false\n"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every server in turn, before the same upstream."""
    found: dict[str, Any] = {"cores": os.cpu_count(), "machine": platform.machine(), "servers": {}}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        target = f"http://127.0.0.1:{port}/v1"
        stack.enter_context(serving([sys.executable, __file__, "--upstream", str(port)], target, folder / "up.log"))
        servers: dict[str, Any] = {"the upstream itself": None}
        record = ("--record", str(folder / "record.db"))
        servers["Equipoise, no rails"] = lambda at: ours(target, folder, at, OFF)
        servers["Equipoise, no rails, audit record"] = lambda at: ours(target, folder, at, OFF, *record)
        servers["Equipoise, embedded detector"] = lambda at: ours(target, folder, at, "")
        servers["Equipoise, embedded detector, audit record"] = lambda at: ours(target, folder, at, "", *record)
        if arguments.litellm:
            servers["LiteLLM proxy, no rails"] = lambda at: litellm(arguments.litellm, target, folder, at)
        if arguments.nemo:
            servers["NeMo Guardrails, no rails"] = lambda at: nemo(arguments.nemo, target, folder, at)
        for name, command in servers.items():
            if command is None:
                found["servers"][name] = generated(target)
            else:
                at = free_port()
                url = f"http://127.0.0.1:{at}/v1"
                with serving(command(at), url, folder / f"{at}.log", **OTHERS, OPENAI_BASE_URL=target):
                    found["servers"][name] = generated(url)
            print(name, json.dumps(found["servers"][name]), flush=True)
    return found


def generated(url: str) -> dict[str, Any]:
    """What the load generator measures."""
    done = subprocess.run([sys.executable, __file__, "--load", url], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def render(found: dict[str, Any]) -> None:
    """Write the table into the page."""
    bare = found["servers"]["the upstream itself"]
    heads = [f"{clients} client{'s' * (clients > 1)}" for clients, _ in LOADS]
    lines = [
        f"{found['cores']} cores for upstream, gateway and clients together.",
        "",
        f"| server | {' | '.join(f'{head}: added p50, p99 (ms); requests a second' for head in heads)} |",
        f"|---|{'---|' * len(heads)}",
    ]
    for name, each in found["servers"].items():
        cells = []
        for clients, _ in LOADS:
            got, base = each[str(clients)], bare[str(clients)]
            added = (got[what] - base[what] for what in ("p50_ms", "p99_ms"))
            failed = f"; {got['failed']} failed" if got["failed"] else ""
            cells.append(f"{', '.join(f'{value:.1f}' for value in added)}; {got['rps']:.0f}{failed}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
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
