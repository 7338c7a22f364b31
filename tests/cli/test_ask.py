"""`ask`, `protect`, `doctor` and `testbed`: what they say."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from equipoise.cli import doctor
from equipoise.cli.progress import PerturbProgress
from tests.cli.command import Command
from tests.cli.fakes import ANSWER, REFUSAL, photo


def test_a_reply_and_its_verdict(equipoise: Command, tmp_path: Path) -> None:
    image = photo(tmp_path / "p.png")
    result = equipoise("ask", image, "What is it?", "-m", "toy/target")
    assert result.stdout.splitlines()[0] == ANSWER
    assert "verdict: answered" in result.stdout
    result = equipoise("ask", image, "What is it?", "-m", "toy/refuser")
    assert result.stdout.splitlines()[0] == REFUSAL
    assert "verdict: refused (" in result.stdout


def test_one_json_document(equipoise: Command, tmp_path: Path) -> None:
    result = equipoise(
        "ask", photo(tmp_path / "p.png"), "What?", "-m", "toy/refuser", "--system", "Be [bold]", "--json"
    )
    found = json.loads(result.stdout)
    assert (found["reply"], found["verdict"]["refusal"]) == (REFUSAL, "full")
    assert (found["model"], found["revision"], found["system"]) == ("toy/refuser", "toy-1 toy/refuser", "Be [bold]")


def test_protect_speaks_plainly(equipoise: Command, tmp_path: Path) -> None:
    result = equipoise(
        "protect", photo(tmp_path / "p.png"), "-m", "toy/target", "-m", "toy/second", "--steps", 12,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    words = " ".join(result.stdout.split())
    assert "p.png -> p.png" in words
    assert "toy/target: 10 of 10 questions were refused; about the original, 0 of 10." in words
    assert "What this does not do" in words
    for jargon in ("epsilon", "PSNR", "SSIM", "Wilson", "loss", "L-inf"):
        assert jargon not in words
    recipe = json.loads((tmp_path / "out" / "p.json").read_text())["recipe"]["run"]["recipe"]
    assert recipe["eot"] == ["jpeg", "resize", "crop", "noise"]


def test_protect_says_when_it_failed(equipoise: Command, tmp_path: Path) -> None:
    image = photo(tmp_path / "p.png")
    result = equipoise("protect", image, "-m", "toy/bystander", "--steps", 2, "--out", tmp_path / "out")
    assert "toy/bystander: 0 of 10 questions were refused" in result.stdout
    assert "not well protected" in result.stdout


def test_doctor_knows_this_machine(equipoise: Command) -> None:
    result = equipoise("doctor", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["healthy"]
    assert found["devices"][0]["name"] == "cpu"
    assert found["devices"][0]["memory"] > 1e8
    families = {family["name"]: family for family in found["families"]}
    assert families["llava"]["works"]
    assert all(family["works"] or family["advice"] for family in families.values())
    text = equipoise("doctor").stdout
    for words in ("transformers", "--device", "llava_onevision", "Everything that is required is here"):
        assert words in text


def test_doctor_says_what_is_missing(equipoise: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("torchvision", "bitsandbytes") else "1.0")
    result = equipoise("doctor")
    assert result.exit_code == 1
    assert "missing: pip install torchvision" in result.stdout
    assert "pip install 'equipoise[quantized]'" in result.stdout
    assert "needs torch, torchvision and transformers" in result.stdout


def test_doctor_says_what_is_broken(equipoise: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms\ndoes not exist")

    monkeypatch.setattr(doctor, "import_module", broken)
    result = equipoise("doctor")
    assert result.exit_code == 1
    assert "broken: operator torchvision::nms does not exist" in result.stdout


@dataclass(frozen=True)
class Card:
    name: str = "testbed/llava"
    family: str = "llava"
    role: str = "target"
    sha256: str = "0" * 64
    bytes: int = 5_000_000
    scores: dict[str, float] = field(default_factory=lambda: {"plain refused": 0.01})


def test_the_reference_models_are_listed(equipoise: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.testbed.reference.list_models", lambda: [Card()])
    assert json.loads(equipoise("testbed", "list", "--json").stdout)["models"][0]["name"] == "testbed/llava"
    text = equipoise("testbed", "list").stdout
    for words in ("testbed/llava", "target", "5 MB", "plain refused 0.01"):
        assert words in text


def test_the_bar_shows_loss_and_refusal_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    from equipoise.attacks.perturbation_result import TraceStep

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with PerturbProgress(3, 100) as progress:
        progress.start("[red].png")
        progress.step(TraceStep(10, 1.25, 0.4))
        progress.step(TraceStep(11, 1.125))
        console = Console(width=100, record=True)
        with console.capture() as shown:
            console.print(progress._bar.get_renderable())
    text = shown.get()
    for words in ("1/3", "[red].png", "loss 1.125", "refused 40 %"):
        assert words in text
