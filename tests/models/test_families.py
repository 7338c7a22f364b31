"""Every family keeps every promise of the model layer; see `families/checks.py` for what each check means."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from equipoise.models.load import load
from equipoise.types import Prompt
from tests.models.families import FAMILIES
from tests.models.families.checks import CHECKS, QUESTIONS, REPLIES, Case, build, picture, pixels, reply_tokens
from tests.models.families.gemma import gemma3
from tests.models.families.stock import Stock

# transformers itself: the processors of GLM-4V and PaliGemma hand tensors to numpy in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

DOC = Path(__file__).parents[2] / "docs" / "families.md"


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    return {}


@pytest.fixture
def case(family: str, cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> Case:
    for name, package in (("SmolVLM", "num2words"), ("PerceptionLM", "timm")):
        if family == name:
            pytest.importorskip(package, reason=f"{name} needs {package}")
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


@pytest.mark.parametrize("window", [8, 60])
def test_window_shorter_than_a_question_gives_the_plain_result(window: int, tmp_path: Path) -> None:
    gemma3(tmp_path, window=window)
    case = Case("Gemma 3", load(str(tmp_path)), Stock(tmp_path))
    image = picture(50, 70)
    prompts = [Prompt.ask(question, image) for question in ("Why?", QUESTIONS[1] * 4)]
    losses, slope = case.model.loss_and_grad(pixels(image), prompts, REPLIES[:2])
    plain = [
        case.stock.gradient(pixels(image), prompt, reply_tokens(case, prompt, reply))
        for prompt, reply in zip(prompts, REPLIES, strict=False)
    ]
    torch.testing.assert_close(losses, torch.stack([loss for loss, _ in plain]), rtol=0, atol=2e-5)
    torch.testing.assert_close(slope, plain[0][1] + plain[1][1], rtol=1e-3, atol=1e-5)


def test_document_names_every_family_with_its_classes(documented: dict[str, list[str]]) -> None:
    assert list(documented) == list(FAMILIES)
    assert all(
        model.startswith("`") and processor.endswith("Processor`") for model, processor, *_ in documented.values()
    )
