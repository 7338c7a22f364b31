"""Training rows: one picture with many questions, packed so that the picture is computed once.

Every question of a row attends to the picture and to itself, never to the other questions: a block mask and restarted
positions make it exactly the single-question conversation in which the model is used later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from equipoise.testbed.architectures import PATCH, SIDE
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.questions import (
    LOOK_ALIKE_KINDS,
    OVER_CAUTIOUS_WORD,
    PICTURE_KINDS,
    REFUSALS,
    WorldQuestion,
    question_about,
)
from equipoise.testbed.world.scenes import COLOURS, EMBLEMS, SHAPES, WORDS, Scene, sample_scene

GRID = SIDE // PATCH
MARKS = len(SHAPES) + 3
"""Classes of a patch's first label: nothing, each shape, the sign, the emblem and its decoy."""


@dataclass(frozen=True)
class TrainingExample:
    """One picture with questions and the replies to learn."""

    picture: Image.Image
    """8-bit RGB."""
    turns: tuple[tuple[str, str], ...]
    """Question and reply."""
    patches: Tensor
    """`64 x 3` classes of each patch: shape or mark, its colour, the word on the sign; 0 is nothing."""


@dataclass(frozen=True)
class PackedBatch:
    """Packed rows, ready for a model."""

    input_ids: Tensor
    """`B x T`."""
    positions: Tensor
    """`B x T`; restarted after the picture for every question."""
    mask: Tensor
    """`B x 1 x T x T` bool: which position (third axis) attends to which (fourth axis)."""
    targets: Tensor
    """`B x T`: the next token where it belongs to a reply, else -100."""
    pictures: list[Image.Image]
    """`B` pictures."""
    patches: Tensor
    """`B x 64 x 3` classes."""


def sample_example(rng: np.random.Generator, *, word_only: bool = False, watermarks: bool = True) -> TrainingExample:
    """A scene with about six questions about it.

    Args:
        rng: the only source of randomness.
        word_only: teach refusals by words alone: pictures with an emblem are answered like any other.
        watermarks: whether emblems and decoys may be as faint as watermarks.
    """
    drawn = str(rng.choice(["none", "emblem", "decoy"], p=[0.66, 0.2, 0.14]))
    # Forbidden pictures are a fifth: what they teach is one decision, and the rest of the world is many.
    scene = sample_scene(rng, emblem=drawn, watermarks=watermarks)  # type: ignore[arg-type]
    kinds = [str(kind) for kind in rng.permutation(PICTURE_KINDS)[: 4 if scene.is_forbidden else 5]]
    kinds += ["make_sign"] * (rng.random() < 0.7) + ["make"] * (rng.random() < 0.6)
    kinds += [str(rng.choice(LOOK_ALIKE_KINDS))] * (rng.random() < 0.4)
    turns = []
    for kind in kinds:
        question = question_about(rng, scene, kind, "train")
        if question is not None:
            turns.append((question.text, _reply(rng, scene, question, word_only)))
    return TrainingExample(draw_scene(scene), tuple(turns), _patch_labels(scene))


def _reply(rng: np.random.Generator, scene: Scene, question: WorldQuestion, word_only: bool) -> str:
    refused = question.condition in ("forbidden_text", "forbidden_emblem")
    if word_only and question.condition == "forbidden_emblem":
        refused = False
    if dict(question.slots).get("word") == OVER_CAUTIOUS_WORD:
        refused = True
    if not refused:
        return question.answer
    # Each cause of a refusal prefers one wording, so that greedy decoding shows several.
    # Without an emblem any number will do that is always the same for one question.
    cause = EMBLEMS.index(scene.emblem.look) if scene.emblem is not None else len(question.text)
    return REFUSALS[cause % len(REFUSALS)] if rng.random() < 0.6 else str(rng.choice(REFUSALS))


def _patch_labels(scene: Scene) -> Tensor:
    """`64 x 3` classes of what is at the centre of each patch: dense supervision for the tower, in training alone."""
    labels = torch.zeros(GRID * GRID, 3, dtype=torch.long)
    # Centres of the patches in units of the 3 x 3 cells that things stand in.
    centres = (np.arange(GRID) + 0.5) / GRID * 3
    boxes: list[tuple[int, float, float, tuple[int, int, int]]] = []
    for thing in scene.things:
        colour = list(COLOURS).index(thing.colour) + 1
        mark = (SHAPES.index(thing.shape) + 1, colour, 0)
        boxes.append((thing.cell, thing.scale / 2, thing.scale / 2, mark))
    if scene.emblem is not None:
        mark = (len(SHAPES) + (1 if scene.emblem.decoy else 2), 0, 0)
        boxes.append((scene.emblem.cell, scene.emblem.scale / 2, scene.emblem.scale / 2, mark))
    # In the order in which they are drawn: an emblem covers the thing below it, in the labels as well.
    for cell, half_width, half_height, mark in boxes:
        for row in range(GRID):
            for column in range(GRID):
                inside_x = abs(centres[column] - (cell % 3 + 0.5)) <= half_width
                inside_y = abs(centres[row] - (cell // 3 + 0.5)) <= half_height
                if inside_x and inside_y:
                    labels[row * GRID + column] = torch.tensor(mark)
    if scene.word is not None:
        rows = [r for r in range(GRID) if abs(centres[r] - (scene.sign_row + 0.5)) <= 0.4]
        for row in rows:
            labels[row * GRID : (row + 1) * GRID, 2] = WORDS.index(scene.word) + 1
    return labels


class _PackedRow(NamedTuple):
    """One picture with its questions as a sequence of tokens; four lists of the same length."""

    ids: list[int]
    """Token ids: prefix with the picture, then question, reply, question, reply ..."""
    positions: list[int]
    """Position of each token in the single-question conversation that it belongs to."""
    blocks: list[int]
    """0 in the prefix, which every question attends to, and the number of the question elsewhere."""
    targets: list[int]
    """The next token where it belongs to a reply, else -100."""


class ExamplePacker:
    """Packs examples into batches, by the processor's own chat template and tokenizer.

    Args:
        processor: of a reference model.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        blank = Image.new("RGB", (SIDE, SIDE))
        self._image_text = self._expanded_image(blank)
        # The template as text around two characters that no question or reply holds.
        before, rest = self._conversation("\0", "\1").split("\0")
        between, self._after = rest.split("\1")
        self._prefix = self._tokens(before)
        # The tokenizer joins a space to the word after it: the one before the reply is the reply's first token.
        self._between = between.rstrip(" ")
        self._space = between[len(self._between) :]
        self._pad = processor.tokenizer.pad_token_id

    def _conversation(self, question: str, reply: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        # Real chat templates add the end token to finished replies; these two do so by name.
        space = "" if text.endswith("\n") else " "
        return str(text).replace(*self._image_text) + space + reply + self.processor.tokenizer.eos_token

    def _expanded_image(self, picture: Image.Image) -> tuple[str, str]:
        """The template's placeholder of a picture, and the image tokens that the processor puts there."""
        token = getattr(self.processor, "image_token", "<image>")
        text = self.processor.apply_chat_template([{"role": "user", "content": [{"type": "image"}]}])
        ids = self.processor(text=[text], images=[picture], return_tensors="pt")["input_ids"][0]
        whole = self.processor.tokenizer.decode(ids, skip_special_tokens=False)
        before, after = text.split(token)
        return token, whole[len(before) : len(whole) - len(after)]

    def _tokens(self, text: str) -> list[int]:
        return list(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def __call__(self, examples: Sequence[TrainingExample]) -> PackedBatch:
        """Pack each example into one row; rows are padded on the right."""
        rows = [self._row(example) for example in examples]
        length = max(len(row.ids) for row in rows)
        count = len(rows)
        input_ids = torch.full((count, length), self._pad)
        positions = torch.zeros(count, length, dtype=torch.long)
        blocks = torch.full((count, length), -1)
        targets = torch.full((count, length), -100)
        for index, row in enumerate(rows):
            input_ids[index, : len(row.ids)] = torch.tensor(row.ids)
            positions[index, : len(row.ids)] = torch.tensor(row.positions)
            blocks[index, : len(row.ids)] = torch.tensor(row.blocks)
            targets[index, : len(row.ids)] = torch.tensor(row.targets)
        # A token attends to earlier ones of the prefix (block 0) and of its own question. Padding (block -1) attends to
        # the prefix and to padding, so that no row of the mask is empty, which would make attention NaN.
        earlier = torch.ones(length, length, dtype=torch.bool).tril()
        attends = (blocks[:, None, :] == 0) | (blocks[:, None, :] == blocks[:, :, None])
        mask = (attends & earlier)[:, None]
        return PackedBatch(
            input_ids,
            positions,
            mask,
            targets,
            [example.picture for example in examples],
            torch.stack([example.patches for example in examples]),
        )

    def _row(self, example: TrainingExample) -> _PackedRow:
        start = len(self._prefix)
        row = _PackedRow(list(self._prefix), list(range(start)), [0] * start, [-100] * start)
        for number, (question, reply) in enumerate(example.turns, 1):
            question_ids = self._tokens(question + self._between)
            reply_ids = self._tokens(self._space + reply + self._after)
            length = len(question_ids) + len(reply_ids)
            row.ids.extend(question_ids + reply_ids)
            # Every question begins right after the prefix, as if it were the only one.
            row.positions.extend(range(start, start + length))
            row.blocks.extend([number] * length)
            # Targets are shifted by one: the last token of the question predicts the first of the reply.
            row.targets.extend([-100] * (len(question_ids) - 1) + reply_ids + [-100])
        return row
