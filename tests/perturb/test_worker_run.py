"""Pictures on workers: the same files as in one process, in the same folder; runs that were killed go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from equipoise import perturb
from equipoise.errors import OutputError, PictureError, UsageError
from equipoise.execution import InProcessExecutor, Parcel, SpawnExecutor
from equipoise.perturb.picture_task import LoadedModels, PictureTask
from equipoise.perturb.worker_run import SHARDS, perturb_on_workers
from tests.child_process import environment
from tests.cli import fakes
from tests.cli.fakes import photo

PICTURES = 4


@dataclass(frozen=True)
class ToyTask(PictureTask):
    """The task with toy models, also in a process of its own; one picture's name may end the worker."""

    killer: str = ""

    def load(self) -> LoadedModels:
        import equipoise.models.load

        equipoise.models.load.load = fakes.load  # type: ignore[assignment]
        return super().load()

    def run(self, state: Any, parcel: Parcel) -> Parcel:
        if self.killer and parcel.parts and self.killer.encode() in parcel.parts[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(state, parcel)


@pytest.fixture(autouse=True)
def toy_models(monkeypatch: pytest.MonkeyPatch) -> None:
    # The task replaces it in this process, too, where it runs in this process.
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(PICTURES):
        photo(folder / f"p{seed}.png", seed=seed, size=(24 + 4 * seed, 16))
    return folder


def config(out: Path, **options: Any) -> perturb.PerturbConfig:
    return perturb.PerturbConfig(("toy/target",), out, bystanders=("toy/bystander",), steps=12, **options)


def files(out: Path) -> dict[str, object]:
    """The files of a results folder; of a JSON what does not depend on the machine's speed, memory and the folder."""
    contents: dict[str, object] = {}
    for path in sorted(out.iterdir()):
        if path.suffix != ".json":
            contents[path.name] = path.read_bytes()
            continue
        document = json.loads(path.read_text())
        if path.name != ".equipoise.json":
            document.pop("seconds")
            run = document["recipe"]["run"]
            for record in (run, run["record"]):
                for name in ("peak_memory", "command", "seconds"):
                    record.pop(name, None)
        contents[path.name] = document
    return contents


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def test_processes_and_one_process_write_the_same_files(photos: Path, tmp_path: Path) -> None:
    alone = config(tmp_path / "alone")
    perturb.run(photos, alone)
    expected = files(alone.out)
    for name, executor in (("in process", InProcessExecutor()), ("spawn", SpawnExecutor(2))):
        own = replace(alone, out=tmp_path / name)
        records, errors = perturb_on_workers(pictures(photos), own, perturb.PerturbCallbacks(), executor, ToyTask(own))
        assert errors == {}
        assert [record.file for record in records] == [f"p{number}.png" for number in range(PICTURES)]
        assert files(own.out) == expected
        assert not (own.out / SHARDS).exists()
        assert [record.image for record in records] == [str(path) for path in pictures(photos)]
        assert str(photos / "p0.png") in records[0].command


def test_a_finished_folder_is_touched_by_nobody(photos: Path, tmp_path: Path) -> None:
    own = config(tmp_path / "out")
    first = perturb.run(photos, own)
    before = {path.name: path.read_bytes() for path in own.out.iterdir()}
    again = perturb.run(photos, own, executor=InProcessExecutor())
    assert again == first
    assert {path.name: path.read_bytes() for path in own.out.iterdir()} == before


def test_what_was_saved_but_not_measured_is_only_measured(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = config(tmp_path / "out")
    first = perturb.run(photos, own)
    path = own.out / "p1.json"
    document = json.loads(path.read_text())
    del document["recipe"]["run"]["record"]
    path.write_text(json.dumps(document))
    monkeypatch.setattr(fakes.BrightnessModel, "log_prob", None)
    assert perturb.run(photos, own, executor=InProcessExecutor()) == first


def test_broken_and_vanished_pictures_are_their_own_errors(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    events: list[tuple[str, object]] = []
    callbacks = perturb.PerturbCallbacks(
        start=lambda name: events.append(("start", name)),
        finish=lambda record: events.append(("finish", record.file)),
        failure=lambda path, reason: events.append(("failure", path.name)),
    )
    given = [*pictures(photos), photos / "gone.png"]
    records, errors = perturb_on_workers(given, config(tmp_path / "out"), callbacks, InProcessExecutor())
    assert [record.file for record in records] == [f"p{number}.png" for number in range(PICTURES)]
    assert sorted(errors) == [str(photos / "broken.png"), str(photos / "gone.png")]
    assert all("broken.png" in text or "gone.png" in text for text in errors.values())
    assert all(str(photos) in text and "/given/" not in text for text in errors.values()), "the user's own paths"
    assert sorted(name for kind, name in events if kind == "failure") == ["broken.png", "gone.png"]
    assert len([kind for kind, _ in events if kind == "start"]) == len(given)


def test_the_only_picture_is_the_error_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(PictureError):
        perturb_on_workers(
            [tmp_path / "broken.png"], config(tmp_path / "out"), perturb.PerturbCallbacks(), InProcessExecutor()
        )


def test_a_picture_that_kills_its_workers_is_set_aside(photos: Path, tmp_path: Path) -> None:
    own, notes = config(tmp_path / "out"), list[str]()
    callbacks = perturb.PerturbCallbacks(note=notes.append)
    records, errors = perturb_on_workers(
        pictures(photos), own, callbacks, SpawnExecutor(2), ToyTask(own, killer="p1.png")
    )
    assert [record.file for record in records] == ["p0.png", "p2.png", "p3.png"]
    assert list(errors) == [str(photos / "p1.png")]
    assert errors[str(photos / "p1.png")].startswith(
        "expected a result of p1.png, got 2 lost workers (killed by signal 9"
    )
    assert len(notes) == 1
    # The next run, without what killed them, does that picture alone.
    done = perturb.run(photos, own)
    assert [record.file for record in done.records] == [f"p{number}.png" for number in range(PICTURES)]


def test_results_that_a_killed_run_left_in_its_shards_are_taken_over(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = config(tmp_path / "out")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("equipoise.perturb.worker_run.unpack_picture", interrupt)
    with pytest.raises(KeyboardInterrupt):
        perturb.run(photos, own, executor=InProcessExecutor())
    assert len(list((own.out / SHARDS).glob("*/*"))) >= 1
    monkeypatch.undo()
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)
    attacked: list[str] = []

    class CountingTask(ToyTask):
        def run(self, state: Any, parcel: Parcel) -> Parcel:
            attacked.append("models" if not parcel.parts else "picture")
            return super().run(state, parcel)

    records, errors = perturb_on_workers(
        pictures(photos), own, perturb.PerturbCallbacks(), InProcessExecutor(), CountingTask(own)
    )
    assert (len(records), errors) == (PICTURES, {})
    assert attacked.count("picture") < PICTURES
    assert not (own.out / SHARDS).exists()


def test_a_full_disk_ends_the_run_with_one_line_and_the_same_call_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, written = config(tmp_path / "out"), list[Path]()

    def full(path: Path, content: str | bytes) -> None:
        written.append(path)
        if len(written) > 2:
            raise OutputError(f"expected to write {path}, got 'No space left on device'; try another output folder")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    monkeypatch.setattr("equipoise.perturb.picture_task.write_whole", full)
    with pytest.raises(OutputError, match="No space left"):
        perturb.run(photos, own, executor=InProcessExecutor())
    monkeypatch.undo()
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)
    assert len(perturb.run(photos, own, executor=InProcessExecutor()).records) == PICTURES


def test_what_cannot_be_divided_is_refused_and_a_foreign_folder_stays_as_it_was(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="try it without --workers"):
        perturb.run(photos, config(tmp_path / "out", universal=True), executor=InProcessExecutor())
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "p0.png").write_text("mine")
    with pytest.raises(UsageError, match=r"expected no p0\.png"):
        perturb.run(photos, config(foreign), executor=InProcessExecutor())
    assert [path.name for path in foreign.iterdir()] == ["p0.png"]


def test_the_command_with_workers_goes_on_after_it_was_killed(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["perturb", str(photos), "--model", "toy/slow", "--steps", "12", "--eot", "none", "--out", str(out)]
    line = [sys.executable, "-m", "tests.cli.fakes", *words, "--workers", "2"]
    with subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment()) as first:
        deadline = time.monotonic() + 120
        while not list(out.glob("p*.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        first.kill()
    kept = {path.name: path.read_bytes() for path in out.glob("p*.json")}
    done = subprocess.run([*line, "--json"], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [entry["file"] for entry in document["images"]] == [f"p{number}.png" for number in range(PICTURES)]
    assert {name: (out / name).read_bytes() for name in kept} == kept, "what was finished is not done again"
    assert not (out / SHARDS).exists()
