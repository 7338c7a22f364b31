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


@pytest.fixture(scope="session")
def documented() -> dict[str, list[str]]:
    """The cells that `docs/families.md` has for each family."""
    rows = [line.strip("| ").split(" | ") for line in DOC.read_text().splitlines() if line.startswith("| **")]
    return {row[0].strip("*"): row[1:] for row in rows}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_family(case: Case, check: str, documented: dict[str, list[str]]) -> None:
    measured = CHECKS[check](case)
    assert documented[case.name][2 + list(CHECKS).index(check)] == measured, "docs/families.md is stale"


def test_document_names_every_family_with_its_classes(documented: dict[str, list[str]]) -> None:
    assert list(documented) == list(FAMILIES)
    assert all(
        model.startswith("`") and processor.endswith("Processor`") for model, processor, *_ in documented.values()
    )
