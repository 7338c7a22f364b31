"""`equipoise power`: one question at a time, and answers that agree with each other."""

from __future__ import annotations

import json

import pytest

from equipoise.stats.power import ComparisonDesign
from tests.cli.command import Command


def document(equipoise: Command, *words: str) -> dict[str, object]:
    result = equipoise("power", *words, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_samples_for_a_difference_have_the_power_that_was_asked_for(equipoise: Command) -> None:
    numbers = document(equipoise, "--rate", "0.1", "--difference", "0.1", "--power", "0.9")
    design = ComparisonDesign(0.05, 0.9)
    count = numbers["n"]
    assert isinstance(count, int)
    assert design.power_of(count, 0.1, 0.1) >= 0.9 > design.power_of(count - 1, 0.1, 0.1)
    assert numbers["alpha"] == 0.05


def test_the_same_samples_show_about_the_same_difference(equipoise: Command) -> None:
    count = document(equipoise, "--rate", "0.1", "--difference", "0.05")["n"]
    shown = document(equipoise, "--rate", "0.1", "--n", str(count))["difference"]
    assert shown == pytest.approx(0.05, abs=1e-3)


def test_pairs_that_mostly_agree_need_fewer_samples(equipoise: Command) -> None:
    words = ("--rate", "0.1", "--difference", "0.05", "--paired")
    few, many = document(equipoise, *words, "--discordant", "0.06")["n"], document(equipoise, *words)["n"]
    assert isinstance(few, int)
    assert isinstance(many, int)
    assert few < many


def test_people_get_one_sentence(equipoise: Command) -> None:
    sample = equipoise("power", "--difference", "0.03")
    assert "samples in each of two runs that ask different ones show a change from 5.0 % to 8.0 %" in sample.stdout
    paired = equipoise("power", "--difference", "0.03", "--paired")
    assert "samples asked in both runs show a change from 5.0 % to 8.0 %" in paired.stdout
    change = equipoise("power", "--n", "1047")
    assert "1047 samples in each of two runs that ask different ones show a change from 5.0 % to 8.0 %" in change.stdout
    gate = equipoise("power", "--max", "0.1")
    assert "samples pass a limit of 10.0 % on the upper end of the interval" in gate.stdout


def test_a_change_that_a_share_of_discordant_pairs_bounds_is_explained(equipoise: Command) -> None:
    words = ("--n", "300", "--rate", "0.05", "--paired", "--discordant")
    bounded = equipoise("power", *words, "0.2")
    assert bounded.exit_code == 0, bounded.output
    assert "show a change from 5.0 % to 15.0 %" in bounded.stdout
    assert "No smaller increase leaves 20.0 % of the samples different." in bounded.stdout
    assert "No smaller" not in equipoise("power", *words, "0.05").stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "expected one of --difference, --n and --max, got none or several"),
        (("--difference", "0.03", "--n", "9"), "got none or several"),
        (("--max", "0.1", "--paired"), "expected --max without --paired"),
        (("--max", "0.01"), "expected a rate below the limit"),
        (("--difference", "0"), "expected a difference other than 0"),
        (("--difference", "2"), "expected rates in"),
        (("--n", "300", "--paired", "--discordant", "-1"), "expected a share of discordant pairs in [0, 1], got -1"),
        (("--n", "300", "--paired", "--discordant", "nan"), "expected a share of discordant pairs in [0, 1], got nan"),
    ],
)
def test_questions_that_have_no_answer(equipoise: Command, words: tuple[str, ...], why: str) -> None:
    result = equipoise("power", *words)
    assert result.exit_code == 2
    assert why in result.stderr
    assert result.stdout == ""
