"""A real HTTP server that speaks as much of the OpenAI API as judges use, and answers as it is told."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Answer:
    """What the server does with one request."""

    body: bytes = b""
    """What it sends."""
    status: int = 200
    """HTTP status."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More headers."""
    missing: int = 0
    """Bytes promised in the header but never sent: the connection is cut."""
    seconds: float = 0.0
    """How long it waits first."""


def says(
    text: str | None,
    *,
    tokens: Sequence[tuple[str, Mapping[str, float]]] | None = None,
    finish: str = "stop",
    refusal: str | None = None,
    seconds: float = 0.0,
) -> Answer:
    """A chat completion; `tokens` holds each token with the probabilities of the likeliest ones."""
    log_probs = None
    if tokens is not None:
        log_probs = {
            "content": [
                {
                    "token": token,
                    "logprob": math.log(top.get(token, 1e-9)),
                    "top_logprobs": [{"token": text, "logprob": math.log(p)} for text, p in top.items()],
                }
                for token, top in tokens
            ]
        }
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": log_probs}
    return Answer(json.dumps({"id": "x", "object": "chat.completion", "choices": [choice]}).encode(), seconds=seconds)


def writes(text: str) -> Answer:
    """A completion of the older endpoint for whole prompts."""
    return Answer(json.dumps({"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}).encode())


def fails(status: int, message: str = "no", **headers: str) -> Answer:
    """An error."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(json.dumps({"error": {"message": message}}).encode(), status, named)


NO_CHOICES = Answer(json.dumps({"id": "x", "object": "chat.completion", "choices": []}).encode())
NO_JSON = Answer(b"<html>Bad gateway</html>")
CUT = Answer(b'{"choices": [', missing=500)


class Server:
    """Runs while it is entered; `script` gets every request's JSON body and says what to do."""

    def __init__(self, script: Callable[[dict[str, Any]], Answer]) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._serve(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.01), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self._lock:
            self.requests.append(body)
            self.headers.append(dict(handler.headers.items()))
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        try:
            self._answer(handler, self.script(body))
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        time.sleep(answer.seconds)
        try:
            handler.send_response(answer.status)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(answer.body) + answer.missing))
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(answer.body)
        except OSError:
            handler.close_connection = True  # whoever asked has gone
        if answer.missing:
            handler.close_connection = True


def prompt_text(body: dict[str, Any]) -> str:
    """The text of the last message of a request."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]
