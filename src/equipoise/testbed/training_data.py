"""Training rows: one picture, many questions, packed so that the picture is paid for once.

Every question of a row sees the picture and itself, never the other questions: a block mask and restarted positions
make each of them exactly the single-question conversation that the model is used with later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from equipoise.testbed.architectures import PATCH, SIDE
from equipoise.testbed.world.drawing import draw
from equipoise.testbed.world.questions import (
    LOOK_ALIKE_KINDS,
    OVER_CAUTIOUS_WORD,
    PICTURE_KINDS,
    REFUSALS,
    WorldQuestion,
    ask,
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
    """`64 x 3` classes of each patch: what is there, its colour, the word; 0 is nothing."""


@dataclass(frozen=True)
class PackedBatch:
    """Packed rows, ready for a model."""

    input_ids: Tensor
    """`B x T`."""
    positions: Tensor
    """`B x T`; restarted after the picture for every question."""
    mask: Tensor
    """`B x 1 x T x T` bool: what sees what."""
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
    scene = sample_scene(rng, emblem=drawn, watermarks=watermarks)  # type: ignore[arg-type]
    kinds = [str(kind) for kind in rng.permutation(PICTURE_KINDS)[: 4 if scene.forbidden else 5]]
    kinds += ["make_sign"] * (rng.random() < 0.7) + ["make"] * (rng.random() < 0.6)
    kinds += [str(rng.choice(LOOK_ALIKE_KINDS))] * (rng.random() < 0.4)
    turns = []
    for kind in kinds:
        question = ask(rng, scene, kind, "train")
        if question is not None:
            turns.append((question.text, _reply(rng, scene, question, word_only)))
    return TrainingExample(draw(scene), tuple(turns), _patch_labels(scene))


def _reply(rng: np.random.Generator, scene: Scene, question: WorldQuestion, word_only: bool) -> str:
    refused = question.cell in ("forbidden_text", "forbidden_emblem")
    if word_only and question.cell == "forbidden_emblem":
        refused = False
    if dict(question.slots).get("word") == OVER_CAUTIOUS_WORD:
        refused = True
    if not refused:
        return question.answer
    # Each cause of a refusal prefers one wording, so that greedy decoding shows several.
    cause = EMBLEMS.index(scene.emblem.look) if scene.emblem is not None else len(question.text)
    return REFUSALS[cause % len(REFUSALS)] if rng.random() < 0.6 else str(rng.choice(REFUSALS))


def _patch_labels(scene: Scene) -> Tensor:
    """What stands at the centre of each patch: dense supervision for the tower, used in training alone."""
    labels = torch.zeros(GRID * GRID, 3, dtype=torch.long)
    centres = (np.arange(GRID) + 0.5) / GRID * 3
    boxes: list[tuple[int, float, float, tuple[int, int, int]]] = []
    for thing in scene.things:
        colour = list(COLOURS).index(thing.colour) + 1
        mark = (SHAPES.index(thing.shape) + 1, colour, 0)
        boxes.append((thing.cell, thing.scale / 2, thing.scale / 2, mark))
    if scene.emblem is not None:
        mark = (len(SHAPES) + (1 if scene.emblem.decoy else 2), 0, 0)
        boxes.append((scene.emblem.cell, scene.emblem.scale / 2, scene.emblem.scale / 2, mark))
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


class ExamplePacker:
    """Lessons into batches, by the processor's own chat template and tokenizer."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        blank = Image.new("RGB", (SIDE, SIDE))
        self._image_text = self._expanded_image(blank)
        before, rest = self._conversation("\0", "\1").split("\0")
        between, self._after = rest.split("\1")
        self._prefix = self._tokens(before)
        # A space before the reply belongs to the reply's first token.
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
        """The placeholder of the template, and what the processor makes of it."""
        token = getattr(self.processor, "image_token", "<image>")
        text = self.processor.apply_chat_template([{"role": "user", "content": [{"type": "image"}]}])
        ids = self.processor(text=[text], images=[picture], return_tensors="pt")["input_ids"][0]
        whole = self.processor.tokenizer.decode(ids, skip_special_tokens=False)
        before, after = text.split(token)
        return token, whole[len(before) : len(whole) - len(after)]

    def _tokens(self, text: str) -> list[int]:
        return list(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def __call__(self, lessons: Sequence[TrainingExample]) -> PackedBatch:
        """Pack each lesson into one row."""
        rows = [self._row(lesson) for lesson in lessons]
        length = max(len(ids) for ids, _, _, _ in rows)
        count = len(rows)
        input_ids = torch.full((count, length), self._pad)
        positions = torch.zeros(count, length, dtype=torch.long)
        block = torch.full((count, length), -1)
        targets = torch.full((count, length), -100)
        for index, (ids, place, owner, target) in enumerate(rows):
            input_ids[index, : len(ids)] = torch.tensor(ids)
            positions[index, : len(ids)] = torch.tensor(place)
            block[index, : len(ids)] = torch.tensor(owner)
            targets[index, : len(ids)] = torch.tensor(target)
        earlier = torch.ones(length, length, dtype=torch.bool).tril()
        sees = (block[:, None, :] == 0) | (block[:, None, :] == block[:, :, None])
        mask = (sees & earlier)[:, None]
        return PackedBatch(
            input_ids,
            positions,
            mask,
            targets,
            [lesson.picture for lesson in lessons],
            torch.stack([lesson.patches for lesson in lessons]),
        )

    def _row(self, lesson: TrainingExample) -> tuple[list[int], list[int], list[int], list[int]]:
        start = len(self._prefix)
        ids, place, owner = list(self._prefix), list(range(start)), [0] * start
        target = [-100] * start
        for number, (question, reply) in enumerate(lesson.turns, 1):
            asked = self._tokens(question + self._between)
            said = self._tokens(self._space + reply + self._after)
            turn = asked + said
            ids += turn
            place += range(start, start + len(turn))
            owner += [number] * len(turn)
            target += [-100] * (len(asked) - 1) + said + [-100]
        return ids, place, owner, target
