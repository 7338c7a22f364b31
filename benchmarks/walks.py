"""How far three things travel through the code: frames on the stack and files entered, measured while they travel.

    python benchmarks/walks.py [--source CHECKOUT] [--only WALK]

- pixel: `equipoise perturb` up to the first PNG written.
- request: a chat request through the gateway up to the detector's network, over await chain and worker thread; and of
  it what lies between the handler's check of the reply and the network.
- sample: `equipoise audit` up to the rendering of the page.

Each walk runs in a child process with `CHECKOUT/src` first on its path, so two commits are compared by two calls.
`frames` counts functions of the package on the way to the end point, `files` the modules that these stand in, `entered`
all modules of which any function ran during the walk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

WALKS = ("pixel", "request", "sample")
CHECKS = ("check_choice", "_review")
"""The functions that handlers check a reply with, now and in commit 9094fbd."""
CHILD = r'''
import asyncio, http.server, json, os, sys, threading, traceback
from pathlib import Path

PACKAGE = os.sep + "equipoise" + os.sep
entered, end = set(), []

def enter(frame, event, argument):
    # Functions only: bodies of modules and classes, which run at import, lack the flag CO_OPTIMIZED.
    if event == "call" and PACKAGE in frame.f_code.co_filename and frame.f_code.co_flags & 1:
        entered.add(frame.f_code.co_filename)

def frames_of_thread():
    frame, frames = sys._getframe(), []
    while frame is not None:
        if PACKAGE in frame.f_code.co_filename and not frame.f_code.co_name.startswith("<"):
            frames.append((frame.f_code.co_filename, frame.f_code.co_name))
        frame = frame.f_back
    return frames

def chain_of(task):
    """The frames of a task's await chain, from the outside in, those of other packages included."""
    coroutine, frames = task.get_coro(), []
    while coroutine is not None and getattr(coroutine, "cr_frame", None) is not None:
        frames.append(coroutine.cr_frame)
        coroutine = coroutine.cr_await
    return frames

def frames_of_tasks(loop):
    """The await chain of the request: of the task that waits longest, and of the tasks that wait for that one."""
    chains = {task: chain_of(task) for task in asyncio.all_tasks(loop)}
    ours = lambda frame: PACKAGE in frame.f_code.co_filename
    task = max(chains, key=lambda task: sum(map(ours, chains[task])), default=None)
    chain = []
    while task is not None:
        chain = chains.pop(task) + chain
        # A task that waits for another one has it in a variable, as asyncio before 3.14 does not say who waits.
        waiting = [(other, frame) for other, frames in chains.items() for frame in frames if ours(frame)]
        task = next((other for other, frame in waiting if task in frame.f_locals.values()), None)
    return [(frame.f_code.co_filename, frame.f_code.co_name) for frame in chain if ours(frame)]

def arrive(frames):
    if not end:
        end.extend(frames)
        names = [f"{file.split(PACKAGE)[-1]}:{name}" for file, name in frames]
        counts = {"frames": len(frames), "files": len({file for file, _ in frames}), "entered": len(entered)}
        print("WALK " + json.dumps(counts | {"names": names}), flush=True)
        os._exit(0)

def cli(*words):
    from equipoise.cli.main import app
    threading.setprofile(enter)
    sys.setprofile(enter)
    app([str(word) for word in words], standalone_mode=False)

def pixel(folder):
    from PIL import Image
    Image.new("RGB", (64, 64), "orange").save(folder / "a.png")
    kept = Image.Image.save
    def save(self, file, *args, **more):
        frames = frames_of_thread()
        if (more.get("format") == "PNG" or "PNG" in args) and any("save" in name for _, name in frames):
            arrive(frames)
        return kept(self, file, *args, **more)
    Image.Image.save = save
    cli("perturb", folder / "a.png", "--model", "testbed/llava", "--steps", 1, "--out", folder / "out")

def sample(folder):
    import jinja2
    kept = jinja2.Template.render
    def render(self, *args, **more):
        frames = frames_of_thread()
        if any(file.split(PACKAGE)[-1].startswith("report") for file, _ in frames):
            arrive(frames)
        return kept(self, *args, **more)
    jinja2.Template.render = render
    cli("audit", "testbed/llava", "--suite", "everyday", "--limit", 2, "--max-new-tokens", 4, "--out", folder / "run")

class Upstream(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.dumps({"object": "list", "data": [], "id": "c", "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Mix flour and water."}}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer
    def log_message(self, *args):
        pass

def request(folder):
    import httpx, torch, uvicorn
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    def run(self, sockets=None):
        async def ask():
            loop = asyncio.get_running_loop()
            kept = torch.nn.Module.__call__
            def call(module, *args, **more):
                # Warm-ups and probes reach the network as well; a request is the walk that a task waits for.
                thread, tasks = frames_of_thread(), frames_of_tasks(loop)
                if thread and tasks:
                    arrive(thread + tasks[::-1])
                return kept(module, *args, **more)
            torch.nn.Module.__call__ = call
            transport = httpx.ASGITransport(self.config.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=60) as client:
                chat = {"model": "m", "messages": [{"role": "user", "content": "How do I bake bread?"}]}
                answer = await client.post("/v1/chat/completions", json=chat)
                print(answer.status_code, answer.text[:300], file=sys.stderr)
        asyncio.run(ask())
    uvicorn.Server.run = run
    cli("guard", "serve", "--upstream", f"http://127.0.0.1:{server.server_port}/v1", "--port", 0)

import tempfile
with tempfile.TemporaryDirectory() as folder:
    globals()[sys.argv[1]](Path(folder))
'''


def walk(name: str, source: Path) -> dict[str, object]:
    """Frames and files of one walk in one checkout."""
    with tempfile.TemporaryDirectory() as folder:
        child = Path(folder) / "child.py"
        child.write_text(CHILD, encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": str(source.resolve() / "src"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, str(child), name],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    for line in done.stdout.splitlines():
        if line.startswith("WALK "):
            return dict(json.loads(line[5:]))
    raise SystemExit(f"the walk {name} never arrived:\n{done.stdout}\n{done.stderr}")


def main() -> None:
    """Print a table of the three walks, and with --names each frame."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--names", action="store_true", help="print every frame of each walk")
    parser.add_argument("--only", choices=WALKS, help="one walk instead of all")
    options = parser.parse_args()
    print("| walk | frames | files | modules entered |\n|---|---|---|---|")
    for name in (options.only,) if options.only else WALKS:
        result = walk(name, options.source)
        print(f"| {name} | {result['frames']} | {result['files']} | {result['entered']} |", flush=True)
        names: list[str] = result["names"]  # type: ignore[assignment]
        if name == "request":
            check = next(at for at, frame in enumerate(names) if frame.split(":")[1] in CHECKS)
            print(
                f"| request, from the reply's check on | {check} | {len({n.split(':')[0] for n in names[:check]})} | |"
            )
        if options.names:
            print("\n".join(f"    {frame}" for frame in names))


if __name__ == "__main__":
    main()
