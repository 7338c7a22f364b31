"""The table of model types: complete, the same for doctor, loading and documentation, and true to the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as TYPES

from equipoise.errors import ModelError
from equipoise.models.families import ALONE, FAMILIES, PLAIN_PROMPTS, VERDICTS, families_of, require_supported
from tests.models.families import FAMILIES as TESTED

DOCUMENT = Path(__file__).parents[2] / "docs" / "families.md"


def test_every_type_of_transformers_has_a_verdict() -> None:
    assert set(TYPES) <= {family.kind for family in FAMILIES}
    assert {family.verdict for family in FAMILIES} == set(VERDICTS)


def test_checked_are_exactly_the_families_that_tests_build() -> None:
    assert {family.title for family in FAMILIES if family.verdict == "checked"} == set(TESTED)


def test_a_type_has_one_verdict_and_only_checked_ones_have_several_families() -> None:
    for kind in {family.kind for family in FAMILIES}:
        rows = families_of(kind)
        assert len({row.verdict for row in rows}) == 1
        assert len(rows) == 1 or rows[0].verdict == "checked"


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.verdict in ("no", "asks")], ids=lambda f: f.kind)
def test_what_does_not_work_says_why(family: object) -> None:
    assert family.note  # type: ignore[attr-defined]


def test_a_type_that_cannot_work_is_one_line_on_loading() -> None:
    with pytest.raises(ModelError, match=r"'m', a Florence-2 model: it answers task tokens.*try"):
        require_supported("florence2", "m")
    for kind in ("llava", "aria", "blip", "a-type-of-tomorrow"):
        require_supported(kind, "m")


def test_types_of_the_document_have_the_verdicts_of_the_table() -> None:
    section = DOCUMENT.read_text().partition("## Every model type")[2]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    documented = {(row[0].strip("`"), row[1], row[2].removesuffix(" |")) for row in rows}
    assert documented >= {(family.kind, family.title, family.verdict) for family in FAMILIES}


def test_marks_of_the_table_reach_the_models() -> None:
    assert {"blip-2", "paligemma"} <= PLAIN_PROMPTS
    assert "llava" not in PLAIN_PROMPTS
    assert "emu3" in ALONE
