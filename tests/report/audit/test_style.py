from __future__ import annotations

import re
from importlib.resources import files

import pytest

STYLE = files("equipoise.report.audit").joinpath("style.css").read_text(encoding="utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)
TEXT_ON = [
    *((ink, bed) for ink in ("ink", "soft", "accent", "bad") for bed in ("page", "card")),
    *((tone, f"{tone}-bed") for tone in ("good", "bad", "unsure", "neutral")),
    *((f"v{look}", "card") for look in range(6)),
    ("good", "card"),
    ("soft", "neutral-bed"),
]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "bed"), TEXT_ON)
def test_text_stands_out_from_what_it_is_on(colours: dict[str, str], ink: str, bed: str):
    lighter, darker = sorted((luminance(colours[ink]), luminance(colours[bed])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_both_modes_name_the_same_colours():
    assert LIGHT.keys() == DARK.keys()


def test_the_style_sheet_reaches_for_nothing():
    assert "url(" not in STYLE
    assert "@import" not in STYLE
