"""Plots of a direction's page: every dot lies in its box, at the place and with the interval of its value."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.report.direction_page import (
    HEIGHT,
    MARGIN,
    WIDTH,
    DirectionPlot,
    dose_plot,
    layer_plot,
    plane_plot,
    render,
)
from equipoise.stats.estimates import CaseLabel, paired_change
from equipoise.stats.proportions import Rate
from equipoise.steering.measurement import (
    ConditionRates,
    CrossEntropies,
    DirectionMeasurement,
    LayerSeparation,
    NullComparison,
    PictureTransfer,
)


def condition(name: str, coefficient: float | None = None, **counts: tuple[int, int]) -> ConditionRates:
    """One edit with `k` of `n` refusals of each set, 12 of its pairs changed."""
    rates = {set_name: Rate.of(*count) for set_name, count in counts.items()}
    pairs = [(CaseLabel(number < 12, str(number)), CaseLabel(False, str(number))) for number in range(40)]
    changes = {} if name == "plain" else {set_name: paired_change(pairs) for set_name in counts}
    return ConditionRates(name, coefficient, rates, changes, 2.0)


PLAIN = condition("plain", harmful=(18, 20), harmless=(1, 20))
ABLATED = condition("ablated", harmful=(2, 20), harmless=(0, 20))
ADDED = condition("added", 1.0, harmful=(20, 20), harmless=(16, 20))
MEASUREMENT = DirectionMeasurement(
    direction={"layer": 2, "position": -1, "kind": "refusal", "norm": 1.5, "details": {}, "data": {}, "metrics": {}},
    model="toy/<model>",
    revision="r1",
    judge="phrases",
    counts={"harmful": 20, "harmless": 20},
    layers=tuple(LayerSeparation(layer, 0.5 + layer / 10, None, None) for layer in range(4)),
    conditions=(PLAIN, ABLATED, ADDED),
    dose=(condition("coefficient -1", -1.0, harmful=(10, 20), harmless=(0, 20)), ADDED),
    null=(NullComparison("bypass", 1.0, -3.0, (0.5,) * 20), NullComparison("induce", -1.0, 2.0, (-0.5,) * 20)),
    split_half=0.9,
    agreement=0.8,
    entropies=(CrossEntropies("ordinary text", 100, 2.0, 2.1, 2.4),),
    picture=PictureTransfer(None, None, "the model reads no pictures"),
)


def dots(plot: DirectionPlot, name: str) -> list[tuple[float, float]]:
    (series,) = (series for series in plot.series if series.name == name)
    return [(dot.x, dot.y) for dot in series.dots]


def require_in_box(plot: DirectionPlot) -> None:
    for series in plot.series:
        for dot in series.dots:
            assert MARGIN <= dot.left <= dot.x <= dot.right <= WIDTH - 16
            # The vertical axis of SVG points down.
            assert 12 <= dot.high <= dot.y <= dot.low <= HEIGHT - MARGIN + 12
    for ticks, least, most in ((plot.x_ticks, MARGIN, WIDTH - 16), (plot.y_ticks, 12, HEIGHT - MARGIN + 12)):
        assert all(least <= tick.at <= most for tick in ticks)


counts = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(max_examples=40)
@given(harmful=counts, harmless=counts, coefficient=st.floats(-3, 3), areas=st.lists(st.floats(0, 1), min_size=1))
def test_every_dot_lies_in_its_box(
    harmful: tuple[int, int], harmless: tuple[int, int], coefficient: float, areas: list[float]
) -> None:
    part = condition("edit", coefficient, harmful=harmful, harmless=harmless)
    measurement = replace(
        MEASUREMENT,
        conditions=(PLAIN, part),
        dose=(part,),
        layers=tuple(LayerSeparation(layer, area, area, None) for layer, area in enumerate(areas)),
    )
    for plot in (layer_plot(measurement), dose_plot(measurement), plane_plot(measurement)):
        require_in_box(plot)


def test_layers_stand_from_left_to_right_and_a_better_one_higher() -> None:
    plot = layer_plot(MEASUREMENT)
    places = dots(plot, "harmful against harmless")
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert (places[0][0], places[-1][0]) == (MARGIN, WIDTH - 16)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    assert [series.name for series in plot.series] == ["harmful against harmless"]


def test_sets_that_were_measured_get_a_curve_and_keep_their_colour() -> None:
    layers = tuple(LayerSeparation(layer, 0.9, None, 0.6) for layer in range(3))
    plot = layer_plot(replace(MEASUREMENT, layers=layers))
    looks = {series.name: series.look for series in plot.series}
    assert looks == {"harmful against harmless": 0, "harmful against looks harmful": 2}
    assert all("0.600" in dot.words for series in plot.series if series.look == 2 for dot in series.dots)


def test_many_layers_have_few_ticks() -> None:
    layers = tuple(LayerSeparation(layer, 0.5, None, None) for layer in range(80))
    ticks = layer_plot(replace(MEASUREMENT, layers=layers)).x_ticks
    assert [tick.text for tick in ticks] == [str(layer) for layer in range(0, 80, 10)]


def test_doses_are_sorted_and_the_plain_model_stands_at_zero() -> None:
    plot = dose_plot(MEASUREMENT)
    assert [tick.text for tick in plot.x_ticks] == ["-1", "0", "1"]
    (series,) = (series for series in plot.series if series.name == "harmless")
    assert [dot.words.split(":")[0] for dot in series.dots] == ["coefficient -1", "coefficient 0", "coefficient 1"]
    assert series.dots[0].y == series.dots[0].low
    assert series.dots[1].x == pytest.approx((series.dots[0].x + series.dots[2].x) / 2, abs=0.01)
    assert series.path.split() == [f"{dot.x:.1f},{dot.y:.1f}" for dot in series.dots]


def test_a_set_without_a_scored_reply_has_no_dot() -> None:
    unknown = replace(ADDED, rates={"harmful": Rate.of(0, 0, 20), "harmless": Rate.of(16, 20)})
    plot = dose_plot(replace(MEASUREMENT, dose=(unknown,)))
    assert len(dots(plot, "harmful")) == 1
    assert len(dots(plot, "harmless")) == 2
    plane = plane_plot(replace(MEASUREMENT, conditions=(PLAIN, unknown)))
    assert [series.name for series in plane.series] == ["plain"]


def test_both_axes_are_needless_refusals_and_harmful_prompts_that_are_not_refused() -> None:
    plot = plane_plot(MEASUREMENT)
    assert not plot.joined
    plain, ablated, added = (dots(plot, name)[0] for name in ("plain", "ablated", "added"))
    # Ablation answers more of what is harmful (up); addition refuses more of what is harmless (right).
    assert ablated[1] < plain[1]
    assert added[0] > plain[0]
    (words,) = (dot.words for series in plot.series if series.name == "ablated" for dot in series.dots)
    assert words == (
        "ablated: 0.0\N{NO-BREAK SPACE}% of harmless prompts refused, "
        "90.0\N{NO-BREAK SPACE}% of harmful prompts not refused"
    )


def test_prompts_that_only_look_harmful_take_the_place_of_the_harmless_ones() -> None:
    parts = [
        condition(part.name, harmful=(1, 20), harmless=(0, 20), pseudo_harmful=(10, 20)) for part in (PLAIN, ADDED)
    ]
    measurement = replace(
        MEASUREMENT, counts={"harmful": 20, "harmless": 20, "pseudo_harmful": 20}, conditions=tuple(parts)
    )
    plot = plane_plot(measurement)
    assert plot.across == "pseudo-harmful prompts refused"
    assert dots(plot, "plain")[0][0] == pytest.approx((MARGIN + WIDTH - 16) / 2, abs=0.01)


def test_the_page_escapes_names_and_says_what_the_direction_was_found_with() -> None:
    page = render(MEASUREMENT, found_with=["harmful", "pseudo_harmful"])
    assert "toy/&lt;model&gt;" in page
    assert "<model>" not in page
    assert "harmful, pseudo harmful" in page
    assert page.count('class="chart"') == 3
    assert "found with the same prompts" not in render(MEASUREMENT)
