"""The page of samples: every condition, the models' own replies, and no text that becomes markup."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from equipoise.models.compute import ComputeConfig
from equipoise.testbed.sample_page import write_page
from equipoise.testbed.scores import sample_cases
from equipoise.testbed.world.questions import CONDITIONS
from equipoise.types import Exchange, Prompt


class EchoModel:
    """Repeats the question as markup."""

    def generate(self, prompts: Sequence[Prompt], **_: Any) -> list[Exchange]:
        return [Exchange(prompt, f"<b>{prompt.messages[-1].text}</b>", "stop", "") for prompt in prompts]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(ComputeConfig, "load", lambda self, name: EchoModel())
    out = write_page(["one", "two"], tmp_path / "new" / "page.html", seed=3, count=2)
    return out.read_text(encoding="utf-8")


def test_every_condition_has_its_samples_with_question_picture_and_replies(page: str) -> None:
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) == 2 * len(CONDITIONS)
    expected = [case for condition in CONDITIONS for case in sample_cases(condition, 2, seed=3)]
    for encoded, case in zip(pictures, expected, strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(encoded)))
        assert shown.tobytes() == case.prompt.messages[0].images[0].tobytes()
    assert [page.count(f">{condition.replace('_', ' ')}<") for condition in CONDITIONS] == [1] * len(CONDITIONS)


def test_replies_are_text_and_not_markup(page: str) -> None:
    assert page.count("&lt;b&gt;") == 2 * 2 * len(CONDITIONS)
    # The template sets each question in bold, and nothing else.
    assert page.count("<b>") == 2 * len(CONDITIONS)
