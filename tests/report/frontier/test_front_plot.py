"""The plot of a frontier: places, the staircase of the front, labels that do not cover each other."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from equipoise.report.frontier.plot import HEIGHT, LEFT, RIGHT, TOP, WIDTH, FrontPoint, draw_front
from equipoise.report.frontier.plot_labels import LABEL, LETTER, LONGEST
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


def box_of(point: FrontPoint) -> tuple[float, float, float, float]:
    """What the label of a point covers: left, top, right, bottom."""
    label = point.label
    width = LETTER * len(f"{point.number} {label.text}".strip())
    ends = (label.x, label.x + (width if label.begins else -width))
    return min(ends), label.y - LABEL / 2, max(ends), label.y + LABEL / 2


def apart(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    """Whether two boxes share nothing."""
    return one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]


@pytest.mark.parametrize("name", ["r", "prompt:few-shot then guard"])
@pytest.mark.parametrize("at", [(60, 40), (1, 1), (199, 199), (1, 199)])
def test_equal_points_get_labels_apart_inside_the_frame(name: str, at: tuple[int, int]) -> None:
    plot = draw_front([row(name, *at) for _ in range(6)])
    boxes = [box_of(point) for point in plot.points]
    for i, box in enumerate(boxes):
        assert box[0] > LEFT
        assert box[2] < WIDTH
        assert box[1] >= TOP
        assert box[3] < HEIGHT
        assert all(apart(box, other) for other in boxes[:i])


def test_points_at_one_place_share_one_line_to_their_names() -> None:
    plot = draw_front([row("plain", 60, 40), row("guard", 60, 40), row("prompt:few-shot", 120, 140)])
    plain, guard, other = (point.label for point in plot.points)
    assert (plain.x, abs(plain.y - guard.y)) == (guard.x, LABEL)
    assert sorted([plain.is_first, guard.is_first]) == [False, True]
    assert other.is_first
    assert other.text == "few-shot"


def test_a_label_crosses_no_interval_where_there_is_room_beside_it() -> None:
    (point,) = draw_front([row("guard", 100, 100)]).points
    across = (point.left, point.y, point.right, point.y)
    up = (point.x, point.high, point.x, point.low)
    assert all(apart(box_of(point), bar) for bar in (across, up))


def test_a_label_has_the_name_or_the_number_alone_where_there_is_no_room() -> None:
    alone = draw_front([row("guard", 60, 40)])
    assert alone.points[0].label.text == "guard"
    crowded = draw_front([row("prompt:few-shot then guard", 60, 40) for _ in range(30)])
    assert "" in {point.label.text for point in crowded.points}
    cut = draw_front([row("x" * 200, 60, 40)]).points[0].label.text
    assert len(cut) == LONGEST
    assert cut.endswith("\N{HORIZONTAL ELLIPSIS}")


def test_a_point_is_solid_where_it_is_on_the_front_in_half_of_the_resamples() -> None:
    plot = draw_front([row("a", 1, 1, 0.5), row("b", 1, 1, 0.49)])
    assert [point.solid for point in plot.points] == [True, False]


def test_no_row_with_both_axes_is_an_empty_plot() -> None:
    assert draw_front([]).points == ()
    assert draw_front([]).line == ""
