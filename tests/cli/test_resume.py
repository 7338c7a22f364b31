"""A run that was killed goes on: finished pictures stay as they are, byte for byte."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.child_process import environment
from tests.cli import fakes
from tests.cli.command import Command
from tests.cli.fakes import photo

COUNT = 6
WORDS = ("--model", "toy/slow", "--steps", "12", "--max-new-tokens", "8", "--seed", "5", "--json")


def finished(out: Path) -> list[Path]:
    done = []
    for file in sorted(out.glob("[!.]*.json")):
        try:
            if "record" in json.loads(file.read_text())["recipe"]["run"]:
                done.append(file)
        except ValueError:
            continue
    return done


def test_kill_nine_in_the_middle_of_a_folder(equipoise: Command, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for seed in range(COUNT):
        photo(photos / f"p{seed}.png", seed=seed)
    words = [sys.executable, "-m", "tests.cli.fakes", "perturb", photos, *WORDS, "--out", out]
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while len(finished(out)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = finished(out)
    assert 2 <= len(done) < COUNT
    kept = {file: (file.stat().st_mtime_ns, file.read_bytes()) for j in done for file in (j, j.with_suffix(".png"))}
    (out / ".p5.png.part").write_bytes(b"half")

    result = equipoise("perturb", photos, *WORDS, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert len(json.loads(result.stdout)["images"]) == COUNT
    for file, (modified, content) in kept.items():
        assert file.read_bytes() == content
        assert file.stat().st_mtime_ns == modified
    names = {f"p{i}.{suffix}" for i in range(COUNT) for suffix in ("png", "json")} | {"index.html", ".equipoise.json"}
    assert {file.name for file in out.iterdir()} == names
    assert all(f"p{i}.png" in (out / "index.html").read_text() for i in range(COUNT))


@pytest.fixture
def done(equipoise: Command, tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        photo(tmp_path / "photos" / f"p{seed}.png", seed=seed)
    assert run(equipoise, tmp_path).exit_code == 0  # type: ignore[attr-defined]
    return tmp_path


def run(equipoise: Command, folder: Path, *more: object) -> object:
    return equipoise(
        "perturb", folder / "photos", "-m", "toy/target", "--steps", 12, *more, "--json", "--out", folder / "out"
    )


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [file for file in (folder / "out").iterdir() if file.stem in ("p0", "p1")]
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def changed(before: dict[str, tuple[int, bytes]], folder: Path) -> set[str]:
    return {name for name, current in state(folder).items() if before[name][0] != current[0]}


def test_a_finished_run_is_left_alone(equipoise: Command, done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(done)
    first = json.loads(run(equipoise, done).stdout)  # type: ignore[attr-defined]
    assert changed(before, done) == set()
    monkeypatch.setattr(fakes.BrightnessModel, "generate", None)
    again = json.loads(run(equipoise, done).stdout)  # type: ignore[attr-defined]
    assert again == first


def test_damage_is_made_good(equipoise: Command, done: Path) -> None:
    before = state(done)
    (done / "out" / "p0.png").write_bytes(b"damaged")
    (done / "out" / "p1.json").write_text('{"recipe": {"run": ')
    assert run(equipoise, done).exit_code == 0  # type: ignore[attr-defined]
    after = state(done)
    assert after["p0.png"][1] == before["p0.png"][1]
    assert after["p1.png"][1] == before["p1.png"][1]
    assert "record" in json.loads(after["p1.json"][1])["recipe"]["run"]


def test_a_changed_original_is_done_again(equipoise: Command, done: Path) -> None:
    before = state(done)
    photo(done / "photos" / "p1.png", seed=9)
    run(equipoise, done)
    assert changed(before, done) == {"p1.png", "p1.json"}


def test_a_picture_that_was_not_asked_about_yet_is_only_asked_about(equipoise: Command, done: Path) -> None:
    path = done / "out" / "p0.json"
    document = json.loads(path.read_text())
    record = document["recipe"]["run"].pop("record")
    path.write_text(json.dumps(document))
    before = state(done)
    run(equipoise, done)
    assert changed(before, done) == {"p0.json"}
    again = json.loads(path.read_text())["recipe"]["run"]["record"]
    assert again == record


def test_another_recipe_needs_another_folder(equipoise: Command, done: Path) -> None:
    before = state(done)
    for more in (("--seed", 1), ("--epsilon", "4/255"), ("-q", "What?"), ("-b", "toy/bystander")):
        result = run(equipoise, done, *more)
        assert result.exit_code == 2  # type: ignore[attr-defined]
        assert "try another --out, or --overwrite" in result.stderr  # type: ignore[attr-defined]
    assert changed(before, done) == set()
    assert run(equipoise, done, "--epsilon", "12/255", "--overwrite").exit_code == 0  # type: ignore[attr-defined]
    assert changed(before, done) == {"p0.png", "p0.json", "p1.png", "p1.json"}


def test_other_weights_are_another_recipe(equipoise: Command, done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, **options: object) -> object:
        model = fakes.load(name)
        model.revision = "toy-2"
        return model

    monkeypatch.setattr("equipoise.models.load.load", load)
    result = run(equipoise, done)
    assert result.exit_code == 2  # type: ignore[attr-defined]
    assert "revisions of toy/target was" in result.stderr  # type: ignore[attr-defined]
