"""Reference models that speak English: a small public language model with adapters of this project."""

from pathlib import Path
from typing import Final

WEIGHTS: Final = Path(__file__).parent / "weights"
"""The adapters that ship with the package; what they are put on, `reference install` puts into the user's cache."""
