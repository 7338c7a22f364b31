"""`OCR`: reads the text in pictures with RapidOCR, so that the guard checks requests that are drawn, not typed.

RapidOCR's wheel contains its models; nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from equipoise.errors import MissingExtraError, PictureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

SMALL: Final = 480
"""A picture whose shorter side has fewer pixels is enlarged first, since very small letters are not recognised."""
LARGEST: Final = 4_000_000
"""Pixels of a picture after enlarging, at most."""
KEPT: Final = 256
"""Pictures whose text is cached."""


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
        from equipoise.guard.line_recognizer import LineRecognizer

        self._engine: Any = RapidOCR(intra_op_num_threads=threads, inter_op_num_threads=1)
        self._engine.text_rec = LineRecognizer(self._engine.text_rec)
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, str] = OrderedDict()

    def __call__(self, image: Image) -> str:
        """The lines of text in a picture, from top to bottom and left to right; empty where there is none.

        Raises:
            PictureError: the engine cannot read it.
        """
        # By content: the same picture in the next turn of a conversation is not read again. Mode and size belong to the
        # key, since the same bytes are another picture at another width.
        key = hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).digest()
        with self._lock:
            if key not in self._known:
                self._known[key] = self._read(image)
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            return self._known[key]

    def _read(self, image: Image) -> str:
        from equipoise.guard.folded_strip import folded, is_strip

        if not is_strip(*image.size):
            return "\n".join(in_order(self._boxes(image, min(image.size), LARGEST)))
        strip = folded(_pixels(_shrunk(image)))
        # Of a strip half as many pixels are enough: its letters are as high as the strip at most.
        boxes = self._boxes(_as_image(strip.page), strip.step, LARGEST // 2)
        return "\n".join(in_order([(strip.in_strip(box), text) for box, text in boxes]))

    def _boxes(self, image: Image, smallest: int, largest: int) -> list[tuple[Any, str]]:
        """The texts in a picture of ordinary proportions, with their corners in its pixels.

        Args:
            image: to read.
            smallest: pixels of its shorter side, or of that of the pieces on it.
            largest: pixels of the enlarged picture.
        """
        import numpy as np

        size = image.size
        factor = min(SMALL / smallest, math.sqrt(largest / (image.width * image.height)))
        if factor > 1:
            image = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
        across, down = size[0] / image.width, size[1] / image.height
        try:
            # The engine takes blue first, as OpenCV does.
            boxes, _ = self._engine(np.ascontiguousarray(_pixels(image)[:, :, ::-1]))
        except Exception as error:
            raise PictureError(f"expected a picture that can be read, got {type(error).__name__}: {error}") from error
        return [([(x * across, y * down) for x, y in box], text) for box, text, *_ in boxes or []]


def _shrunk(image: Image) -> Image:
    """A strip of at most `LARGEST` pixels."""
    factor = math.sqrt(LARGEST / (image.width * image.height))
    if factor >= 1:
        return image
    short = max(1, round(min(image.size) * factor))
    long = min(max(image.size), LARGEST // short)
    return image.convert("RGB").resize((short, long) if image.height > image.width else (long, short))


def _pixels(image: Image) -> NDArray[np.uint8]:
    import numpy as np

    return np.asarray(image.convert("RGB"))


def _as_image(pixels: NDArray[np.uint8]) -> Image:
    import numpy as np
    from PIL import Image as Pillow

    return Pillow.fromarray(np.ascontiguousarray(pixels))


def in_order(boxes: list[tuple[Any, str]]) -> list[str]:
    """The texts as lines, from top to bottom and from left to right.

    Args:
        boxes: the four corner points `(x, y)` of each text, in pixels, and the text.
    """
    # By the upper edge, so that the first box of each line is the one that decides where the line ends.
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
