"""States of anchors are read once, and again where anything that decides them changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from equipoise.models.text_model import TextModel
from equipoise.prompts import anchor_file
from equipoise.prompts.anchor_file import kept_anchor_data
from equipoise.prompts.anchors import Anchor
from equipoise.prompts.dro import DroSettings
from equipoise.prompts.refusal_space import SpaceData
from equipoise.types import Prompt
from tests.audit.frontier.planted import SorryJudge
from tests.steering.planted import planted_model

SETTINGS = DroSettings(reply_tokens=2)
ANCHORS = [
    *(Anchor(Prompt.ask(f"w{i} attack w{i + 1}"), "harmful") for i in range(3)),
    *(Anchor(Prompt.ask(f"w{i} w{i + 2}"), "harmless") for i in range(3)),
]
Read = Callable[..., SpaceData | None]


@pytest.fixture(scope="module")
def model() -> TextModel:
    return planted_model()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every time that the model was read."""
    calls: list[int] = []
    read = anchor_file.anchor_data
    monkeypatch.setattr(anchor_file, "anchor_data", lambda *a, **k: calls.append(1) or read(*a, **k))
    return calls


@pytest.fixture
def kept(model: TextModel, tmp_path: Path) -> Read:
    def call(settings: DroSettings = SETTINGS, anchors: list[Anchor] = ANCHORS, text: str = "w30 shoot w31"):
        return kept_anchor_data(tmp_path / "kept", model, anchors, settings, text=text, judge=SorryJudge())

    return call


def test_what_is_kept_equals_what_was_read(kept: Read, reads: list[int]) -> None:
    first, second = kept(), kept()
    assert reads == [1]
    assert first is not None
    assert second is not None
    for name in ("states", "comply", "harmless"):
        assert torch.equal(getattr(first, name).float(), getattr(second, name).float()), name
    assert (first.modalities, first.requests) == (second.modalities, second.requests)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": replace(SETTINGS, reply_tokens=1)},
        {"settings": replace(SETTINGS, layer=1)},
        {"anchors": ANCHORS[:-1]},
        {"anchors": [*ANCHORS[:-1], replace(ANCHORS[-1], kind="pseudo-harmful")]},
        {"text": "w33 w34"},
    ],
)
def test_anything_that_decides_them_makes_another_file(kept: Read, reads: list[int], change: dict[str, object]) -> None:
    kept()
    kept(**change)
    assert len(reads) == 2


def test_the_seed_does_not_matter(kept: Read, reads: list[int]) -> None:
    kept()
    kept(replace(SETTINGS, seed=5))
    assert reads == [1]


def test_sampled_replies_are_each_seeds_own(kept: Read, reads: list[int]) -> None:
    assert kept(replace(SETTINGS, samples=3)) is None
    assert reads == []


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_a_damaged_file_is_read_again(kept: Read, reads: list[int], tmp_path: Path, suffix: str) -> None:
    kept()
    for file in (tmp_path / "kept").glob(f"*.{suffix}"):
        file.write_bytes(b"half")
    kept()
    assert len(reads) == 2


def test_another_number_format_makes_another_file(kept: Read, reads: list[int], model: TextModel) -> None:
    kept()
    model.model.to(torch.bfloat16)
    try:
        kept()
    finally:
        model.model.to(torch.float32)
    assert len(reads) == 2
