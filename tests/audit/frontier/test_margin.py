"""The rise that few prompts leave open."""

from __future__ import annotations

import pytest

from equipoise.audit.frontier.margin import prompts_needed, shortages
from equipoise.stats.estimates import CaseLabel, PairedChange, paired_change
from equipoise.types import Sample


def unchanged(count: int) -> PairedChange:
    same = [CaseLabel(False, f"c{i}") for i in range(count)]
    return paired_change(zip(same, same, strict=True))


@pytest.mark.parametrize("margin", [0.05, 0.1, 0.2])
def test_no_number_of_prompts_that_is_called_too_small_can_exclude_the_margin(margin: float) -> None:
    for count in range(1, 120):
        samples = [Sample(str(i), "s", f"q{i}", expected) for i in range(count) for expected in ("answer", "refuse")]
        short = {text.split()[5] for text in shortages(samples, margin)}
        # The best case of a comparison: nothing changed on any prompt.
        assert short == ({"harmless", "harmful"} if unchanged(count).high > margin else set())


def test_borderline_prompts_are_on_no_axis() -> None:
    borderline = [Sample(str(i), "s", f"q{i}", "borderline") for i in range(500)]
    first, second = shortages(borderline, 0.1)
    assert "has 0 harmless prompts" in first
    assert "has 0 harmful prompts" in second


def test_more_prompts_are_needed_for_a_wider_interval_and_none_help_against_a_rise() -> None:
    def change(value: float, high: float) -> PairedChange:
        return PairedChange(20, 0, 0, 0, 0, value, -high, high, 1.0)

    narrow, wide = (prompts_needed(change(0.0, high), 0.1) for high in (0.2, 0.4))
    assert narrow == 80
    assert wide == 320
    assert prompts_needed(change(0.1, 0.3), 0.1) is None
    # Twenty replies to ten prompts are ten prompts.
    assert prompts_needed(change(0.0, 0.4), 0.1, seeds=2) == wide / 2
    # A fall that few prompts show asks for no fewer: the width alone counts.
    assert prompts_needed(change(-0.2, 0.2), 0.1) == wide
