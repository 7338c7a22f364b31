"""Every family keeps every promise of the model layer; see `families/checks.py` for what each check means."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.families import FAMILIES
from models.families.checks import CHECKS, Case, build

DOC = Path(__file__).parents[2] / "docs" / "families.md"


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    return {}


@pytest.fixture
def case(family: str, cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> Case:
    if family == "SmolVLM":
        pytest.importorskip("num2words", reason="SmolVLM's processor needs num2words")
    if family not in cases:
        cases[family] = build(family, tmp_path_factory.mktemp(family.replace(" ", "_")))
    return cases[family]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_family(case: Case, check: str) -> None:
    assert CHECKS[check](case)


def test_document_names_the_families_and_their_outcomes() -> None:
    rows = [line for line in DOC.read_text().splitlines() if line.startswith("| **")]
    assert [row.split("**")[1] for row in rows] == list(FAMILIES)
