"""Progress: a bar at a terminal, lines elsewhere."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click
import pytest

from equipoise.attacks.perturbation_result import TraceStep
from equipoise.audit.engine.session import CollectionProgress
from equipoise.cli.options.progress import AuditProgressBar, PerturbProgressBar
from tests.perturb.test_record import record


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    # Not a fixture: pytest puts its own stderr back between the setup of a test and its call.
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return stderr


def test_a_person_sees_the_picture_its_loss_and_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    with PerturbProgressBar(100) as bar:
        callbacks = bar.callbacks()
        callbacks.pictures(3)
        callbacks.start("[red].png")
        callbacks.step(TraceStep(10, 1.25, 0.4))
        callbacks.step(TraceStep(11, 1.125))
    for words in ("1/3", "[red].png", "loss 1.125", "refused 40 %"):
        assert words in click.unstyle(terminal.getvalue())


def test_a_log_gets_a_line_for_each_finished_picture(capsys: pytest.CaptureFixture[str]) -> None:
    with PerturbProgressBar(100) as bar:
        callbacks = bar.callbacks()
        callbacks.pictures(2)
        callbacks.start("a.png")
        callbacks.step(TraceStep(1, 1.0))
        callbacks.finish(record())
        callbacks.start("b.png")
        callbacks.failure(Path("b.png"), "expected a picture")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "1/2 a.png: 3 steps, 1.5 s, refused 1 of 1",
        "equipoise: b.png: expected a picture",
    ]


def test_a_log_of_an_audit_ends_each_variant_with_its_count(capsys: pytest.CaptureFixture[str]) -> None:
    with AuditProgressBar() as bar:
        callbacks = bar.callbacks()
        callbacks.variant("plain", 4)
        for done in range(1, 5):
            callbacks.progress(CollectionProgress(done=done, total=4, failed=1, seconds=0.1 * done))
        callbacks.attack(1, 3, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == ["plain: 4 of 4, 1 without a reply", "perturbing picture 1 of 3"]
    assert len(lines) <= 3, "no line for every sample"
