"""What a large audit of a served model costs, and its pages.

```
python benchmarks/audit_scale.py audit  [--samples 20000] [--judge ensemble] [--folder FOLDER]
python benchmarks/audit_scale.py pages  [--samples 20000] [--folder FOLDER]
```

`audit` runs `equipoise audit` as a user does, against a server in a process of its own that answers at once, and gives
samples a second, CPU seconds and the largest memory of the process. `pages` gives the time and memory of
`equipoise report` on the folder, the sizes of the files, and the time until headless Chromium shows the report and the
page of replies (with a search through all of them). Without a run in the folder, `pages` writes one with as many rows,
so that pages can be measured without an audit. Seconds of the CPU are given beside those of the clock, as other
programs share the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SENTENCE = "The picture shows a red ball on a wooden table beside a window with a view of the garden"
WORDS = SENTENCE.split()
REFUSAL = "I'm sorry, but I can't help with that request."


class Handler(BaseHTTPRequestHandler):
    """A chat server that answers at once: one in seven requests is refused."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer a request."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = str(body["messages"][-1]["content"])
        number = int(next(iter(re.findall(r"\d+", text)), "0"))
        message = {"role": "assistant", "content": reply_to(number)}
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "scripted",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": len(text) // 4, "completion_tokens": 40, "total_tokens": 40 + len(text) // 4},
        }
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def reply_to(number: int) -> str:
    """About as long as replies are in an audit, and another one for every prompt."""
    if number % 7 == 0:
        return REFUSAL
    return " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 60)) + f". It is number {number}."


def serve() -> None:
    """Serve until the parent closes the pipe."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


def write_suite(path: Path, samples: int) -> None:
    """Prompts of which half should be answered."""
    rows = (
        {
            "id": f"q{number}",
            "prompt": f"Question {number}: " + " ".join(WORDS),
            "expected": ("answer", "refuse")[number % 2],
            "category": f"category {number % 12}",
        }
        for number in range(samples)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_run(folder: Path, samples: int) -> None:
    """A finished run with as many rows, through the records that an audit writes."""
    from equipoise.audit.records import FORMAT, AuditRun, ReplyRow, SampleRow, VerdictRow
    from equipoise.types import Sample, Verdict

    recipe = {
        "format": FORMAT,
        "equipoise": "benchmark",
        "command": "",
        "started": "2026-01-01T00:00:00+00:00",
        "model": {"name": "scripted", "revision": ""},
        "suites": [{"name": "large", "source": "", "sha256": "", "samples": samples}],
        "variants": ["plain"],
        "judge": {"name": "none", "identity": "none"},
    }
    run = AuditRun.write(folder, recipe)
    for start in range(0, samples, 2000):
        batch = []
        for number in range(start, min(start + 2000, samples)):
            expected: Any = ("answer", "refuse")[number % 2]
            text = f"Question {number}: " + " ".join(WORDS)
            sample = Sample(f"q{number}", "large", text, expected, category=f"category {number % 12}")
            batch.append((number, SampleRow.of(sample, "plain", {}, ())))
        run.samples().append(row for _, row in batch)
        run.replies().append(
            ReplyRow(row.key, reply_to(number), "stop", "text", "scripted", seconds=0.1) for number, row in batch
        )
        run.verdicts().append(
            VerdictRow(row.key, "none", Verdict("full" if number % 7 == 0 else "none", "none", reasons=("a rule",)))
            for number, row in batch
        )


def timed(words: Sequence[object]) -> dict[str, float]:
    """Run a command; its seconds, CPU seconds and largest memory in MiB."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    # A process of its own for each command, since the system keeps the largest memory over all children.
    program = (
        "import json, resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode; "
        "print(json.dumps([code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))"
    )
    done = subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, check=True)
    code, memory = json.loads(done.stdout.splitlines()[-1])
    if code:
        raise SystemExit(f"{' '.join(map(str, words))} ended with {code}:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(time.perf_counter() - began, 1), "cpu": round(cpu, 1), "mib": round(memory)}


def equipoise(*words: object) -> list[object]:
    """The command line of this checkout."""
    return [sys.executable, "-m", "equipoise.cli.main", *words]


def measure_audit(folder: Path, samples: int, judge: str) -> Iterator[tuple[str, object]]:
    """The audit itself."""
    suite = folder.with_name(f"{folder.name}-suite.jsonl")
    write_suite(suite, samples)
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdin=-1, stdout=-1, text=True)
    assert server.stdout is not None
    assert server.stdin is not None
    try:
        address = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1#scripted"
        options = ["--out", folder, "--judge", judge, "--connections", 32, "--overwrite"]
        figures = timed(equipoise("audit", address, "--suite", suite, *options))
    finally:
        server.stdin.close()
        server.wait(10)
    yield "audit", {**figures, "samples a second": round(samples / figures["seconds"], 1)}
    yield "samples a CPU second", round(samples / figures["cpu"], 1)
    yield "logs, MB", round(sum(path.stat().st_size for path in (folder / "logs").iterdir()) / 1e6, 1)


def measure_pages(folder: Path) -> Iterator[tuple[str, object]]:
    """The pages of a run."""
    yield "report", timed(equipoise("report", folder))
    yield "report with CSV", timed(equipoise("report", folder, "--csv", folder / "rows.csv"))
    for name in ("report.html", "report-replies.html", "rows.csv"):
        yield f"{name}, MB", round((folder / name).stat().st_size / 1e6, 2)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        return
    for name, address in (
        ("an empty page", "about:blank"),
        ("the report", (folder / "report.html").as_uri()),
        ("the replies", (folder / "report-replies.html").as_uri()),
        ("a search in all replies", (folder / "report-replies.html").as_uri() + "#words=it+is+number"),
    ):
        words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=120000", "--dump-dom"]
        yield f"Chromium, {name}", timed([*words, address])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["audit", "pages", "serve"])
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--judge", default="ensemble")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.what == "serve":
        return serve()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch) / "run").resolve()
        if options.what == "audit":
            figures = measure_audit(folder, options.samples, options.judge)
        else:
            if not (folder / "run.json").exists():
                write_run(folder, options.samples)
            figures = measure_pages(folder)
        for name, value in figures:
            print(f"{name}: {value if not isinstance(value, dict) else json.dumps(value)}", flush=True)


if __name__ == "__main__":
    main()
