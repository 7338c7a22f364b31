"""Anchors: what they stand for, how they are batched, and the text in front of them."""

from __future__ import annotations

import pytest
from PIL import Image

from equipoise.prompts.anchors import AT_ONCE, Anchor, bounded_batches, with_system
from equipoise.types import Prompt

PICTURE = Image.new("RGB", (4, 4))


@pytest.mark.parametrize(("kind", "target"), [("harmful", 0.0), ("harmless", 1.0), ("pseudo-harmful", 1.0)])
def test_only_harmful_anchors_are_to_be_refused(kind, target: float) -> None:
    assert Anchor(Prompt.ask("x"), kind).target == target


def test_the_modality_is_that_of_the_whole_prompt() -> None:
    assert Anchor(Prompt.ask("x"), "harmful").modality == "text"
    assert Anchor(Prompt.ask("x", PICTURE), "harmful").modality == "picture"


def test_a_text_goes_in_front_of_the_anchors_own_and_none_changes_nothing() -> None:
    prompt = Prompt.ask("x", system="Be brief.")
    assert with_system(prompt, None) is prompt
    assert with_system(prompt, "Be kind.").system == "Be kind.\n\nBe brief."
    assert with_system(Prompt.ask("x"), "Be kind.").system == "Be kind."


def test_documents_have_passes_of_their_own_and_short_prompts_share_one() -> None:
    texts = ["short"] * 20 + ["x" * AT_ONCE, "y" * (AT_ONCE // 2), "z" * (AT_ONCE // 2)]
    prompts = [Prompt.ask(text) for text in texts]
    groups = list(bounded_batches(prompts, 16))
    assert sorted(index for group in groups for index in group) == list(range(len(prompts)))
    for group in groups:
        padded = max(len(texts[index]) for index in group) * len(group)
        assert padded <= AT_ONCE or len(group) == 1
    assert len(groups[0]) == 16
