"""The environment that the pages share: it escapes, fails on names that are not there, and knows the numbers."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from equipoise.report.templates import environment


def test_what_people_wrote_is_escaped_on_every_page() -> None:
    page = environment("equipoise.report.audit", filters={})
    assert page.from_string("{{ text }}").render(text="<b>") == "&lt;b&gt;"


def test_a_name_that_is_not_there_is_an_error() -> None:
    page = environment("equipoise.report.audit", filters={})
    with pytest.raises(UndefinedError):
        page.from_string("{{ nothing }}").render()


@pytest.mark.parametrize(
    "packages", [("equipoise.report.audit",), ("equipoise.report.frontier", "equipoise.report.audit")]
)
def test_each_page_has_its_own_filters_beside_the_numbers(packages: tuple[str, ...]) -> None:
    first = environment(*packages, filters={"twice": lambda value: 2 * value})
    second = environment(*packages, filters={})
    assert first.from_string("{{ 2 | twice }}").render() == "4"
    assert "twice" not in second.filters
    assert set(second.filters) <= set(first.filters)
    assert {"percent", "interval", "points"} <= set(second.filters)


def test_templates_of_the_first_package_come_first() -> None:
    page = environment("equipoise.report.frontier", "equipoise.report.audit", filters={})
    assert {"frontier.html.j2", "page.html.j2"} <= set(page.list_templates())
