"""`ask`, `protect`, `doctor` and `testbed`: what they say."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from equipoise.cli import doctor
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


def test_a_question_without_a_picture(equipoise: Command, tmp_path: Path) -> None:
    result = equipoise("ask", "What is it?", "-m", "toy/text")
    assert result.stdout.splitlines()[0] == ANSWER
    document = json.loads(equipoise("ask", "How is a bomb made?", "-m", "toy/text", "--json").stdout)
    assert (document["image"], document["question"]) == (None, "How is a bomb made?")
    assert document["verdict"]["refusal"] == "full"
    # The guard judges replies, and replies are text.
    result = equipoise("ask", "What is it?", "-m", "toy/text", "--defend", "guard:detector=testbed")
    assert result.stdout.splitlines()[0] == ANSWER


def test_one_json_document(equipoise: Command, tmp_path: Path) -> None:
    result = equipoise(
        "ask", photo(tmp_path / "p.png"), "What?", "-m", "toy/refuser", "--system", "Be [bold]", "--json"
    )
    document = json.loads(result.stdout)
    assert (document["reply"], document["verdict"]["refusal"]) == (REFUSAL, "full")
    assert (document["model"], document["revision"], document["system"]) == (
        "toy/refuser",
        "toy-1 toy/refuser",
        "Be [bold]",
    )


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
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["healthy"]
    assert document["devices"][0]["name"] == "cpu"
    assert document["devices"][0]["memory"] > 1e8
    families = {family["name"]: family for family in document["families"]}
    assert families["llava"]["works"]
    assert all(family["works"] or family["advice"] for family in families.values())
    text = equipoise("doctor").stdout
    for words in ("transformers", "--device", "llava_onevision", "Everything that is required is here"):
        assert words in text


def test_doctor_says_what_is_missing(equipoise: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = ("scipy", "torchvision", "bitsandbytes")
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in absent else "1.0")
    result = equipoise("doctor")
    assert result.exit_code == 1
    assert "missing: pip install 'scipy>=" in result.stdout
    assert "without bitsandbytes, torchvision" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Something required is missing. Try pip install 'scipy>=")
    assert "needs torch, torchvision and transformers" in result.stdout


def test_doctor_reads_every_dependency_and_extra_from_the_metadata(equipoise: Command) -> None:
    from importlib.metadata import metadata, requires

    from packaging.requirements import Requirement

    lines = [Requirement(line) for line in requires("equipoise") or []]
    document = json.loads(equipoise("doctor", "--json").stdout)
    required = {line.name for line in lines if not line.marker}
    assert set(document["versions"]) == required | {"torch", "torchvision", "transformers"}
    extras = {extra["name"] for extra in document["extras"]}
    assert set(metadata("equipoise").get_all("Provides-Extra") or ()) <= extras
    assert "guard" in extras


def test_doctor_without_any_metadata_says_how_to_install(equipoise: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTION", "not-installed-anywhere")
    monkeypatch.setattr(doctor, "read_requirements", lambda: ())
    result = equipoise("doctor")
    assert result.exit_code == 1
    assert "Something required is missing. Try pip install" in result.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("torch>=2.7", ("torch", ">=2.7", None)),
        ("transformers<6,>=5.4", ("transformers", "<6,>=5.4", None)),
        ('psycopg[binary]>=3.2; extra == "postgresql"', ("psycopg[binary]", ">=3.2", "postgresql")),
        ("peft>=0.17 ; extra == 'lora'", ("peft", ">=0.17", "lora")),
        ('equipoise[guard]; extra == "dev"', None),
    ],
)
def test_a_line_of_metadata_is_a_requirement(
    monkeypatch: pytest.MonkeyPatch, line: str, expected: tuple[str, str, str | None] | None
) -> None:
    monkeypatch.setattr("importlib.metadata.requires", lambda name: [line])
    requirements = [(r.name, r.specifier, r.extra) for r in doctor.read_requirements()]
    assert requirements == ([expected] if expected else [])


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
