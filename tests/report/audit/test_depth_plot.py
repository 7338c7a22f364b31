"""Plots over depth: values rise, intervals are drawn, and nothing in them needs a style, a font or a link."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from equipoise.audit.recovery.curve_file import CurvePoint, RefusalCurve
from equipoise.audit.recovery.depths import DepthRates, RecoverySummary
from equipoise.report.audit.depth_plot import DepthLine, DepthPoint, draw_curves, draw_depths
from equipoise.report.audit.recovery import recovery_section
from equipoise.stats.estimates import CaseLabel, Estimate, estimate

POINTS = tuple(DepthPoint(depth, value, value - 0.1, value + 0.1) for depth, value in ((0, 0.9), (5, 0.5), (20, 0.1)))
LINES = [
    DepthLine("plain, harmful answers", POINTS),
    DepthLine("plain, harmless answers", POINTS[1:], is_twin=True),
    DepthLine("prefilled, harmful answers", POINTS[:1], 1),
]


def rate(k: int, n: int) -> Estimate:
    return estimate([CaseLabel(at < k, str(at)) for at in range(n)])


def summary(**more: object) -> RecoverySummary:
    depths = (
        DepthRates(0, rate(9, 10), rate(1, 10), rate(1, 10)),
        DepthRates(5, rate(4, 10), rate(5, 10), rate(0, 0)),
    )
    return RecoverySummary(depths, {"0-4": 13}, **more)  # type: ignore[arg-type]


def both() -> list[Markup]:
    return [draw_depths(LINES, "recovery", "title", "refused"), draw_curves(LINES, "curve", "title", "probability")]


def test_equal_lines_give_equal_bytes() -> None:
    assert both() == both()


def test_it_needs_no_style_no_font_and_no_link() -> None:
    for svg in both():
        root = ET.fromstring(svg)
        assert root.get("viewBox")
        for element in root.iter():
            assert not set(element.attrib) & {"style", "font-family"}
            assert element.get("href", "#").startswith("#")
            for name in ("fill", "stroke"):
                assert re.fullmatch(r"none|var\(--\w+\)", element.get(name, "none")), element.attrib


def test_two_plots_on_a_page_have_names_of_their_own() -> None:
    one, other = both()
    assert 'aria-labelledby="recovery-title recovery-words"' in one
    assert 'aria-labelledby="curve-title curve-words"' in other


def test_the_description_says_every_value() -> None:
    svg = draw_depths(LINES, "recovery", "Refusals by depth", "refused")
    words = ET.fromstring(svg).findtext("desc")
    assert words is not None
    assert re.search(r"plain, harmful answers: 90[^,]* at depth 0, 50[^,]* at depth 5, 10[^,]* at depth 20", words)
    assert ET.fromstring(svg).findtext("title") == "Refusals by depth"


def test_depths_are_written_on_the_axis() -> None:
    svg = draw_depths(LINES, "recovery", "title", "refused")
    texts = [text for element in ET.fromstring(svg).iter("text") if (text := "".join(element.itertext()).strip())]
    assert [text for text in texts if text in ("0", "5", "20")][:3] == ["0", "5", "20"]
    assert "tokens that the reply had begun with" in texts


def test_harmless_answers_are_dashed() -> None:
    assert "stroke-dasharray" in draw_depths(LINES[:2], "recovery", "title", "refused")
    assert "stroke-dasharray" in draw_curves(LINES[:2], "recovery", "title", "refused")


@pytest.mark.parametrize("name", ["<script>", "\u202ebackwards"])
def test_names_are_untrusted(name: str) -> None:
    svg = draw_depths([DepthLine(name, POINTS)], "recovery", "title", "refused")
    assert name not in svg
    ET.fromstring(svg)


def test_a_section_has_the_variants_in_the_order_of_the_page() -> None:
    section = recovery_section([("plain", 0), ("defended", 1), ("perturbed", 2)], {"defended": summary()}, None)
    assert section is not None
    assert [(variant.name, variant.look) for variant in section.variants] == [("defended", 1)]
    assert section.curve is None
    assert "defended, harmless answers" in section.plot


def test_unknown_rates_are_not_drawn() -> None:
    section = recovery_section([("plain", 0)], {"plain": summary()}, None)
    assert section is not None
    words = ET.fromstring(section.plot).findtext("desc")
    assert words is not None
    assert "harmless answers: 10" in words
    assert len(re.findall("at depth 5", words)) == 1


def test_without_the_suite_there_is_no_section() -> None:
    assert recovery_section([("plain", 0)], {}, None) is None


def test_a_curve_is_drawn_with_the_openers_that_it_is_about() -> None:
    points = tuple(CurvePoint(depth, 4, 0.5, 0.4, 0.6) for depth in range(5))
    section = recovery_section([("plain", 0)], {"plain": summary()}, RefusalCurve(("Sorry",), points, points[:2]))
    assert section is not None
    assert section.openers == ("Sorry",)
    assert section.curve is not None
    assert "harmless answers" in section.curve
    empty = recovery_section([("plain", 0)], {"plain": summary()}, RefusalCurve(("Sorry",), (), ()))
    assert empty is not None
    assert empty.curve is None


@pytest.mark.parametrize(("continued", "doubted"), [(3, False), (2, True), (0, True)])
def test_doubt_is_said_where_probes_were_not_continued(continued: int, doubted: bool) -> None:
    assert (summary(probes=3, continued=continued).doubt is not None) == doubted
    assert summary().doubt is None
