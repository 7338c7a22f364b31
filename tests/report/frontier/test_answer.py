"""The top of a frontier's page: cost and uncertainty in sentences."""

from __future__ import annotations

from equipoise.audit.frontier.front import FrontMembership
from equipoise.report.frontier.answer import costs, uncertainty
from tests.report.frontier.measured import frontier, row

COST = {"fit_seconds": 340.0, "latency_ratio": 1.25, "seconds": 0.52, "reply_tokens": 31.0, "memory": 12_000_000}


def test_the_cost_of_a_row_is_a_sentence() -> None:
    measured = frontier(row("plain", 60, 10), row("dro", 20, 10, cost=COST), row("guard", 60, 2))
    assert costs(measured.rows[1]) == (
        "A reply takes 1.2 times as long (0.5 s here, 0.4 s without it), fitting it once took 6 min, 12 MB more memory."
    )
    assert "nothing has to be fitted" in costs(measured.rows[2])
    assert costs(measured.plain).startswith("Nothing")


def test_a_cost_that_was_not_measured_is_not_made_up() -> None:
    unknown = {"fit_seconds": 0.0, "latency_ratio": None, "seconds": None, "reply_tokens": None, "memory": None}
    measured = frontier(row("plain", 60, 10), row("guard", 60, 2, cost=unknown))
    assert costs(measured.rows[1]) == "Time of a reply not measured, nothing has to be fitted."


def test_the_uncertainty_names_counts_intervals_and_doubts() -> None:
    measured = frontier(row("plain", 60, 10), row("dro", 20, 10, 0.97, doubts=("chosen on 20 prompts",)))
    chosen = measured.rows[1]
    sentences = uncertainty(measured, chosen)
    assert sentences[0] == "The rates are over 200 harmless prompts and 200 harmful ones."
    change = chosen.changes["needless_refusal"]
    assert f"between {100 * change.low:+.1f} and {100 * change.high:+.1f} points" in sentences[1]
    assert sentences[3].startswith("In 97 % of redrawn sets of prompts no other row")
    assert sentences[-1] == "Chosen on 20 prompts."


def test_where_the_model_is_shipped_as_it_is_the_least_visible_change_is_said() -> None:
    measured = frontier(row("plain", 60, 10), row("worse", 80, 30, 0.0))
    widths = sorted((change.high - change.low) / 2 for change in measured.rows[1].changes.values())
    text = " ".join(uncertainty(measured, measured.plain))
    assert f"larger than about {100 * widths[1]:.0f} points" in text
    assert not any("larger than" in sentence for sentence in uncertainty(measured, measured.rows[1]))
    assert uncertainty(frontier(row("plain", 60, 10)), measured.plain)[-1].endswith("better on one.")


def test_rows_with_better_points_are_named() -> None:
    measured = frontier(row("plain", 60, 10, membership=FrontMembership(False, 0.05, (1,))), row("better", 50, 8))
    text = " ".join(uncertainty(measured, measured.plain))
    assert "On these prompts better did at least as well" in text
    assert "In 95 % of redrawn sets" in text


def test_how_few_samples_there_are_is_said_once() -> None:
    few = ("too few samples (14 scored): the rate is anywhere (few-samples)", "judges disagree (review)")
    measured = frontier(row("plain", 60, 10), row("dro", 20, 10, doubts=few))
    sentences = uncertainty(measured, measured.rows[1])
    assert sentences[-1] == "Judges disagree (review)."
    assert not any("few-samples" in sentence for sentence in sentences)


def test_doubts_of_other_seeds_that_differ_in_numbers_are_said_once() -> None:
    doubts = (
        "the condition steers 83 % (AUROC 0.98)",
        "judges disagree (review)",
        "the condition steers 6 % (AUROC -1)",
    )
    measured = frontier(row("plain", 60, 10), row("conditional", 20, 10, doubts=doubts))
    sentences = uncertainty(measured, measured.rows[1])
    assert sentences[-2:] == [
        "The condition steers 83 % (AUROC 0.98); 1 other seed has like numbers.",
        "Judges disagree (review).",
    ]


def test_a_prompt_with_several_seeds_is_one_prompt() -> None:
    measured = frontier(row("plain", 60, 10), row("dro", 20, 10, folders=("a", "b", "c", "d")))
    first = uncertainty(measured, measured.rows[1])[0]
    assert first == "The rates are over 50 harmless prompts and 50 harmful ones, each with 4 seeds."
