"""Peak memory: of the process on a CPU, and unknown where the system has no `resource` (Windows)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from equipoise.models.peak_memory import peak_memory, process_peak, reset_peak_memory
from tests.child_process import environment
from tests.cli.fakes import BrightnessModel


def test_memory_on_a_cpu_is_that_of_the_process() -> None:
    models = [BrightnessModel("toy/target")]
    assert not reset_peak_memory(models)
    bytes_in_use = peak_memory(models)
    assert bytes_in_use is not None
    assert 10_000_000 < bytes_in_use < 2**40, "an interpreter with torch takes more than 10 MB"
    # A served model has no device here.
    assert not reset_peak_memory([object()])
    assert peak_memory([object()]) == process_peak()


def test_a_system_without_the_module_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert process_peak() is None
    assert peak_memory([BrightnessModel("toy/target")]) is None


def test_a_frontier_is_imported_without_the_module() -> None:
    # psutil, which inspect needs, imports it on Linux alone.
    code = "import sys, psutil; sys.modules['resource'] = None; import equipoise.audit.frontier.run"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
