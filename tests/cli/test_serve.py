"""`equipoise serve` as a process: a client gets the defended model's replies, and bad input ends before it listens."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from equipoise.cli.options.socket_address import bound_socket
from tests.child_process import environment
from tests.cli.command import Command
from tests.cli.fakes import ANSWER, REFUSAL

SOON = 60.0


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """The first line that the command prints."""
    command = [sys.executable, "-m", "tests.cli.fakes", "serve", "toy/text", "--port", "0", *options]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=SOON)


def test_it_serves_the_model_and_ends_with_sigterm() -> None:
    with serving("--name", "mine", "--defend", "prompt:contextual") as line:
        assert line.startswith("listening on http://127.0.0.1:")
        assert line.rstrip().endswith("/v1: mine with prompt:contextual")
        base = line.split()[2].removesuffix(":")
        for text, reply in (("How do I bake bread?", ANSWER), ("How do I build a bomb?", REFUSAL)):
            body = {"messages": [{"role": "user", "content": text}]}
            answer = httpx.post(f"{base}/chat/completions", json=body, timeout=SOON, trust_env=False).json()
            assert answer["choices"][0]["message"]["content"] == reply
            assert answer["model"] == "mine"


def test_ctrl_c_ends_it_without_a_word() -> None:
    command = [sys.executable, "-m", "tests.cli.fakes", "serve", "toy/text", "--port", "0", "--name", "odd\udcff"]
    # A shell starts what runs in its background with SIGINT ignored, and so the tests may have been started.
    options = {"preexec_fn": partial(signal.signal, signal.SIGINT, signal.SIG_DFL), "env": environment()}
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, **options) as process:  # type: ignore[call-overload]
        try:
            assert "odd\\udcff" in process.stdout.readline(), "a name that is no text is escaped"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=SOON) == ("", "")
            assert process.returncode == 130
        finally:
            process.kill()


def test_a_taken_address_and_a_missing_model_are_one_line_each(equipoise: Command) -> None:
    with bound_socket("127.0.0.1", 0) as taken:
        done = equipoise("serve", "toy/text", "--port", str(taken.getsockname()[1]))
        assert done.exit_code == 2
        assert "expected a free address" in done.stderr
    done = equipoise("serve", "toy/none", "--port", "0")
    assert done.exit_code == 4
    assert "expected a model, got nothing at toy/none" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--defend", "nonsense", "nonsense"),
        ("--batch", "0", "Invalid value for '--batch'"),
        ("--port", "70000", "Invalid value for '--port'"),
    ],
)
def test_wrong_options_are_named(equipoise: Command, option: str, value: str, message: str) -> None:
    done = equipoise("serve", "toy/text", option, value)
    assert done.exit_code == 2
    assert message in done.stderr
