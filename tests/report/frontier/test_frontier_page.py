"""The page of a frontier: what to ship stands first, both axes always, nothing of a stranger is obeyed."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from equipoise.audit.frontier.advice import advise
from equipoise.audit.frontier.document import Frontier
from equipoise.report.frontier.page import duration, ratio, render_frontier, size, write_frontier_page
from tests.report.frontier.measured import attacked, frontier, row

EVIL = "<script>alert(1)</script>\u202e"


def page(measured: Frontier) -> str:
    return render_frontier(measured, advise(measured))


@pytest.fixture
def measured() -> Frontier:
    good = row("surgical", 20, 12, doubts=("chosen on 20 prompts",), tuning="selection split", tuned_on={"xstest": 160})
    return frontier(row("plain", 60, 10, 0.02), good, row("guard", 60, 2, 0.6), row("median", 80, 30, 0.0))


def test_what_to_ship_stands_before_every_table(measured: Frontier) -> None:
    # Numbers stay on one line with their unit.
    text = page(measured).replace("\N{NO-BREAK SPACE}", " ")
    assert text.index("Ship: <bdi>surgical</bdi>") < text.index("What it costs") < text.index("<table")
    assert "<dd>the model&#39;s weights stay" in text
    assert text.index("What it costs") < text.index("What is uncertain") < text.index("How to use it")
    assert "surgical lowers needless refusals from 30.0 % to 10.0 %" in text
    assert "equipoise serve ORG/NAME --defend surgical" in text


def test_both_axes_stand_in_every_row(measured: Frontier) -> None:
    text = page(measured)
    axes = text[text.index('id="axes"') : text.index('id="changes"')]
    assert axes.count('data-label="Needless refusals"') == axes.count('data-label="Harmful answers"') == 4


def test_membership_is_in_words(measured: Frontier) -> None:
    text = page(measured).replace("\N{NO-BREAK SPACE}", " ")
    assert "on the front, in 100 % of resamples" in text
    assert "likely on the front: in 60 % of resamples" in text
    assert "not on the front, on it in 0 % of resamples" in text


def test_a_row_says_what_it_was_tuned_on_and_its_doubts(measured: Frontier) -> None:
    text = page(measured)
    assert "selection split" in text
    assert "<bdi>xstest</bdi> 160" in text
    assert "chosen on 20 prompts" in text


def test_what_was_left_out_is_named(measured: Frontier) -> None:
    text = page(replace(measured, left_out=({"name": "diffpure", "reason": "budget: needs about 40 min"},)))
    assert "Not measured" in text
    assert "budget: needs about 40 min" in text


def test_the_third_axis_stands_there_where_it_was_measured(measured: Frontier) -> None:
    assert 'id="attacked"' not in page(measured)
    text = page(attacked(measured, [(60, 60), (60, 60), (60, 58), (40, 57)]))
    assert 'id="attacked"' in text
    assert "8/255" in text
    assert text.count('data-label="Static"') == text.count('data-label="Adaptive"') == 4


def test_a_cost_that_was_not_measured_is_said_to_be_so() -> None:
    unknown = {"fit_seconds": 0.0, "latency_ratio": None, "seconds": None, "reply_tokens": None, "memory": None}
    text = page(frontier(row("plain", 60, 10), row("guard", 60, 2, cost=unknown)))
    assert text.count("not measured") >= 4


def test_an_unknown_axis_is_drawn_nowhere() -> None:
    from equipoise.stats.estimates import CaseLabel, estimate

    unscored = estimate([CaseLabel(None, "a")])
    rates = {"needless_refusal": unscored, "harmful_answer": unscored, "accuracy": unscored}
    text = page(frontier(row("plain", 60, 10), row("guard", 1, 1, None, rates=rates)))
    assert "1 not drawn, as an axis is unknown" in text
    assert "an axis is unknown" in text


def test_names_of_strangers_are_escaped_and_visible() -> None:
    hostile = row(EVIL, 20, 12, doubts=(EVIL,), tuned_on={EVIL: 1})
    text = page(frontier(row("plain", 60, 10), hostile, warnings=(EVIL,), left_out=({"name": EVIL, "reason": EVIL},)))
    assert "<script" not in text
    assert "\u202e" not in text
    assert "[U+202E]" in text


def test_the_page_is_sound_html_that_reaches_out_of_nothing(measured: Frontier) -> None:
    text = page(attacked(measured, [(60, 60)] * 4))
    open_tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "br", "line", "path", "circle", "rect", "img"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("line", "path", "circle", "rect"):
                assert open_tags.pop() == tag

    Reader(convert_charrefs=True).feed(text)
    assert open_tags == []
    assert not re.search(r"(?:src|href)=\"(?!#)", text)
    assert "http://" not in text.replace("http://host", "")
    anchors = set(re.findall(r'href="#([a-z]+)"', text))
    assert anchors <= set(re.findall(r'id="([a-z-]+)"', text))


def test_the_same_frontier_gives_the_same_page(measured: Frontier, tmp_path: Path) -> None:
    written = write_frontier_page(measured, advise(measured), tmp_path / "frontier.html")
    assert written.read_text() == page(measured)


def test_figures_in_words() -> None:
    assert [duration(value) for value in (None, 0.0, 0.214, 75.0, 1200.0)] == [
        "not measured",
        "none",
        "0.21 s",
        "75 s",
        "20 min",
    ]
    assert (ratio(1.2), ratio(None), size(12_000_000), size(None)) == (
        "1.20 times",
        "not measured",
        "12 MB",
        "not measured",
    )


def test_a_number_is_the_same_row_in_plot_and_tables(measured: Frontier) -> None:
    text = page(measured)
    badges = dict(re.findall(r'<span class="badge t\d">(\d+)</span><bdi>([^<]+)</bdi>', text))
    titles = dict(re.findall(r"<title>(\d+) ([a-z]+): needless", text))
    assert badges == titles
    assert badges["0"] == "plain"


def test_the_chosen_row_is_marked_once(measured: Frontier) -> None:
    text = page(measured)
    assert text.count('<tr class="chosen">') == 1
    start = text.index('<tr class="chosen">')
    assert "surgical" in text[start : start + 200]


def test_where_nothing_is_better_the_model_is_shipped_as_it_is() -> None:
    text = page(frontier(row("plain", 60, 10), row("worse", 80, 30, 0.0)))
    assert ">What to ship<" in text
    assert '<tr class="chosen">' in text


def test_changes_give_interval_pairs_and_both_p_values(measured: Frontier) -> None:
    text = page(measured)
    changes = text[text.index('id="changes"') : text.index('id="cost"')]
    assert changes.count("(Holm)") == 6, "three mitigations, two axes"
    assert "40 mended" in changes
    assert "200 pairs" in changes
    assert changes.count("measurably lower") == 2
    assert changes.count("measurably higher") == 2


def test_a_row_that_is_beaten_names_by_whom() -> None:
    from equipoise.stats.pareto import FrontMembership

    beaten = row("worse", 80, 30, membership=FrontMembership(False, 0.0, (0, 1)))
    text = page(frontier(row("plain", 60, 10), row("good", 50, 9), beaten))
    assert "matched or beaten on both axes by 0, 1" in text


def test_seeds_and_unfinished_rows_are_said(measured: Frontier) -> None:
    rows = (*measured.rows[:-1], replace(measured.rows[-1], folders=("a", "b", "c"), complete=False))
    text = page(replace(measured, rows=rows))
    assert "3 seeds" in text
    assert "unfinished" in text


def test_the_division_and_the_judge_stand_at_the_end(measured: Frontier) -> None:
    text = page(measured)
    origin = text[text.index('id="origin"') :]
    assert "160 to fit on, 90 for settings, 400 to report on" in origin
    assert "ensemble 0123" in origin
    assert "equipoise frontier ORG/NAME" in origin


def test_a_frontier_of_the_model_alone_is_a_page() -> None:
    text = page(frontier(row("plain", 60, 10)))
    assert "No mitigation was measured." in text
    assert "0 mitigations" in text


def test_no_figure_runs_out_of_a_phone() -> None:
    """Tables scroll in their own box, and every cell of the narrow layout has its label."""
    text = page(attacked(frontier(row("plain", 60, 10), row("guard", 60, 2)), [(60, 60), (60, 58)]))
    assert text.count("<table") == text.count('<div class="scroll"')
    cells = re.findall(r"<td( class=\"rate\")?( data-label=)?( colspan)?", text)
    assert all(label or span for _, label, span in cells)
