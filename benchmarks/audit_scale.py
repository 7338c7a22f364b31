"""What a large audit of a served model costs: its time and memory, a kill, another judge, the gate and the pages.

```
python benchmarks/audit_scale.py [--count 20000] [--judge ensemble] [--write]
python benchmarks/audit_scale.py --report-only [--count 50000] [--write]
```

The first command runs `equipoise audit` as a user does, against a server in a process of its own that answers at once;
stops it with SIGKILL when half of the replies are stored; gives the same command again; lets another judge read the
replies (`rejudge --judge phrases`); and then measures summary, gate and pages. The second writes a run with as many
rows and measures the same but the audit. Seconds of the CPU stand beside those of the clock, as other programs may
share the machine; memory is the largest of the process. A page counts as usable when headless Chromium has drawn its
rows. With `--write` the figures go to `benchmarks/results/audit_scale.json` and the table to `docs/audit.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from page import put

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "audit_scale.json"
PAGE = ROOT / "docs" / "audit.md"
CONNECTIONS = 32
RULES = "[needless_refusal]\nmax = 0.3\n"
SUMMARY = """
import sys
from equipoise.audit.records import AuditRun
from equipoise.audit.summary import summarise
run = AuditRun.open(sys.argv[1])
summarise(run).save(run.folder)
"""
Figures = dict[str, Any]

SENTENCE = "The picture shows a red ball on a wooden table beside a window with a view of the garden"
WORDS = SENTENCE.split()
REFUSAL = "I'm sorry, but I can't help with that request."


class Handler(BaseHTTPRequestHandler):
    """A chat server that answers at once: one in seven requests is refused."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    requests = 0

    def do_GET(self) -> None:
        """How many prompts came."""
        self.send(str(Handler.requests).encode())

    def do_POST(self) -> None:
        """Answer a request."""
        Handler.requests += 1
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
        self.send(json.dumps(answer).encode())

    def send(self, data: bytes) -> None:
        """Send JSON."""
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


def timed(words: Sequence[object], *, kill_at: tuple[Path, int] | None = None) -> Figures:
    """Run a command; its seconds, CPU seconds and largest memory in MiB.

    Args:
        words: the command.
        kill_at: a file, and how many lines it has when the command is killed.
    """
    began = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([*map(str, words)], stdout=subprocess.DEVNULL, stderr=errors)
        if kill_at is not None:
            while _lines(kill_at[0]) < kill_at[1] and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode and kill_at is None:
            errors.seek(0)
            raise SystemExit(f"{words[:6]} ended with {process.returncode}:\n{errors.read()[-2000:].decode()}")
    figures: Figures = {"seconds": round(time.perf_counter() - began, 1)}
    figures["cpu"] = round(usage.ru_utime + usage.ru_stime, 1)
    return {**figures, "mib": round(usage.ru_maxrss / 1024)}


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def equipoise(*words: object) -> list[object]:
    """The command line of this checkout."""
    return [sys.executable, "-m", "equipoise.cli.main", *words]


def measure_audit(folder: Path, count: int, judge: str) -> Iterator[tuple[str, Figures]]:
    """The audit in two parts with a kill between them, and another judge."""
    suite = folder.with_name(f"{folder.name}-suite.jsonl")
    write_suite(suite, count)
    shutil.rmtree(folder, ignore_errors=True)
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdin=-1, stdout=-1, text=True)
    assert server.stdout is not None
    assert server.stdin is not None
    try:
        address = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        words = equipoise("audit", f"{address}#scripted", "--suite", suite, "--out", folder, "--judge", judge)
        words += ["--connections", CONNECTIONS]
        first = timed(words, kill_at=(folder / "replies.jsonl", count // 2))
        stored = _lines(folder / "replies.jsonl")
        yield "audit to a kill -9", {**first, "replies": stored, "a second": round(stored / first["seconds"], 1)}
        second = timed(words)
        left = count - stored
        yield "the same command again", {**second, "replies": left, "a second": round(left / second["seconds"], 1)}
        with urllib.request.urlopen(address) as response:
            requests = int(response.read())
    finally:
        server.stdin.close()
        server.wait(10)
    keys = [json.loads(line)["key"] for line in (folder / "replies.jsonl").read_text().splitlines()]
    if len(keys) != len(set(keys)) or len(keys) != count:
        raise SystemExit(f"expected {count} replies, each once, got {len(keys)} and {len(set(keys))} keys")
    yield "requests sent twice because of the kill", {"requests": requests - count}
    cpu = first["cpu"] + second["cpu"]
    yield "whole audit", {"cpu": round(cpu, 1), "a CPU second": round(count / cpu, 1)}
    yield "logs", {"mb": round(sum(path.stat().st_size for path in (folder / "logs").iterdir()) / 1e6, 1)}
    again = timed(equipoise("rejudge", folder, "--judge", "phrases"))
    yield "rejudge, with summary and pages", {**again, "a second": round(count / again["seconds"], 1)}


def measure_reading(folder: Path) -> Iterator[tuple[str, Figures]]:
    """What is made of a finished run: summary, gate, pages."""
    yield "summary", timed([sys.executable, "-c", SUMMARY, folder])
    rules = folder.with_name(f"{folder.name}-gate.toml")
    rules.write_text(RULES)
    yield "gate", timed(equipoise("gate", folder, "--rules", rules))
    yield "report and page of replies", timed(equipoise("report", folder))
    yield "the same with CSV", timed(equipoise("report", folder, "--csv", folder / "rows.csv"))
    for name in ("report.html", "report-replies.html", "rows.csv"):
        yield name, {"mb": round((folder / name).stat().st_size / 1e6, 2)}
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        return
    replies = (folder / "report-replies.html").as_uri()
    for name, address in (
        ("an empty page", "about:blank"),
        ("the report", (folder / "report.html").as_uri()),
        ("the replies", replies),
        ("a search in all replies", f"{replies}#words=it+is+number"),
    ):
        words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=120000", "--dump-dom"]
        yield f"Chromium, {name}", timed([*words, address])


def table(results: dict[str, Figures]) -> list[str]:
    """The results as Markdown."""
    lines = []
    for title, figures in results.items():
        rows: dict[str, Figures] = figures["rows"]
        lines += [f"{title}, {figures['count']:,} samples, judge `{figures['judge']}`, {figures['cores']} cores:", ""]
        lines += ["| what | seconds | CPU seconds | MiB | further |", "|---|---:|---:|---:|---|"]
        for name, row in rows.items():
            rest = ", ".join(f"{value:,} {key}" for key, value in row.items() if key not in ("seconds", "cpu", "mib"))
            cells = " | ".join(f"{row[key]:,}" if key in row else "" for key in ("seconds", "cpu", "mib"))
            lines.append(f"| {name} | {cells} | {rest} |")
        lines.append("")
    return lines


def main() -> None:
    """Measure, print, and write when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, help="samples: 20000, or 50000 with --report-only")
    parser.add_argument("--judge", default="ensemble")
    parser.add_argument("--folder", type=Path, help="where the run is kept; a temporary folder by default")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    count = options.count or (50_000 if options.report_only else 20_000)
    title = "Reading a run" if options.report_only else "An audit of a scripted server"
    judge = "none" if options.report_only else options.judge
    rows: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch) / "run").resolve()
        if options.report_only:
            shutil.rmtree(folder, ignore_errors=True)
            write_run(folder, count)
            parts = [measure_reading(folder)]
        else:
            parts = [measure_audit(folder, count, options.judge), measure_reading(folder)]
        for part in parts:
            for name, figures in part:
                rows[name] = figures
                print(f"{name}: {json.dumps(figures)}", flush=True)
                if options.write:
                    # After each figure: a later part that fails does not lose the audit, which takes most of the time.
                    keep(title, {"count": count, "judge": judge, "cores": os.cpu_count(), "rows": rows})


def keep(title: str, figures: Figures) -> None:
    """Write one of the two tables into the results and the page."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[title] = figures
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    put(PAGE, "audit scale", table(results))


if __name__ == "__main__":
    main()
