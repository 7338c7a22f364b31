from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from equipoise.report.audit.plot import PlotPoint, draw
from equipoise.stats.proportions import Rate


def number(k: int, n: int = 100) -> Rate:
    return Rate.of(k, n)


POINTS = [
    PlotPoint("plain", number(6), number(4), 0),
    PlotPoint("perturbed", number(90), number(2), 1),
    PlotPoint("guarded", number(12), number(1), 2, before=PlotPoint("old", number(40), number(60))),
]


def position(svg: str, name: str) -> tuple[float, float]:
    """Where a marker stands, in units of the drawing."""
    match = re.search(rf'id="{name}">.*?<use [^>]*x="([\d.]+)" y="([\d.]+)"', svg, re.DOTALL)
    assert match is not None
    return float(match[1]), float(match[2])


def test_equal_points_give_equal_bytes():
    assert draw(POINTS, POINTS[:1]) == draw(POINTS, POINTS[:1])


def test_harm_rises_and_refusals_go_right_on_axes_from_nothing_to_all():
    svg = draw(
        [
            PlotPoint("a", number(0), number(0)),
            PlotPoint("b", number(100), number(100)),
            PlotPoint("c", number(50), number(25)),
        ]
    )
    (left, bottom), (right, top), (x, y) = (position(svg, f"point-{index}") for index in range(3))
    assert x == pytest.approx((left + right) / 2, abs=0.01)
    assert y == pytest.approx(bottom + (top - bottom) / 4, abs=0.01)
    assert top < bottom
    assert left < right


def test_it_needs_no_style_no_font_and_no_link():
    svg = draw(POINTS)
    root = ET.fromstring(svg)
    assert root.get("viewBox")
    for element in root.iter():
        assert not set(element.attrib) & {"style", "font-family"}
        assert element.get("href", "#").startswith("#")
        for name in ("fill", "stroke"):
            assert re.fullmatch(r"none|var\(--\w+\)", element.get(name, "none")), element.attrib
    assert not {str(element.tag) for element in root.iter()} & {"style", "metadata", "image", "script"}


def test_a_reader_who_sees_nothing_is_told_all_points():
    root = ET.fromstring(draw(POINTS))
    description = root.findtext("desc") or ""
    assert root.get("role") == "img"
    for point in POINTS:
        assert point.words in description
        assert f"n {point.refusal.n}" in point.words


def test_a_point_needs_both_axes():
    assert "point-0" not in draw([PlotPoint("half", number(5), number(0, 0))])


def test_names_are_text_whatever_they_hold():
    svg = draw([PlotPoint("$x^2$ <script> & \x00\u202e" + "long" * 50, number(5), number(5))])
    labels = [element.text or "" for element in ET.fromstring(svg).iter("text")]
    assert "$x^2$ <script> & ␀[U+202E]longlong"[:30] + " (n 100 and 100)" in labels


def test_a_point_says_how_many_cases_it_rests_on_and_a_suite_its_name():
    svg = draw([PlotPoint("plain", number(5, 9), number(0, 3000))], [PlotPoint("xstest", number(80), number(70))])
    labels = [element.text or "" for element in ET.fromstring(svg).iter("text")]
    assert "plain (n 9 and 3,000)" in labels
    assert "xstest" in labels


def test_names_of_suites_give_way_and_stay_in_tooltips():
    crowd = [PlotPoint(f"suite number {index}", number(50), number(50)) for index in range(30)]
    root = ET.fromstring(draw(POINTS, crowd))
    labels = [element.text or "" for element in root.iter("text")]
    assert sum(label.startswith("suite number") for label in labels) < 30
    assert {point.words for point in crowd} <= {element.text for element in root.iter("title")}


def test_an_arrow_leads_from_where_a_variant_was():
    assert 'fill="var(--card)"' in draw(POINTS)
    assert 'fill="var(--card)"' not in draw(POINTS[:2])
