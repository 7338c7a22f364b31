"""A server that speaks OpenAI's chat protocol over real HTTP, and does what a rule says.

```
def rule(request: ReceivedRequest) -> Answer:
    return says("Sorry, I cannot help with that.") if "bomb" in request.text else says("Sure.")

with ScriptedServer(rule) as server:
    ...  # server.url is `http://127.0.0.1:PORT/v1`; server.requests lists every request, in order
```
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

NAME = "scripted"
"""What the server calls its model."""


@dataclass(frozen=True)
class ReceivedRequest:
    """One request."""

    text: str
    """Of the last message of the user."""
    images: tuple[bytes, ...]
    """Its pictures, decoded from their data URIs."""
    system: str | None
    """System text."""
    body: dict[str, Any] = field(repr=False)
    """All of it."""
    headers: dict[str, str] = field(repr=False)
    """Lower-case names."""
    number: int
    """How often this text was sent before."""


@dataclass(frozen=True)
class Answer:
    """What comes back."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    after: float = 0.0
    """Seconds before anything is sent."""
    cut: bool = False
    """Whether the connection breaks in the middle of the body."""
    stream: tuple[dict[str, Any], ...] = ()
    """Chunks to send where the request asks for a stream."""


Rule = Callable[[ReceivedRequest], Answer]


def choice(message: dict[str, Any], finish: str | None, **more: Any) -> Answer:
    """A completion with one choice."""
    message = {"role": "assistant", "content": None, **message}
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": NAME,
        "choices": [{"index": 0, "message": message, "finish_reason": finish, **more}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": NAME}
    chunks = (
        {**chunk, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        *([{**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}] if finish else []),
    )
    return Answer(body=json.dumps(whole).encode(), stream=chunks)


def says(text: str, finish: str | None = "stop", **more: Any) -> Answer:
    """Text like any other."""
    return choice({"content": text, **more}, finish)


def refuses(text: str) -> Answer:
    """A refusal in the field that OpenAI has for it."""
    return choice({"refusal": text}, "stop")


def filtered(text: str = "", finish: str = "content_filter") -> Answer:
    """A reply that a content filter ended."""
    return choice({"content": text}, finish)


def fails(status: int, message: str = "no", *, code: str | None = None, kind: str | None = None, **more: Any) -> Answer:
    """An error in OpenAI's form; `headers` and `after` as in `Answer`."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return Answer(status, json.dumps({"error": error}).encode(), **more)


def error(status: int, body: Any) -> Answer:
    """An error whose body is this JSON."""
    return Answer(status, json.dumps(body).encode())


def empty(**more: Any) -> Answer:
    """A completion without choices."""
    return Answer(body=json.dumps({**json.loads(says("").body), "choices": [], **more}).encode())


def raw(body: bytes) -> Answer:
    """Any bytes with status 200."""
    return Answer(body=body)


def cut(text: str = "Sure, the first step is") -> Answer:
    """A completion whose connection breaks half-way."""
    whole = says(text, None)
    return Answer(body=whole.body, stream=whole.stream, cut=True)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the script."""


class ScriptedServer:
    """The server, in threads of its own, on a free port of this machine."""

    def __init__(self, rule: Rule, *, port: int = 0) -> None:
        self.requests: list[ReceivedRequest] = []
        self.most_at_once = 0
        self._at_once = 0
        self._rule = rule
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._server = _Quiet(("127.0.0.1", port), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._closing = threading.Event()

    @property
    def url(self) -> str:
        """Base URL, as clients of OpenAI take it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def spec(self) -> str:
        """URL and model's name."""
        return f"{self.url}#{NAME}"

    @property
    def counts(self) -> Counter[str]:
        """How often each text was sent."""
        return Counter(request.text for request in self.requests)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        with self._lock:
            request = _read(body, headers, self._counts)
            self.requests.append(request)
            self._counts[request.text] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = self._rule(request)
            self._closing.wait(answer.after) if answer.after else None
            return answer
        finally:
            with self._lock:
                self._at_once -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = json.dumps({"object": "list", "data": [{"id": NAME, "object": "model"}]}).encode()
                self._send(200, body, ())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                answer = server.answer(body, {name.lower(): value for name, value in self.headers.items()})
                # The client may have given up by now.
                with contextlib.suppress(ConnectionError):
                    if body.get("stream") and answer.stream:
                        self._stream(answer)
                    else:
                        self._send(answer.status, answer.body, answer.headers, cut=answer.cut)

            def _send(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...], cut: bool = False) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = self.close_connection or cut

            def _stream(self, answer: Answer) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                for chunk in answer.stream:
                    self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                if not answer.cut:
                    self.wfile.write(b"data: [DONE]\n\n")
                self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def _read(body: dict[str, Any], headers: dict[str, str], counts: Counter[str]) -> ReceivedRequest:
    messages = body["messages"]
    last = [message for message in messages if message["role"] == "user"][-1]["content"]
    parts = [{"type": "text", "text": last}] if isinstance(last, str) else last
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    system = [message["content"] for message in messages if message["role"] == "system"]
    return ReceivedRequest(
        text=text,
        images=tuple(base64.b64decode(url.partition(",")[2]) for url in urls),
        system=system[0] if system else None,
        body=body,
        headers=headers,
        number=counts[text],
    )


def slow(answer: Answer, seconds: float) -> Answer:
    """The same answer, later; later than a client waits, it hangs."""
    return Answer(answer.status, answer.body, answer.headers, seconds, answer.cut, answer.stream)


if __name__ == "__main__":
    with ScriptedServer(lambda request: says(f"You said: {request.text}")) as running:
        print(running.spec, flush=True)
        time.sleep(3600)
