from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli import toy
from equipoise.cli.main import app

Command = Callable[..., Result]


@pytest.fixture
def equipoise(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in-process, with toy models."""
    monkeypatch.setattr("equipoise.models.load.load", toy.load)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
