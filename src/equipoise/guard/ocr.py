"""`OCR`: the text in a picture, so that a request that is drawn instead of written reaches the guard.

OCR by RapidOCR, whose models come in its wheel; nothing is fetched.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from equipoise.errors import MissingExtraError, PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

SMALL: Final = 480
"""A shorter side below this is enlarged first: letters of few pixels are not found."""
KEPT: Final = 256
"""Pictures whose text is remembered."""


class OCR:
    """Reads text in pictures; one may be shared by threads.

    Args:
        threads: processor threads of one reading.

    Raises:
        MissingExtraError: RapidOCR or a system library of it is not installed.
    """

    def __init__(self, threads: int = 1) -> None:
        try:
            from rapidocr_onnxruntime import RapidOCR
        except ImportError as error:
            hint = "; apt install libgl1" if "libGL" in str(error) else ""
            raise MissingExtraError(f"pip install 'equipoise[guard]'{hint}") from error
        self._engine: Any = RapidOCR(intra_op_num_threads=threads, inter_op_num_threads=1)
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, str] = OrderedDict()

    def __call__(self, image: Image) -> str:
        """The lines of text in a picture, from top to bottom and left to right; empty where there is none.

        Raises:
            PictureError: the engine cannot read it.
        """
        key = hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).digest()
        with self._lock:
            if key not in self._known:
                self._known[key] = self._read(image)
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            return self._known[key]

    def _read(self, image: Image) -> str:
        import numpy as np

        shorter = min(image.size)
        if shorter < SMALL:
            factor = SMALL / shorter
            image = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
        # The engine takes blue first, as OpenCV does.
        pixels = np.asarray(image.convert("RGB"))[:, :, ::-1]
        try:
            boxes, _ = self._engine(np.ascontiguousarray(pixels))
        except Exception as error:
            raise PictureError(f"expected a picture that can be read, got {type(error).__name__}: {error}") from error
        return "\n".join(in_order([(box, text) for box, text, *_ in boxes or []]))


def in_order(boxes: list[tuple[Any, str]]) -> list[str]:
    """Texts with their corner points as lines, read as people do."""
    placed = sorted(
        ((min(y for _, y in box), min(x for x, _ in box), max(y for _, y in box), text) for box, text in boxes),
        key=lambda box: box[0],
    )
    lines: list[list[tuple[float, float, float, str]]] = []
    for box in placed:
        top, _, bottom, _ = box
        last = lines[-1][0] if lines else None
        # On one line if its middle is above the bottom of the line's first box.
        if last is not None and (top + bottom) / 2 < last[2]:
            lines[-1].append(box)
        else:
            lines.append([box])
    return [" ".join(text for _, _, _, text in sorted(line, key=lambda part: part[1])) for line in lines]
