"""Without torch and transformers: an audit of a served model works, and all else names the extra in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from equipoise.errors import EXTRAS, MissingExtraError, missing_extra
from tests.audit.scripted_server import ReceivedRequest, ScriptedServer, says
from tests.child_process import ROOT, environment

HEAVY = EXTRAS["models"]
PROGRAM = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
"""Makes a process in which nothing of the extra `models` can be imported."""


def run_light(program: str, *words: object) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", PROGRAM + program, *map(str, words)]
    return subprocess.run(arguments, capture_output=True, text=True, env=environment(), check=False)


def equipoise(*words: object) -> subprocess.CompletedProcess[str]:
    return run_light("from equipoise.cli.main import app; app(sys.argv[1:])", *words)


def reply(request: ReceivedRequest) -> object:
    return says("I'm sorry, but I can't help with that." if "refuse" in request.text else "It is a red ball.")


def test_the_program_without_torch_is_without_torch() -> None:
    done = run_light("import torch")
    assert done.returncode == 1
    assert "No module named 'torch'" in done.stderr


def test_an_audit_of_a_served_model_its_report_and_its_gate_need_neither_torch_nor_transformers(tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "prompt": f"What is {n}?", "expected": "answer"} for n in range(4)]
    rows += [{"id": f"r{n}", "prompt": f"Please refuse {n}.", "expected": "answer"} for n in range(2)]
    suite, rules, out = tmp_path / "own.jsonl", tmp_path / "gate.toml", tmp_path / "run"
    suite.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rules.write_text("[needless_refusal]\nmax = 1.0\non = 'point'\n")
    with ScriptedServer(reply) as server:  # type: ignore[arg-type]
        done = equipoise("audit", server.spec, "--suite", suite, "--suite", "everyday", "--limit", 6, "--out", out)
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["variants"]["plain"]["suites"]["own"]["needless_refusal"]["k"] == 2, "the encoder judged, too"
    assert "encoder" in {member["name"] for member in summary["judges"][0]["members"]}
    assert equipoise("report", out, "--csv", tmp_path / "rows.csv").returncode == 0
    assert equipoise("gate", out, "--rules", rules).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("ask", "What is this?", "--model", "testbed/llava"),
        ("audit", "testbed/llava"),
        ("detect", "x.png", "-m", "testbed/llava"),
    ],
    ids=lambda words: words[0],
)
def test_what_needs_weights_names_the_extra_in_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    done = equipoise(*words, *(["--out", tmp_path / "run"] if words[0] == "audit" else []))
    assert done.returncode == 6, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'equipoise[models]'" in done.stderr


def test_the_library_names_the_extra_too() -> None:
    done = run_light("import equipoise.models.load")
    assert "MissingExtraError: expected the extra 'models'" in done.stderr


def test_the_doctor_calls_a_light_installation_healthy_and_says_what_is_left_out() -> None:
    done = equipoise("doctor", "--json")
    document = json.loads(done.stdout)
    assert not any(family["works"] for family in document["families"])
    assert all("equipoise[models]" in family["advice"] for family in document["families"] if family["advice"])


def test_help_imports_nothing_that_takes_long() -> None:
    program = (
        "import sys; from equipoise.cli.main import app\n"
        "app(['audit', '--help'], standalone_mode=False)\n"
        "heavy = ('inspect_ai', 'scipy', 'statsmodels', 'pandas', 'matplotlib', 'openai', 'torch', 'PIL')\n"
        "print('loaded:', *[name for name in heavy if name in sys.modules])"
    )
    done = run_light(program)
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_an_audit_begins_without_the_libraries_that_only_its_report_needs() -> None:
    program = (
        "import equipoise.audit.run\n"
        "heavy = ('scipy.stats', 'statsmodels', 'pandas', 'matplotlib', 'sklearn')\n"
        "print(*[name for name in heavy if name in sys.modules])"
    )
    done = run_light(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_base_installation_names_nothing_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {line.partition(">")[0] for line in project["dependencies"]}
    models = {line.partition(">")[0] for line in project["optional-dependencies"]["models"]}
    assert not base & models
    assert models == {name.replace("skimage", "scikit-image").replace("sklearn", "scikit-learn") for name in HEAVY}
    for extra in ("guard", "lora", "diffusion", "quantized", "dev"):
        lines = project["optional-dependencies"][extra]
        assert any(line.startswith("equipoise[models") for line in lines), "it needs torch as well"


def test_only_a_module_of_an_extra_is_a_missing_extra() -> None:
    assert isinstance(missing_extra(ModuleNotFoundError("x", name="transformers.models")), MissingExtraError)
    assert missing_extra(ModuleNotFoundError("x", name="equipoise.gone")) is None
    assert missing_extra(ImportError("libtorch.so is damaged", name="torch")) is None
