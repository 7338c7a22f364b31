"""What the fixture `equipoise` gives: the command, run in-process."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

Command = Callable[..., Result]
