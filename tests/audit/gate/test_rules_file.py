"""Files of rules: what they say, and one clear error for each way in which they cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.audit.gate.rules import Baseline, GateRule, RateLimit
from equipoise.audit.gate.rules_file import read_rules
from equipoise.errors import UsageError


def rules(folder: Path, text: str | bytes) -> tuple[GateRule, ...]:
    path = folder / "gate.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_rules(path).rules


def test_the_short_form(tmp_path: Path) -> None:
    (rule,) = rules(tmp_path, "[harmful_answer]\nmax = 0.02\n")
    assert rule == GateRule("harmful_answer", RateLimit(0.02, "max", "upper"), "plain", (), None, 1, 0.05, None, 1)


def test_the_long_form(tmp_path: Path) -> None:
    text = """
[needless_refusal]
max = 0.05
min_n = 100
max_unscored = 0.01
variants = ["plain", "perturbed"]
suites = ["xstest", "mossbench"]

[needless_refusal.categories."safe contexts"]
max = 0.10
variant = "plain"
on = "point"

[needless_refusal.against]
run = "runs/last"
max_increase = 0.02

[harmful_answer]
min_n = 50

[harmful_answer.suites."mm-safetybench/typo"]
max = 0.3

[harmful_answer.suites."mm-safetybench/typo".categories.fraud]
max = 0.1
min_n = 10

[accuracy]
min = 0.8

[accuracy.against]
variant = "defended"
max_decrease = 0.05
on = "point"
"""
    parsed = rules(tmp_path, text)
    both = ("xstest", "mossbench")
    forms = ("mm-safetybench/typo",)
    baseline = tmp_path / "runs" / "last"
    upper, change = RateLimit(0.05, "max", "upper"), RateLimit(0.02, "max", "upper")
    assert parsed == (
        GateRule("needless_refusal", upper, "plain", both, None, 100, 0.01, None, 2),
        GateRule("needless_refusal", change, "plain", both, None, 100, 0.01, Baseline(baseline, "plain"), 14),
        GateRule("needless_refusal", upper, "perturbed", both, None, 100, 0.01, None, 2),
        GateRule("needless_refusal", change, "perturbed", both, None, 100, 0.01, Baseline(baseline, "perturbed"), 14),
        GateRule(
            "needless_refusal", RateLimit(0.1, "max", "point"), "plain", both, "safe contexts", 100, 0.01, None, 9
        ),
        GateRule("harmful_answer", RateLimit(0.3, "max", "upper"), "plain", forms, None, 50, 0.05, None, 21),
        GateRule("harmful_answer", RateLimit(0.1, "max", "upper"), "plain", forms, "fraud", 10, 0.05, None, 24),
        GateRule("accuracy", RateLimit(0.8, "min", "lower"), "plain", (), None, 1, 0.05, None, 28),
        GateRule(
            "accuracy", RateLimit(-0.05, "min", "point"), "plain", (), None, 1, 0.05, Baseline(None, "defended"), 31
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected at least one limit"),
        ("[harmful_answer]\nmin_n = 5", "expected at least one limit"),
        ("[harmful_answer", "expected TOML"),
        (b"[harmful_answer]\nmax = '\xff'", "not UTF-8"),
        ("[harmfull_answer]\nmax = 0.1", "did you mean 'harmful_answer'?"),
        ("[harmful_answer]\nmaximum = 0.1", "did you mean 'max'?"),
        ("[harmful_answer]\nmin = 0.1", "got 'min'"),
        ("[accuracy]\nmax = 0.1", "got 'max'"),
        ("[harmful_answer]\nmax = 2", "a share from 0 to 1 for max"),
        ("[harmful_answer]\nmax = nan", "a share from 0 to 1 for max"),
        ("[harmful_answer]\nmax = true", "a share from 0 to 1 for max"),
        ("[harmful_answer]\nmax = '0.1'", "a share from 0 to 1 for max"),
        ("[harmful_answer]\nmax = 0", "a limit that some run can keep"),
        ("[accuracy]\nmin = 1", "a limit that some run can keep"),
        ("[harmful_answer]\nmax = 0.1\non = 'top'", 'one of "upper", "point", "lower"'),
        ("[harmful_answer]\nmax = 0.1\nmin_n = 0", "a whole number from 1"),
        ("[harmful_answer]\nmax = 0.1\nmin_n = 1.5", "a whole number from 1"),
        ("[harmful_answer]\nmax = 0.1\nmax_unscored = -1", "a share from 0 to 1 for max_unscored"),
        ("[harmful_answer]\nmax = 0.1\nvariants = []", "a list of names"),
        ("[harmful_answer]\nmax = 0.1\nvariant = 3", "a list of names"),
        ("[harmful_answer]\nmax = 0.1\nvariant = 'a'\nvariants = ['b']", "got both"),
        ("[harmful_answer]\nmax = 0.1\nsuites = [1]", "a list of names"),
        ("[harmful_answer]\nmax = 0.1\nsuites = 'x'", "a table"),
        ("harmful_answer = 0.1", "a table"),
        ("[harmful_answer.suites]\nxstest = 0.1", "a table"),
        ("[harmful_answer.suites.x]\nmx = 0.1", "did you mean 'max'?"),
        ("[harmful_answer.categories.x.suites.y]\nmax = 0.1", "got 'suites'"),
        ("[harmful_answer.against]\nrun = 'x'", "a difference of rates"),
        ("[harmful_answer.against]\nrun = 'x'\nmax_increase = 3", "a difference of rates"),
        ("[harmful_answer.against]\nrun = 5\nmax_increase = 0", "the folder of a run"),
        ("[harmful_answer.against]\nmax_increase = 0", "the folder of a baseline"),
        ("[harmful_answer.against]\nrun = 'x'\nmax_decrease = 0", "did you mean 'max_increase'?"),
        ("[harmful_answer]\nmax = " + "[" * 3000, "expected TOML"),
        ("[harmful_answer]\nmax = " + "9" * 5000, "expected TOML"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        rules(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("expected ")


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("[full_refusal]\nmin_n = 100", "[full_refusal]"),
        ("[full_refusal]", "[full_refusal]"),
        ("[full_refusal]\nsuites = ['figstep']", "[full_refusal]"),
        ("[accuracy.suites.figstep]", "[accuracy.suites.figstep]"),
        ("[full_refusal.categories.weapons]\non = 'point'", "[full_refusal.categories.weapons]"),
        ("[full_refusal.suites.x]\nmax = 0.1\n[full_refusal.suites.x.categories.weapons]", "x.categories.weapons]"),
    ],
)
def test_a_table_that_limits_nothing_is_an_error_also_beside_one_that_does(
    tmp_path: Path, table: str, name: str
) -> None:
    with pytest.raises(UsageError, match="expected at least one limit in ") as caught:
        rules(tmp_path, f"[needless_refusal]\nmax = 0.05\n{table}\n")
    assert name in str(caught.value)


def test_a_table_whose_limits_stand_below_it_is_none(tmp_path: Path) -> None:
    text = "[full_refusal]\nmin_n = 9\n[full_refusal.suites.x]\non = 'point'\n"
    text += "[full_refusal.suites.x.categories.y]\nmax = 0.1"
    (rule,) = rules(tmp_path, text)
    assert (rule.suites, rule.category, rule.min_n, rule.limit.on) == (("x",), "y", 9, "point")


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.toml", tmp_path):
        with pytest.raises(UsageError, match="expected a file of rules, got"):
            read_rules(path)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet='[]harmful_answer.max="= \n01', max_size=60)))
def test_any_bytes_are_rules_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    message = "expected "
    try:
        assert rules(tmp_path_factory.mktemp("rules"), content)
    except UsageError as error:
        message = str(error)
    assert message.startswith("expected ")


def test_the_examples_of_the_page_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "gate.md").read_text(encoding="utf-8")
    assert len(rules(tmp_path, page.split("```toml\n")[1].split("```")[0])) == 9
