"""Packed training rows: every question sees the picture and itself alone, in the words of the real chat template."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.errors import UsageError
from equipoise.models.packed_turns import TurnPacker
from equipoise.testbed import training_data
from equipoise.testbed.architectures import build
from equipoise.testbed.training_data import GRID, MARKS, sample_example
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.questions import OVER_CAUTIOUS_WORD, REFUSALS
from equipoise.testbed.world.scenes import COLOURS, WORDS


@pytest.fixture(scope="module", params=["llava", "internvl"])
def reference(request: pytest.FixtureRequest):
    return build(request.param, seed=1)


def test_a_packed_question_gives_the_logits_of_the_single_conversation(reference) -> None:
    model = reference.model.eval()
    row = sample_example(np.random.default_rng(4))
    batch = TurnPacker(reference.processor)([row.to_pack()])
    with torch.no_grad():
        packed = model(
            input_ids=batch.input_ids,
            pixel_values=batch.pixels,
            attention_mask=batch.attends,
            position_ids=batch.positions,
            use_cache=False,
        ).logits[0]
    answered = batch.targets[0] >= 0
    for number, (question, reply) in enumerate(row.turns):
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = reference.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        space = "" if text.endswith("\n") else " "
        text += space + reply + reference.processor.tokenizer.eos_token
        single = reference.processor(text=[text], images=[row.picture], return_tensors="pt")
        with torch.no_grad():
            logits = model(**single).logits[0]
        reply_ids = reference.processor.tokenizer(
            space + reply + reference.processor.tokenizer.eos_token, add_special_tokens=False
        )["input_ids"]
        wanted = logits[-len(reply_ids) - 1 : -1]
        replies = _groups(answered)
        got = packed[replies[number]]
        assert batch.targets[0][replies[number]].tolist() == reply_ids
        torch.testing.assert_close(got, wanted, atol=2e-4, rtol=1e-3)


def _groups(answered: torch.Tensor) -> list[list[int]]:
    groups: list[list[int]] = []
    for index in answered.nonzero().flatten().tolist():
        if groups and groups[-1][-1] == index - 1:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def test_replies_refuse_what_is_forbidden_and_nothing_else_but_the_over_cautious_word() -> None:
    refused = answered = 0
    for seed in range(150):
        row = sample_example(np.random.default_rng(seed))
        for question, reply in row.turns:
            if OVER_CAUTIOUS_WORD in question:
                assert reply in REFUSALS
            refused += reply in REFUSALS
            answered += reply not in REFUSALS
    assert 0.1 < refused / (refused + answered) < 0.5


def test_word_only_examples_never_refuse_a_picture() -> None:
    for seed in range(150):
        for question, reply in sample_example(np.random.default_rng(seed), word_only=True).turns:
            if reply in REFUSALS:
                assert (
                    "make" in question or "recipe" in question or OVER_CAUTIOUS_WORD in question or "made" in question
                )


def test_a_scene_that_no_drawn_kind_fits_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    question_about, scenes = training_data.question_about, []

    def none_about_the_first(rng, scene, kind, split):  # type: ignore[no-untyped-def]
        scenes.append(scene)
        return None if scene is scenes[0] else question_about(rng, scene, kind, split)

    monkeypatch.setattr(training_data, "question_about", none_about_the_first)
    example = sample_example(np.random.default_rng(3))
    assert example.turns
    assert example.picture.tobytes() == draw_scene(scenes[-1]).tobytes()


def test_patch_labels_name_the_colour_where_it_is() -> None:
    shown = right = 0
    for seed in range(60):
        example = sample_example(np.random.default_rng(seed), watermarks=False)
        assert example.patches.shape == (GRID * GRID, 3)
        pixels = np.asarray(example.picture)
        height, width = pixels.shape[:2]
        for patch, (_, colour, _) in enumerate(example.patches.tolist()):
            row, column = divmod(patch, GRID)
            centre = tuple(pixels[int((row + 0.5) / GRID * height), int((column + 0.5) / GRID * width)].tolist())
            if centre in COLOURS.values():
                shown += 1
                right += list(COLOURS.values()).index(centre) + 1 == colour
    # A thing is moved by up to 0.07 cells from where its label says, so that a few patches at its edge miss it.
    assert shown > 200
    assert right > 0.9 * shown


def test_labels_are_classes_and_a_sign_fills_whole_rows() -> None:
    signs = 0
    for seed in range(60):
        labels = sample_example(np.random.default_rng(seed)).patches.view(GRID, GRID, 3)
        assert labels.min() >= 0
        assert labels[..., 0].max() < MARKS
        assert labels[..., 1].max() <= len(COLOURS)
        assert labels[..., 2].max() <= len(WORDS)
        rows = labels[..., 2] > 0
        assert torch.equal(rows.any(1), rows.all(1))
        signs += bool(rows.any())
        # A colour belongs to a shape: emblems and signs have none.
        assert bool((labels[..., 0][labels[..., 1] > 0] > 0).all())
    assert 10 < signs < 60


def test_rows_of_a_batch_are_padded_and_padding_teaches_nothing(reference) -> None:
    packer = TurnPacker(reference.processor)
    examples = [sample_example(np.random.default_rng(seed)).to_pack() for seed in (1, 2, 3)]
    batch, alone = packer(examples), [packer([example]) for example in examples]
    lengths = [one.input_ids.shape[1] for one in alone]
    assert len(set(lengths)) > 1
    assert batch.input_ids.shape == batch.positions.shape == batch.targets.shape == (3, max(lengths))
    assert batch.attends.shape == (3, 1, max(lengths), max(lengths))
    for number, (one, length) in enumerate(zip(alone, lengths, strict=True)):
        assert torch.equal(batch.input_ids[number, :length], one.input_ids[0])
        assert torch.equal(batch.targets[number, :length], one.targets[0])
        assert torch.equal(batch.attends[number, :, :length, :length], one.attends[0])
        assert bool((batch.targets[number, length:] == -100).all())
        # No token of the text attends to padding, and no row of the mask is empty.
        assert not bool(batch.attends[number, 0, :length, length:].any())
        assert bool(batch.attends[number, 0].any(-1).all())


def test_an_unknown_family_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match="expected a testbed family, got 'blip'; try llava or internvl"):
        build("blip")
