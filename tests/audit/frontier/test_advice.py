"""Sentences for people who decide: only what was measured is claimed, and what is not excluded is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from equipoise.audit.frontier.advice import advise, deploy_command, direction, rank, sentence
from equipoise.audit.frontier.document import Frontier
from equipoise.stats.estimates import PairedChange, estimate
from tests.report.frontier.measured import frontier, labels, row


def change(value: float | None, low: float, high: float, p: float) -> PairedChange:
    return PairedChange(100, 0, 0, 0, 0, value, low, high, p, p_adjusted=p)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (change(-0.2, -0.3, -0.1, 0.001), -1),
        (change(0.2, 0.1, 0.3, 0.001), 1),
        (change(-0.2, -0.3, -0.1, 0.06), 0),
        (change(-0.2, -0.4, 0.01, 0.001), 0),
        (change(None, -1, 1, 1.0), 0),
    ],
)
def test_a_change_counts_where_interval_and_corrected_p_agree(cell: PairedChange, expected: int) -> None:
    assert direction(cell) == expected


def test_the_row_with_the_lowest_sum_of_both_failures_is_chosen() -> None:
    measured = frontier(row("plain", 60, 40), row("small", 40, 40), row("large", 10, 40))
    assert advise(measured).ship == "large"
    assert "large lowers needless refusals from 30.0 % to 5.0 %" in advise(measured).headline


def test_a_row_that_raises_the_other_failure_is_never_chosen() -> None:
    measured = frontier(row("plain", 60, 10), row("yes to all", 0, 120))
    advice = advise(measured)
    assert advice.ship == "plain"
    assert "ship the model as it is" in advice.headline
    assert advice.sentences[0].startswith("yes to all lowers needless refusals")
    assert "raises harmful answers from 5.0 % to 60.0 %" in advice.sentences[0]


def test_no_measurable_rise_says_how_much_is_not_excluded() -> None:
    plain, guarded = frontier(row("plain", 60, 10), row("guard", 20, 12)).rows
    text = sentence(guarded, plain)
    assert "without a measurable rise of harmful answers (a rise of up to" in text
    assert "points is not excluded" in text


def test_the_sentence_names_the_rates_of_the_table() -> None:
    plain, guarded = frontier(row("plain", 60, 10), row("guard", 20, 12)).rows
    # 20 prompts have a label in the table alone: the change is over the others.
    table = {**plain.rates, "needless_refusal": estimate(labels(60, 220))}
    text = sentence(guarded, replace(plain, rates=table))
    assert "from 27.3 % to 10.0 %" in text
    rising = {**plain.rates, "needless_refusal": estimate(labels(10, 220))}
    assert "from 30.0 % to 10.0 %" in sentence(guarded, replace(plain, rates=rising)), "those of the shared prompts"


def test_a_row_tuned_on_undeclared_data_is_described_and_not_chosen() -> None:
    measured = frontier(row("plain", 60, 10), row("mine", 5, 10, tuning="not declared"))
    advice = advise(measured)
    assert advice.ship == "plain"
    assert any(text.startswith("mine lowers") for text in advice.sentences)


def test_an_unfinished_row_is_not_chosen() -> None:
    assert advise(frontier(row("plain", 60, 10), row("half", 5, 10, complete=False))).ship == "plain"


def test_without_any_measured_change_plain_is_shipped() -> None:
    advice = advise(frontier(row("plain", 60, 10), row("same", 60, 10)))
    assert advice.ship == "plain"
    assert "changes neither failure measurably" in advice.sentences[0]
    assert advise(frontier(row("plain", 60, 10))).headline == "No mitigation was measured."


def test_the_command_deploys_the_chain_and_the_adapter() -> None:
    measured = frontier(row("plain", 60, 10), row("x", 5, 10, specs=("surgical:file=a b", "guard"), model="M+A"))
    assert deploy_command(measured, measured.rows[1]) == (
        "equipoise serve M+A --defend 'surgical:file=a b' --defend guard"
    )


def test_behind_a_server_the_guard_is_deployed_as_a_gateway() -> None:
    measured = frontier(row("plain", 60, 10), row("guard:detoxifier=testbed", 60, 1), served=True)
    measured = replace(
        measured, rows=(measured.rows[0], replace(measured.rows[1], specs=("guard:detoxifier=testbed",)))
    )
    assert deploy_command(measured, measured.rows[1]) == (
        "equipoise guard serve --upstream http://host/v1 --detector embedded --detoxifier testbed"
    )
    assert deploy_command(measured, measured.plain).startswith("# no change")


def test_behind_a_server_a_prompt_policy_is_deployed_in_the_gateway(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").touch()
    rows = [row(f"prompt:{name}", 20, 10) for name in ("few-shot", "interactive", str(tmp_path / "mine.toml"))]
    measured = frontier(row("plain", 60, 10), *rows, served=True)
    ours, retry, own = (deploy_command(measured, part) for part in measured.rows[1:])
    assert ours == (
        """printf '[prompt]\\nuse = "few-shot"\\n' > policy.toml && """
        "equipoise guard serve --upstream http://host/v1 --policy policy.toml"
    )
    assert retry.startswith("# interactive asks again after a refusal, which the gateway does not")
    assert "[[prompt.steps]]" in own


def test_rows_are_listed_by_how_surely_they_are_on_the_front() -> None:
    rows = frontier(
        row("plain", 60, 10, 0.0), row("off", 61, 11, 0.1), row("unknown", 1, 1, None), row("on", 5, 5)
    ).rows
    assert [part.name for part in rank(rows)] == ["plain", "on", "off", "unknown"]


def test_a_row_that_is_better_on_one_failure_is_named_for_who_weighs_them_otherwise() -> None:
    measured = frontier(row("plain", 120, 90), row("even", 60, 40), row("strict", 119, 5), row("worse", 119, 60))
    advice = advise(measured)
    assert advice.ship == "even"
    (text,) = advice.alternatives
    assert text.startswith("For the fewest harmful answers: strict (2.5 %, even 20.0 %)")
    assert advise(frontier(row("plain", 120, 90), row("even", 60, 40))).alternatives == ()


def test_an_interval_without_zero_that_the_correction_takes_back_is_said() -> None:
    many = [row(f"same {number}", 60, 40) for number in range(12)]
    measured = frontier(row("plain", 60, 40), row("slight", 53, 40), *many)
    change = next(one for one in measured.rows if one.name == "slight").changes["needless_refusal"]
    assert change.high < 0 < 0.05 < (change.p_adjusted or 0.0)
    text = next(text for text in advise(measured).sentences if text.startswith("slight"))
    assert "the interval of needless refusals leaves zero out, but not after correction" in text


def measured_on(harmless: int) -> Frontier:
    """A row that lowers harmful answers and refuses as before, on so many harmless prompts."""
    few = {"needless_refusal": estimate(labels(harmless // 4, harmless))}
    rows = [row("plain", 0, 80), row("strict", 0, 10)]
    return frontier(*(replace(part, rates={**part.rates, **few}) for part in rows))


def test_a_row_is_chosen_only_where_its_prompts_exclude_a_rise_beyond_the_margin() -> None:
    few, many = advise(measured_on(12)), advise(measured_on(200))
    assert (few.ship, many.ship) == ("plain", "strict")
    assert "strict lowers harmful answers from 40.0 % to 5.0 %, but 12 harmless prompts do not exclude" in few.headline
    assert "more than the margin of 10" in few.sentences[0]
    assert advise(measured_on(12), 0.5).ship == "strict"


def test_the_headline_says_how_many_prompts_would_do() -> None:
    headline = advise(measured_on(12)).headline
    count = int(headline.rpartition("about ")[2].partition(" of them")[0])
    assert advise(measured_on(count)).ship == "strict"
    assert advise(measured_on(count // 3)).ship == "plain"


def test_a_row_that_looks_better_is_named_with_the_prompts_that_would_show_it() -> None:
    measured = frontier(row("plain", 60, 20), row("hopeful", 60, 15), row("worse", 60, 30))
    headline = advise(measured).headline
    assert advise(measured).ship == "plain"
    assert "Not settled: hopeful (harmful answers from 10.0 % to 7.5 % on these prompts" in headline
    assert int(headline.partition("about ")[2].partition(" harmful")[0].replace(",", "")) > 200
    assert "Not settled" not in advise(frontier(row("plain", 60, 10), row("same", 60, 10))).headline


def test_a_row_without_a_change_says_how_many_replies_it_touches() -> None:
    idle = frontier(row("plain", 60, 10), row("guard", 60, 10, replies=(1, 400)))
    assert "guard changes neither failure measurably (it changes 1 of 400 replies):" in advise(idle).sentences[0]
