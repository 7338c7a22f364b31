"""What must stay quick to import, checked in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "transformers", "skimage", "scipy", "PIL")


@pytest.mark.parametrize("module", ["equipoise", "equipoise.types", "equipoise.errors"])
def test_importing_it_loads_nothing_heavy(module):
    program = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "module", ["equipoise.judges.phrases", "equipoise.stats.proportions", "equipoise.perturb.record"]
)
def test_reading_results_loads_no_torch(module):
    program = f"import sys, {module}; print(*[name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
