from __future__ import annotations

import pytest
from typer.testing import CliRunner

from equipoise.cli.main import app
from tests.cli import fakes
from tests.cli.command import Command


@pytest.fixture
def equipoise(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in-process, with toy models."""
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
