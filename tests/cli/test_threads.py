"""Threads that wait sleep, unless the user has chosen otherwise."""

from __future__ import annotations

import subprocess
import sys

from equipoise.cli.threads import WAITING, let_waiting_threads_sleep


def test_what_the_user_has_set_stays() -> None:
    environment = {"OMP_WAIT_POLICY": "ACTIVE", "OTHER": "1"}
    let_waiting_threads_sleep(environment)
    assert environment == {"OMP_WAIT_POLICY": "ACTIVE", "OTHER": "1", "KMP_BLOCKTIME": WAITING["KMP_BLOCKTIME"]}


def test_a_verb_sets_it_before_torch_is_loaded() -> None:
    code = (
        "import os, sys\n"
        "os.environ.pop('OMP_WAIT_POLICY', None)\n"
        "from typer.testing import CliRunner\n"
        "from equipoise.cli.main import app\n"
        "CliRunner().invoke(app, ['power', '--help'])\n"
        "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["PASSIVE", "False"]
