"""`LineRecognizer`: reads long lines of text in pieces; the network's time grows as the square of a line's length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from equipoise.guard.checkpoints import raise_if_abandoned
from equipoise.guard.folded_strip import piece_starts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST: Final = 16
"""Times that a piece is as long as it is high; the network was trained with 7."""
TOGETHER: Final = 24
"""Pieces after which it is asked whether anybody still waits for the text."""

RecognizedText = tuple[Any, ...]
"""The text and its score."""


class LineRecognizer:
    """In place of the recognizer of RapidOCR.

    Args:
        recognizer: reads pictures of lines, each of which is as cheap as it is short.
    """

    def __init__(self, recognizer: Callable[..., tuple[list[RecognizedText], float]]) -> None:
        self._recognizer = recognizer

    def __call__(
        self, lines: Sequence[NDArray[np.uint8]], return_word_box: bool = False
    ) -> tuple[list[RecognizedText], float]:
        """The text and score of each line, and the seconds that it took.

        Args:
            lines: pictures of them.
            return_word_box: as RapidOCR calls it; long lines have no such boxes.

        Raises:
            Abandoned: nobody waits for the text any more.
        """
        cut = [(number, piece) for number, line in enumerate(lines) for piece in _pieces(line)]
        # Of like proportions, since those that are read together are padded to the longest.
        cut_order = sorted(range(len(cut)), key=lambda at: cut[at][1].shape[1] / cut[at][1].shape[0])
        texts: list[RecognizedText] = [("", 0.0)] * len(cut)
        seconds = 0.0
        for begin in range(0, len(cut_order), TOGETHER):
            raise_if_abandoned()
            group = cut_order[begin : begin + TOGETHER]
            results, took = self._recognizer([cut[at][1] for at in group], return_word_box)
            seconds += took
            for at, result in zip(group, results, strict=True):
                texts[at] = result
        of_lines: list[list[RecognizedText]] = [[] for _ in lines]
        for (number, _), result in zip(cut, texts, strict=True):
            of_lines[number].append(result)
        return [results[0] if len(results) == 1 else _joined(results) for results in of_lines], seconds


def _pieces(line: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    height, width = line.shape[:2]
    longest = height * LONGEST
    if not height or width <= longest:
        return [line]
    starts = piece_starts(line, longest)
    return [line[:, start:end] for start, end in zip(starts, [*starts[1:], width], strict=True)]


def _joined(results: Sequence[RecognizedText]) -> RecognizedText:
    """One line of its pieces; the best score counts, so that an empty piece hides no others."""
    texts = [str(text) for text, *_ in results]
    return " ".join(text for text in texts if text), max(score for _, score, *_ in results)
