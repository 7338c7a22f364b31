"""The plot of a frontier: places, the staircase of the front, labels that do not cover each other."""

from __future__ import annotations

import re
from itertools import pairwise

from equipoise.report.frontier.plot import HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw_front
from tests.report.frontier.measured import row


def test_lower_rates_stand_further_left_and_down() -> None:
    plot = draw_front([row("plain", 60, 40), row("guard", 20, 10)])
    worse, better = plot.points
    assert better.x < worse.x
    assert better.y > worse.y, "SVG counts from the top"
    for point in plot.points:
        assert point.left <= point.x <= point.right
        assert point.high <= point.y <= point.low


def test_the_axes_reach_as_far_as_the_intervals() -> None:
    narrow, wide = draw_front([row("a", 2, 3)]), draw_front([row("a", 150, 199)])
    assert [tick.text for tick in narrow.x_ticks][-1] == "10\N{NO-BREAK SPACE}%"
    assert [tick.text for tick in wide.y_ticks][-1] == "100\N{NO-BREAK SPACE}%"
    for plot in (narrow, wide):
        assert all(p.left >= LEFT and p.right <= WIDTH - RIGHT and p.high >= TOP for p in plot.points)


def test_the_front_is_a_staircase_through_its_points() -> None:
    plot = draw_front([row("a", 20, 60), row("b", 60, 20), row("off", 80, 80, 0.0)])
    corners = re.findall(r"([\d.]+),([\d.]+)", plot.line)
    first, second, off = plot.points
    assert (str(first.x), str(first.y)) in corners
    assert (str(second.x), str(second.y)) in corners
    assert (str(off.x), str(off.y)) not in corners
    numbers = [(float(x), float(y)) for x, y in corners]
    # Every step goes right or down, never both: between two points of the front the worse of both rates bounds it.
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(numbers))


def test_equal_points_get_labels_apart_inside_the_frame() -> None:
    plot = draw_front([row(f"r{i}", 60, 40) for i in range(6)])
    spots = [(point.label_x, point.label_y) for point in plot.points]
    assert len(set(spots)) == 6
    for i, (x, y) in enumerate(spots):
        assert LEFT < x < WIDTH - RIGHT
        assert TOP < y < HEIGHT
        assert all(abs(x - ox) > 16 or abs(y - oy) > 16 for ox, oy in spots[:i])


def test_a_point_is_solid_where_it_is_on_the_front_in_half_of_the_resamples() -> None:
    plot = draw_front([row("a", 1, 1, 0.5), row("b", 1, 1, 0.49)])
    assert [point.solid for point in plot.points] == [True, False]


def test_no_row_with_both_axes_is_an_empty_plot() -> None:
    assert draw_front([]).points == ()
    assert draw_front([]).line == ""
