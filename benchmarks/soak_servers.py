"""What the soak test kills: a scripted upstream, and the database under the gateway's record."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import httpx

VOCABULARY: Final = (
    "bread",
    "flour",
    "water",
    "oven",
    "warm",
    "slice",
    "morning",
    "butter",
    "table",
    "garden",
    "river",
)
HARM: Final = (
    "All of them are vermin, and they deserve to be beaten and killed. Go and murder every one of them tonight. "
    "You are worthless and nobody loves you. You should kill yourself tonight, because everyone wants you dead. "
)
"""Says nothing that anybody could use; the embedded detector stops it."""
POSTGRESQL: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
FRAME: Final = {"id": "chatcmpl-1", "created": 1, "model": "m"}


class Killed(Protocol):
    """Something that can be stopped the hard way."""

    name: str

    def stop(self) -> None:
        """Stop it at once."""
        ...

    def start(self) -> None:
        """Start it again."""
        ...


def reply_to(prompt: str) -> str:
    """The upstream's reply, which the clients can compute too: `words SEED COUNT` or `harm SEED COUNT`."""
    kind, seed, length = [*prompt.split(), "10", "10"][:3]
    draw = random.Random(seed)
    if kind == "harm":
        return f"Number {seed}: {HARM}".strip()
    return " ".join([f"Number {seed}:", *draw.choices(VOCABULARY, k=int(length) if length.isdigit() else 10)])


def upstream(port: int) -> None:
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
            await asyncio.sleep(0.01)
            yield piece({"content": f"{word} "}, None)
        yield piece({}, "stop")
        yield b"data: [DONE]\n\n"

    async def chat(request: Request) -> Response:
        body = await request.json()
        content = body["messages"][-1]["content"]
        text = reply_to(content if isinstance(content, str) else content[0]["text"])
        if body.get("stream"):
            return StreamingResponse(pieces(text), media_type="text/event-stream")
        await asyncio.sleep(0.2)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return JSONResponse({**FRAME, "object": "chat.completion", "choices": [choice]})

    routes = [Route("/v1/chat/completions", chat, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), port=port, log_level="error", access_log=False)


class Process:
    """A server that is killed with SIGKILL and started again.

    Args:
        name: in the results.
        command: starts it.
        url: answers once it is there.
    """

    def __init__(self, name: str, command: list[str], url: str) -> None:
        self.name, self._command, self._url = name, command, url
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Kill it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            RuntimeError: it does not.
        """
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        for _ in range(240):
            try:
                httpx.get(self._url, timeout=5)
                return
            except httpx.HTTPError:
                time.sleep(0.25)
        raise RuntimeError(f"expected {self.name} to answer, got nothing")


@contextmanager
def scripted(command: list[str], target: str) -> Iterator[Process]:
    """The upstream."""
    server = Process("upstream", command, target)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class SqliteFile:
    """SQLite's file, which another process locks, or which is moved away.

    Args:
        file: of the record.
    """

    kind, name = "SQLite", "database"

    def __init__(self, file: Path) -> None:
        self.url, self._file = str(file), file
        self._lock: sqlite3.Connection | None = None
        self._moved = False

    def stop(self) -> None:
        """Lock it, and move it away the next time."""
        if self._moved:
            self._lock = sqlite3.connect(self._file, isolation_level=None, timeout=30, check_same_thread=False)
            self._lock.execute("BEGIN IMMEDIATE")
        else:
            for part in self._file.parent.glob(f"{self._file.name}*"):
                part.rename(part.with_name(f"away-{part.name}"))

    def start(self) -> None:
        """Free it, or move it back."""
        if self._lock is not None:
            self._lock.execute("ROLLBACK")
            self._lock.close()
            self._lock = None
        for part in self._file.parent.glob(f"away-{self._file.name}*"):
            part.rename(part.with_name(part.name.removeprefix("away-")))
        self._moved = not self._moved


class PostgresqlServer:
    """A PostgreSQL server, which is stopped without a shutdown (`pg_ctl -m immediate`), and recovers at its start.

    Args:
        folder: of its data, short, and not within one that is closed to other users.
    """

    kind, name, user = "PostgreSQL", "database", "postgres"

    def __init__(self, folder: Path) -> None:
        self.url = f"postgresql://{self.user}@/postgres?host={folder}"
        self._folder, self._data = folder, folder / "data"
        if os.getuid() == 0:
            shutil.chown(folder, self.user, self.user)
        self._run("initdb", "-D", self._data, "-U", self.user, "-A", "trust")
        self.start()

    def stop(self) -> None:
        """Stop it at once."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    def start(self) -> None:
        """Start it."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self._folder}"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self._folder / "log", "-o", options, "start")

    def _run(self, program: str, *words: object) -> None:
        # It refuses to run as root.
        root = os.getuid() == 0
        front = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"] if root else []
        command = [*front, str(POSTGRESQL[-1] / program), *map(str, words)]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": "/tmp"}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, timeout=120)


@contextmanager
def database(folder: Path, kind: str) -> Iterator[SqliteFile | PostgresqlServer]:
    """The database under the record.

    Args:
        folder: of SQLite's file.
        kind: `sqlite`, `postgresql`, or `any`, which is PostgreSQL where its programs are.
    """
    if kind == "sqlite" or (kind == "any" and not POSTGRESQL):
        yield SqliteFile(folder / "record.db")
        return
    with tempfile.TemporaryDirectory(prefix="eqpg", ignore_cleanup_errors=True) as name:
        server = PostgresqlServer(Path(name))
        try:
            yield server
        finally:
            server.stop()


def memory(pid: int) -> float:
    """The resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1000, 1)


def serving_on(port: int) -> int:
    """The process of the gateway on a port, by its command line.

    Raises:
        StopIteration: there is none.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and str(port).encode() in words:
            return int(folder.name)
    raise StopIteration


def picture(prompt: str) -> str:
    """A small picture as a data URL, of a kind and colours that the prompt decides."""
    from PIL import Image

    draw = random.Random(prompt)
    image = Image.frombytes("RGB", (8, 8), draw.randbytes(192)).resize((draw.randrange(32, 400),) * 2)
    kind = draw.choice(["PNG", "JPEG", "WEBP"])
    file = io.BytesIO()
    image.save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
