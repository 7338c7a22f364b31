"""`is_own`: the names that a run makes in its folder, so that nothing else in it is ever removed."""

from __future__ import annotations

import re
from typing import Final

_OWN: Final = re.compile(
    r"(run|attack|summary|refusal-curve)\.json|(samples|replies|verdicts|judges)\.jsonl|report(-replies)?\.html"
    r"|pictures|logs|(defended )?(perturbed|adaptive)|\..+\.part"
)


def is_own(name: str) -> bool:
    """Whether a name in a run folder is one that a run makes, or what a kill left half-written of one."""
    return _OWN.fullmatch(name) is not None
