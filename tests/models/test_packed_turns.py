"""Packed questions: each is exactly the conversation that it would be alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from equipoise.models.learned_turn import LearnedTurn
from equipoise.models.packed_turns import TurnPacker, TurnsOfPicture, additive_mask
from equipoise.reference.mllm.architecture import TowerSize, build_model, build_processor
from tests.reference.tiny_base import write_tiny_base

TURNS = (
    LearnedTurn("What colour?", "Red."),
    LearnedTurn("Where is the circle?", "On the left.", ends=False),
    LearnedTurn("Hi", "Yes"),
)
PICTURE = Image.new("RGB", (60, 80), (10, 200, 30))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"))


def conversation(processor, turn: LearnedTurn, picture: Image.Image | None):
    """The same question alone, by template and processor, and where its reply begins."""
    content = ([{"type": "image"}] if picture is not None else []) + [{"type": "text", "text": turn.question}]
    chat = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    images = None if picture is None else [picture]
    whole = processor(text=[chat + turn.reply], images=images, return_tensors="pt", add_special_tokens=False)
    start = processor(text=[chat], images=images, return_tensors="pt", add_special_tokens=False)
    return whole, start["input_ids"].shape[1]


@pytest.mark.parametrize("picture", [PICTURE, None])
def test_tokens_are_those_of_the_template(base: Path, picture: Image.Image | None) -> None:
    processor = build_processor(base)
    packer = TurnPacker(processor)
    for turn in TURNS:
        batch = packer([TurnsOfPicture(picture, (turn,))])
        whole, _ = conversation(processor, turn, picture)
        ids = batch.input_ids[0].tolist()
        assert ids[: whole["input_ids"].shape[1]] == whole["input_ids"][0].tolist()
        rest = ids[whole["input_ids"].shape[1] :]
        assert rest == ([processor.tokenizer.eos_token_id] if turn.ends else [])


@pytest.mark.parametrize("picture", [PICTURE, None])
def test_a_packed_question_gives_the_logits_of_the_question_alone(base: Path, picture: Image.Image | None) -> None:
    processor = build_processor(base)
    model = build_model(base, TowerSize(16, 1, 2), attention="eager").float()
    # The other row is longer, so that this one is padded.
    rows = [TurnsOfPicture(picture, TURNS), TurnsOfPicture(picture, TURNS + TURNS)]
    batch = TurnPacker(processor)(rows)
    with torch.no_grad():
        logits = model(
            input_ids=batch.input_ids,
            pixel_values=batch.pixels,
            attention_mask=additive_mask(batch.attends, torch.float32),
            position_ids=batch.positions,
        ).logits
        assert torch.isfinite(logits).all()
        packed = logits[0][batch.targets[0] >= 0]
        alone = []
        for turn in TURNS:
            whole, start = conversation(processor, turn, picture)
            end = whole["input_ids"].shape[1] - (0 if turn.ends else 1)
            alone.append(model(**whole).logits[0, start - 1 : end])
    assert torch.allclose(packed, torch.cat(alone), atol=1e-4)


def test_only_replies_are_learned(base: Path) -> None:
    processor = build_processor(base)
    batch = TurnPacker(processor)([TurnsOfPicture(PICTURE, TURNS)])
    learned = batch.targets[0][batch.targets[0] >= 0]
    text = processor.tokenizer.decode(learned)
    assert text == "Red.<|im_end|>On the left.Yes<|im_end|>"


def test_rows_with_and_without_a_picture_share_a_batch(base: Path) -> None:
    processor = build_processor(base)
    rows = [TurnsOfPicture(None, TURNS), TurnsOfPicture(PICTURE, TURNS)]
    batch = TurnPacker(processor)(rows)
    assert batch.with_picture.tolist() == [False, True]
    assert batch.pixels is not None
    assert batch.pixels.shape[0] == 1
    assert int((batch.input_ids[0] == processor.image_token_id).sum()) == 0
    alone = TurnPacker(processor)(rows[:1])
    assert alone.pixels is None


def test_each_reply_keeps_its_weight(base: Path) -> None:
    processor = build_processor(base)
    turns = (LearnedTurn("What?", "A dog."), LearnedTurn("Read it.", "It says oats.", weight=0.25))
    batch = TurnPacker(processor)([TurnsOfPicture(PICTURE, turns), TurnsOfPicture(None, turns[:1])])
    learned = batch.targets >= 0
    texts = {
        weight: processor.tokenizer.decode(batch.targets[0][learned[0] & (batch.weights[0] == weight)])
        for weight in (1.0, 0.25)
    }
    assert "A dog." in texts[1.0]
    assert "oats" not in texts[1.0]
    assert "It says oats." in texts[0.25]
    assert set(batch.weights[1][learned[1]].tolist()) == {1.0}


@pytest.mark.parametrize("word", ["oats", "o", "says"])
def test_a_spelled_word_is_one_token_a_letter_and_the_same_text(base: Path, word: str) -> None:
    processor = build_processor(base)
    reply = f"It says {word}."
    whole, spelled = LearnedTurn("Read it.", reply), LearnedTurn("Read it.", reply, spelled=word)
    batch = TurnPacker(processor)([TurnsOfPicture(PICTURE, (whole,)), TurnsOfPicture(PICTURE, (spelled,))])
    texts = []
    for row in (0, 1):
        learned = batch.targets[row][batch.targets[row] >= 0]
        texts.append(processor.tokenizer.decode(learned))
    assert texts[0] == texts[1] == reply + processor.tokenizer.eos_token
    pieces = [piece for token in learned if (piece := processor.tokenizer.decode([token]).strip())]
    # Before the full stop and the end.
    assert pieces[-2 - len(word) : -2] == list(word)


def test_a_word_that_the_reply_lacks_spells_nothing(base: Path) -> None:
    processor = build_processor(base)
    turns = [LearnedTurn("Read it.", "It says oats.", spelled=spelled) for spelled in (None, "rye")]
    first, second = (TurnPacker(processor)([TurnsOfPicture(None, (turn,))]) for turn in turns)
    assert torch.equal(first.input_ids, second.input_ids)
