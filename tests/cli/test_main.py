"""The command itself: help without torch, errors in one line, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from equipoise import __version__
from equipoise.cli import document
from tests.cli.command import Command

HELP_WITHOUT_TORCH = """
import sys
from typer.testing import CliRunner
from equipoise.cli.main import app
verbs = [[], ["ask"], ["perturb"], ["protect"], ["doctor"], ["testbed"]]
verbs += [["audit"], ["report"], ["compare"], ["gate"], ["power"], ["judge"], ["judge", "calibrate"]]
verbs += [["testbed", name] for name in ("list", "train", "show")]
for words in [*([*verb, "--help"] for verb in verbs), ["--version"]]:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.output)
heavy = {"torch", "torchvision", "transformers", "accelerate", "scipy", "skimage", "numpy"} & set(sys.modules)
print("heavy:", sorted(heavy))
"""


def test_help_and_version_import_nothing_heavy() -> None:
    run = subprocess.run([sys.executable, "-c", HELP_WITHOUT_TORCH], capture_output=True, text=True, timeout=300)
    assert run.stdout == "heavy: []\n", run.stderr


def test_our_errors_are_one_line_with_their_exit_code(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "equipoise.cli.main", "ask", tmp_path / "no.png", "What?", "-m", "testbed/llava"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert run.returncode == 3
    assert run.stdout == ""
    assert run.stderr.startswith("equipoise: expected a picture file, got no file at ")
    assert run.stderr.count("\n") == 1


def test_version(equipoise: Command) -> None:
    assert equipoise("--version").stdout == f"equipoise {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [["fly"], ["ask"], ["perturb", "a.png"], ["perturb", "a.png", "-m", "x", "-o", "y", "--steps", "0"], ["ask", "-x"]],
)
def test_wrong_usage_exits_with_2(equipoise: Command, words: list[str]) -> None:
    result = equipoise(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_an_interrupt_exits_with_130(equipoise: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("equipoise.media.decode.open_picture", interrupt)
    assert equipoise("ask", "a.png", "What?", "-m", "toy/target").exit_code == 130


def test_a_bug_keeps_its_traceback(equipoise: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("equipoise.media.decode.open_picture", fail)
    assert isinstance(equipoise("ask", "a.png", "What?", "-m", "toy/target").exception, ZeroDivisionError)


def test_the_reference_is_up_to_date() -> None:
    if not document.PAGE.parent.is_dir():
        pytest.skip("docs are not part of this installation")
    assert document.PAGE.read_text(encoding="utf-8") == document.render(), "run python -m equipoise.cli.document"
