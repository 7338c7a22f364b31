"""Questions about one picture packed into one sequence, so that the picture is computed once; text alone likewise.

Every question attends to the prefix (system text and picture) and to itself, never to the other questions: a block mask
and restarted positions make it exactly the single-question conversation in which the model is used later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from equipoise.models.learned_turn import LearnedTurn


@dataclass(frozen=True)
class TurnsOfPicture:
    """What is packed into one row."""

    picture: Image.Image | None
    """8-bit RGB; None for questions without a picture."""
    turns: tuple[LearnedTurn, ...]
    """Independent questions with the replies to learn."""


@dataclass(frozen=True)
class TurnBatch:
    """Packed rows, ready for a model."""

    input_ids: Tensor
    """`B x T`; rows are padded on the right."""
    positions: Tensor
    """`B x T`; restarted after the prefix for every question."""
    attends: Tensor
    """`B x 1 x T x T` bool: which position (third axis) attends to which (fourth axis)."""
    targets: Tensor
    """`B x T`: the next token where it belongs to a reply, else -100."""
    weights: Tensor
    """`B x T`: how much each of these counts in the loss."""
    with_picture: Tensor
    """`B` bool."""
    pixels: Tensor | None
    """`P x 3 x H x W` of the rows with a picture, in their order."""


class _Row(NamedTuple):
    """A packed row; lists of the same length."""

    ids: list[int]
    """Token ids: the prefix, then question, reply, question, reply ..."""
    positions: list[int]
    """Position of each token in the single-question conversation that it belongs to."""
    blocks: list[int]
    """0 in the prefix, which every question attends to, and the number of the question elsewhere."""
    targets: list[int]
    """The next token where it belongs to a reply, else -100."""
    weights: list[float]
    """Of each target in the loss."""


class TurnPacker:
    """Packs rows into batches by the processor's own chat template, tokenizer and picture placeholders.

    Args:
        processor: of a model whose picture stands in the prompt as placeholder tokens, such as LLaVA or InternVL.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._end = processor.tokenizer.eos_token
        self._pad = processor.tokenizer.pad_token_id
        self._prefixes: dict[bool, tuple[list[int], str, str]] = {}

    def _template(self, pictured: bool) -> tuple[list[int], str, str]:
        """The template as token ids of the prefix, text after the question, and text at the beginning of a reply."""
        if pictured in self._prefixes:
            return self._prefixes[pictured]
        # The template is split around a character that no question holds.
        content: list[dict[str, str]] = [{"type": "image"}] if pictured else []
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": "\ue000"}]}]
        text = self._processor.apply_chat_template(messages, add_generation_prompt=True)
        before, between = text.split("\ue000")
        if pictured:
            # The processor puts the picture's tokens where the template has its placeholder.
            blank = Image.new("RGB", (64, 64))
            inputs = self._processor(text=[before], images=[blank], add_special_tokens=False)
            prefix = list(inputs["input_ids"][0])
        else:
            prefix = self._tokens(before)
        # A reply on the line of the prompt (`ASSISTANT:`) begins with a space. Tokenizers join a space to the word
        # after it, so that it belongs to the reply's first token.
        space = "" if between.endswith("\n") else " "
        self._prefixes[pictured] = prefix, between.rstrip(" "), space
        return self._prefixes[pictured]

    def _tokens(self, text: str) -> list[int]:
        return list(self._processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _reply_tokens(self, turn: LearnedTurn, space: str) -> list[int]:
        """The reply's tokens; those of a spelled word are its letters.

        A picture shows letters, and which tokens the tokenizer joins them to differs from word to word. Letter by
        letter, reading is copying, and a word that was never drawn is read like any other. Decoded, both are one text.
        """
        text = space + turn.reply + (self._end if turn.ends else "")
        before, word, after = text.rpartition(turn.spelled or "\ue000")
        if not word:
            return self._tokens(text)
        # The space before a word belongs to its first token.
        first = " " + word[0] if before.endswith(" ") else word[0]
        letters = [first, *word[1:]]
        return [token for part in (before.removesuffix(" "), *letters, after) for token in self._tokens(part)]

    def __call__(self, rows: Sequence[TurnsOfPicture]) -> TurnBatch:
        """Pack each picture, or text alone, with its questions into one row."""
        packed = [self._row(row) for row in rows]
        count, length = len(packed), max(len(row.ids) for row in packed)
        input_ids = torch.full((count, length), self._pad)
        positions = torch.zeros(count, length, dtype=torch.long)
        blocks = torch.full((count, length), -1)
        targets = torch.full((count, length), -100)
        weights = torch.zeros(count, length)
        tensors = (input_ids, positions, blocks, targets, weights)
        for index, row in enumerate(packed):
            for tensor, values in zip(tensors, row, strict=True):
                tensor[index, : len(row.ids)] = torch.tensor(values)
        # A token attends to earlier ones of the prefix (block 0) and of its own question. Padding (block -1) attends to
        # the prefix and to padding, so that no row of the mask is empty, which would make attention NaN.
        earlier = torch.ones(length, length, dtype=torch.bool).tril()
        attends = (blocks[:, None, :] == 0) | (blocks[:, None, :] == blocks[:, :, None])
        pictures = [row.picture for row in rows if row.picture is not None]
        pixels = self._processor.image_processor(pictures, return_tensors="pt")["pixel_values"] if pictures else None
        with_picture = torch.tensor([row.picture is not None for row in rows])
        return TurnBatch(input_ids, positions, (attends & earlier)[:, None], targets, weights, with_picture, pixels)

    def _row(self, row: TurnsOfPicture) -> _Row:
        prefix, between, space = self._template(row.picture is not None)
        start = len(prefix)
        packed = _Row(list(prefix), list(range(start)), [0] * start, [-100] * start, [0.0] * start)
        for number, turn in enumerate(row.turns, 1):
            question = self._tokens(turn.question + between)
            reply = self._reply_tokens(turn, space)
            length = len(question) + len(reply)
            packed.ids.extend(question + reply)
            # Every question begins right after the prefix, as if it were the only one.
            packed.positions.extend(range(start, start + length))
            packed.blocks.extend([number] * length)
            # Targets are shifted by one: the last token of the question predicts the first of the reply.
            packed.targets.extend([-100] * (len(question) - 1) + reply + [-100])
            packed.weights.extend([turn.weight] * length)
        return packed


def additive_mask(attends: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask as what is added to the scores of attention: 0 or the lowest number of the type."""
    # Not minus infinity: the softmax of a line that is masked throughout would be NaN.
    return torch.zeros(attends.shape, dtype=dtype).masked_fill(~attends, torch.finfo(dtype).min)
