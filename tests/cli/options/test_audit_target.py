"""Where an audit's target is loaded: here, or by workers; what cannot be divided is said in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from equipoise.audit.records import AuditRun
from equipoise.audit.workers.audit_workers import SHARDS
from equipoise.cli.options.audit_target import clear_run
from equipoise.errors import UsageError
from equipoise.execution import InProcessExecutor
from equipoise.folder_lock import claim_folder
from tests.audit.factories import balanced, rows, write_run
from tests.audit.workers.tasks import rows_of
from tests.child_process import environment
from tests.cli.command import Command
from tests.cli.fakes import photo


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    rows = []
    for number in range(4):
        picture = photo(tmp_path / f"p{number}.png", seed=number)
        rows.append({"id": f"q{number}", "prompt": "What is it?", "expected": "answer", "images": [picture.name]})
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("http://localhost:1/v1#m", "--workers", "2"), "expected a model with weights for workers"),
        (("inspect:openai/gpt-4o", "--workers", "2"), "expected a model with weights for workers"),
        (("toy/target", "--workers", "2", "--timeout", "5"), "try --item-seconds 600"),
        (("toy/target", "--workers", "2", "--header", "a=b"), "expected no option of a served model"),
        (("toy/target", "--item-seconds", "5"), "try --workers 1"),
        (("toy/target", "--gpus-per-worker", "1"), "try --ray auto"),
    ],
)
def test_what_does_not_go_with_workers_is_one_line(
    equipoise: Command, samples: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = equipoise("audit", *words, "--suite", samples, "--out", tmp_path / "run")
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.fixture
def workers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--workers` means this process: the way of the work is the same, and the toy models are here."""
    monkeypatch.setattr(
        "equipoise.execution.executors.SpawnExecutor", lambda workers, gpus, limits: InProcessExecutor()
    )


@pytest.mark.usefixtures("workers_here")
def test_an_audit_with_an_attack_and_a_defence_is_the_same_with_workers(
    equipoise: Command, samples: Path, tmp_path: Path
) -> None:
    words = ("audit", "toy/target", "--suite", samples, "--attack", "refusal", "--steps", "30", "--bystander",
             "toy/bystander", "--defend", "jpeg:quality=50")  # fmt: skip
    for name, more in (("here", ()), ("workers", ("--workers", "2"))):
        done = equipoise(*words, "--out", tmp_path / name, *more)
        assert done.exit_code == 0, done.output
    assert rows_of(tmp_path / "workers") == rows_of(tmp_path / "here")
    for name in ("summary.json", "attack.json"):
        one, other = (json.loads((tmp_path / folder / name).read_text()) for folder in ("here", "workers"))
        for document in (one, other):
            document.get("run", {}).pop("started", None)
            for picture in document.get("pictures", ()):
                picture.pop("seconds", None)
        assert one == other
    assert (tmp_path / "workers" / "report.html").is_file()


@pytest.mark.usefixtures("workers_here")
def test_the_suites_of_a_model_are_known_without_loading_it_here(equipoise: Command, tmp_path: Path) -> None:
    done = equipoise("audit", "toy/text", "--limit", "2", "--workers", "1", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert [suite["name"] for suite in AuditRun.open(tmp_path / "run").recipe["suites"]] == ["everyday", "contrast"]
    before = (tmp_path / "run" / "replies.jsonl").read_bytes()
    again = equipoise("audit", "toy/text", "--limit", "2", "--workers", "1", "--out", tmp_path / "run", "--overwrite")
    assert again.exit_code == 0, again.output
    after = (tmp_path / "run" / "replies.jsonl").read_bytes()
    assert len(after.splitlines()) == len(before.splitlines())


def test_a_command_with_workers_leaves_no_shards(samples: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "tests.cli.fakes", "audit", "--suite", str(samples), "--workers", "2"]
    out = tmp_path / "run"
    done = subprocess.run([*line, "--out", str(out), "--json", "toy/target"], capture_output=True, text=True,
                          env=environment(), check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["variants"]["plain"]["needless_refusal"]["n"] == 4
    assert not (out / SHARDS).exists()


def test_only_a_run_is_removed_and_what_workers_left_stays_out_of_it(tmp_path: Path) -> None:
    clear_run(tmp_path / "none")
    run = balanced(tmp_path / "run")
    shard = run.folder / SHARDS / "worker-0" / ("a" * 64)
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"x")
    clear_run(run.folder)
    assert {path.name for path in run.folder.iterdir()} == {SHARDS}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="expected the folder of an audit"):
        clear_run(tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").is_file()


def test_a_run_that_somebody_writes_is_not_removed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows(2, "a"))
    with claim_folder(run.folder), pytest.raises(UsageError, match="nobody else"):
        clear_run(run.folder)
    assert len(AuditRun.open(run.folder).cases()) == 2
    clear_run(run.folder)
    assert [path.name for path in run.folder.iterdir()] == []


def test_what_lies_beside_a_run_stays(tmp_path: Path) -> None:
    run = balanced(tmp_path / "run")
    for name in ("gate.toml", "notes.txt", "my-samples.jsonl"):
        (run.folder / name).write_text("mine")
    (run.folder / ".git").mkdir()
    (run.folder / "perturbed").mkdir()
    (run.folder / ".replies.jsonl.part").write_text("")
    clear_run(run.folder)
    assert {path.name for path in run.folder.iterdir()} == {"gate.toml", "notes.txt", "my-samples.jsonl", ".git"}
