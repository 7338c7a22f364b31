"""Spellings that earlier releases documented go on working, each with one line on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.cli.fakes import photo


def line(old: str, new: str) -> str:
    return f"equipoise: {old} is now {new}; the old name goes away in the next release"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"id": "a", "prompt": "What?", "response": "A dog.", "harmful": False}) + "\n")
    return path


def test_held_out_questions(equipoise: Command, tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_text("How?\n")
    words = ("perturb", photo(tmp_path / "p.png"), "-m", "toy/target", "--steps", 2, "--json", "--out")
    result = equipoise(*words, tmp_path / "out", "--heldout", tmp_path / "h.txt")
    assert result.exit_code == 0, result.output
    assert line("--heldout", "--held-out") in result.stderr.splitlines()
    assert json.loads(result.stdout)["images"][0]["refusals"]["asked"] == 1


def test_pictures_for_a_judge(equipoise: Command, rows: Path) -> None:
    result = equipoise("judge", rows, "--judge", "phrases", "--pictures", "--jsonl")
    assert (result.exit_code, result.stderr) == (0, line("--pictures", "--with-pictures") + "\n")


@pytest.mark.parametrize(
    ("words", "old", "new"),
    [
        (("judge", "ROWS"), "--api-key-env", "--judge-key-env"),
        (("judge", "calibrate", "--labels", "ROWS"), "--api-key-env", "--judge-key-env"),
        (("guard", "check", "ROWS", "--big", "http://h/v1#m"), "--api-key-env", "--guard-key-env"),
        (("guard", "serve", "--upstream", "http://h/v1", "--big", "http://h/v1#m"), "--api-key-env", "--guard-key-env"),
    ],
)
def test_a_key_is_still_looked_up_under_its_former_name(
    equipoise: Command, rows: Path, words: tuple[str, ...], old: str, new: str
) -> None:
    result = equipoise(*(str(rows) if word == "ROWS" else word for word in words), old, "NOT_SET_ANYWHERE")
    assert result.exit_code == 2
    assert line(old, new) in result.stderr.splitlines()
    assert "environment variable NOT_SET_ANYWHERE" in result.stderr


@pytest.mark.parametrize("verb", [("check", "ROWS"), ("calibrate", "--labels", "ROWS")])
def test_the_guard_that_is_asked_when_unsure(equipoise: Command, rows: Path, verb: tuple[str, ...]) -> None:
    words = (str(rows) if word == "ROWS" else word for word in verb)
    result = equipoise("guard", *words, "--detector", "testbed", "--big", "nobody")
    assert result.exit_code == 2
    assert line("--big", "--escalation-guard") in result.stderr.splitlines()
    assert "expected a judge, got 'nobody'" in result.stderr


@pytest.mark.parametrize(
    ("words", "old", "value", "new"),
    [
        (("adversarial", "nowhere/at/all"), "--pictures", "4", "--pictures-per-step"),
        (("adversarial", "nowhere/at/all"), "--questions", "2", "--questions-per-picture"),
        (("diffusion",), "--pictures", "nowhere.png", "--picture-folder"),
        (("detector", "--rows", "nowhere.jsonl", "--base", "nowhere"), "--glance", "1", "--early-exit"),
        (("derta", "nowhere/at/all", "--rows", "nowhere.jsonl"), "--rank", "4", "--lora"),
    ],
)
def test_options_of_trainings(
    equipoise: Command, tmp_path: Path, words: tuple[str, ...], old: str, value: str, new: str
) -> None:
    result = equipoise("train", *words, old, value, "--out", tmp_path / "out")
    assert result.exit_code in (2, 3, 4), result.output
    assert result.stderr.splitlines()[0] == line(old, new)
    assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [("--seeds", "nowhere.txt", "--seed-prompts"), ("--judge", "nobody", "--request-judge")],
)
def test_options_of_generated_prompts(equipoise: Command, tmp_path: Path, old: str, value: str, new: str) -> None:
    result = equipoise("generate", "pseudo-harmful", "nowhere/at/all", old, value, "--out", tmp_path / "out")
    assert result.exit_code in (2, 4), result.output
    assert result.stderr.splitlines()[0] == line(old, new)
