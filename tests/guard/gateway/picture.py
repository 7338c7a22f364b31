"""A picture as clients send it."""

from __future__ import annotations

import base64
import io

from PIL import Image


def drawn(size: tuple[int, int] = (16, 16), form: str = "PNG") -> str:
    """A data URL of a plain picture."""
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(file, form)
    return f"data:image/{form.lower()};base64," + base64.b64encode(file.getvalue()).decode()
