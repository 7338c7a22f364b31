"""`json_words`: the words in the JSON of a text, such as the arguments of a tool's call, as a program reads them.

A detector sees an escape between two words where the program that gets the arguments sees a line break, and codes where
it sees letters of another script. What matters is which characters stand between quotes, not whether all is valid: JSON
may stand between other words, have an end that is missing, or a name twice.
"""

from __future__ import annotations

import json
import re
from typing import Final

from equipoise.guard.normalisation.readings import LARGEST

DEPTH: Final = 3
"""JSON in a text of JSON that is read."""
LONGEST_NAME: Final = 60
"""Characters of a field's name that is only a name."""
_STRING: Final = r'"[^"\\]*(?:\\.[^"\\]*)*'
# Of a list or a text no other sign tells it from words in brackets or quotes than that nothing stands before it.
_BEGIN: Final = re.compile(
    rf'\{{\s*(?={_STRING}"\s*:)|^[ \t]*\[\s*(?=["\[{{])|\A\s*(?={_STRING}"\s*\Z)', re.DOTALL | re.M
)
# What stands before a string of JSON: a quote within other words does not turn inside and outside round.
_VALUE: Final = re.compile(rf'(?:[{{\[,:]\s*|\A\s*)(?P<string>{_STRING})(?:"(?=(?P<name>\s*:)?)|\Z)', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def json_words(text: str, depth: int = DEPTH) -> str:
    """The values of all strings in a text's JSON, one per line; empty where it has none.

    The name of a field counts only if it is more than a name.

    Args:
        text: a reply or a request.
        depth: how often JSON within a value is read.
    """
    begin = _BEGIN.search(text) if len(text) <= LARGEST and '"' in text else None
    if begin is None:
        return ""
    values = []
    for match in _VALUE.finditer(text, begin.start()):
        value = _unescaped(match["string"][1:])
        if match["name"] is None or len(value) > LONGEST_NAME or len(value.split()) > 2:
            inner = json_words(value, depth - 1) if depth else ""
            values.append(inner if inner and _is_json(value) else f"{value}\n{inner}" if inner else value)
    return "\n".join(value for value in values if value)


def _unescaped(string: str) -> str:
    """What stands between the quotes of a string."""
    if "\\" not in string:
        return string
    try:
        return str(json.loads(f'"{string}"', strict=False))
    except ValueError:
        # Another escape than JSON's, or one that was cut off.
        return _ESCAPE.sub(_character, string)


def _character(escape: re.Match[str]) -> str:
    code = escape[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _CONTROLS.get(code, code)


def _is_json(text: str) -> bool:
    """Whether a text is JSON and nothing else."""
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True
