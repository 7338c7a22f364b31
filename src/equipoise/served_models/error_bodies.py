"""Parses the body of an error response: its fields, however gateways nest them, and the server's message.

Servers wrap an error in `error` or not, put a text where others put an object, and gateways put the error of the
server behind them into a field of their own or, as JSON, into the message. Only known wrappings are opened: a server
that repeats the prompt in its error (`input`, `messages`) must not make a code of what a user wrote.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

WRAPPINGS: Final = frozenset({
    "error", "errors", "innererror", "providerspecificfields", "metadata", "raw", "detail", "details", "body", "cause",
    "upstream", "upstreamerror", "originalerror", "response", "promptfeedback", "contentfilter", "baseresp", "data",
    "loc", "message", "candidates", "stopdetails",
    # Azure's verdicts, by category.
    "promptfilterresults", "contentfilterresults", "contentfilterresult", "hate", "selfharm", "sexual", "violence",
    "jailbreak", "indirectattack", "profanity", "protectedmaterialtext", "protectedmaterialcode", "customblocklists",
})  # fmt: skip
"""Names of fields whose content is part of the error, as `normal` writes them."""
WORDS: Final = ("message", "error", "detail", "msg", "errormessage", "errormsg", "errordescription", "statusmsg",
                "title", "raw", "body", "blockreasonmessage", "reason")  # fmt: skip
"""Names of fields that hold a server's message, the most specific first."""
PREFIX: Final = re.compile(
    r"(?:Error from provider\([^)]*\):\s*|(?:HTTP |Error code: )?\d{3,5}\s*[:-]?\s+|Invalid prompt:\s*"
    r"|The model returned the following errors:\s*"
    r"|[\w.]*(?:Error|Exception)\b(?:\s*[:-])?\s+)"
)
"""Prefixes that libraries and gateways write before the message of the server behind them."""
DEEP: Final = 8
"""How deep wrappings are followed."""
MANY: Final = 400
"""Largest number of fields that are read."""
PREFIXES: Final = 50
"""Prefixes of a message that are taken off, at most."""
LONGEST: Final = 20_000
"""Characters of a message in which JSON is looked for."""


@dataclass(frozen=True)
class Field:
    """A value in a body."""

    path: tuple[str, ...]
    """Names on the way to it, as `normal` writes them; the last one is its own."""
    value: str
    """The value as text; empty for an object or a list."""


def normal(name: str) -> str:
    """A name or code without case, underscores, hyphens and blanks: `content_filter` equals `ContentFilter`."""
    return re.sub(r"[\s_-]", "", name).lower()


def fields(body: Any) -> list[Field]:
    """The fields of a body that are part of the error, in order, nested and embedded ones too.

    Args:
        body: parsed JSON of any kind, or text.
    """
    collected: list[Field] = []
    for field in _walk({"body": body} if isinstance(body, str) else body, (), 0):
        collected.append(field)
        if len(collected) >= MANY:
            break
    return collected


def words(body: Any) -> str:
    """The message in a body, in one line; the body itself where it has no message, empty for no body."""
    texts = messages(body)
    if texts or not body:
        return texts
    return " ".join((body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, default=str)).split())


def messages(body: Any) -> str:
    """The message in a body, and that of the server behind it where it says more, in one line; empty for none."""
    telling = [field for field in fields(body) if field.path[-1] in WORDS]
    texts: list[str] = []
    for field in sorted(telling, key=lambda field: (len(field.path) > 2, WORDS.index(field.path[-1]))):
        text = " ".join(field.value.split())
        if text and not any(text in other for other in texts):
            texts.append(text)
    return " | ".join(texts[:2])


def unwrapped(text: str) -> list[str]:
    """A message, and what is left of it after each prefix that a library or gateway wrote before it."""
    # Each prefix copies what is left: of a message that consists of prefixes, as an echo of numbers, only the first.
    texts = [text.strip()[:LONGEST]]
    while len(texts) <= PREFIXES and (prefix := PREFIX.match(texts[-1])) and prefix.end():
        texts.append(texts[-1][prefix.end() :])
    return texts


def parsed(text: str) -> Any:
    """A body that came as text: its JSON, or the text where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _walk(node: Any, path: tuple[str, ...], depth: int) -> Iterator[Field]:
    if depth > DEEP:
        return
    if isinstance(node, list):
        for item in node:
            if isinstance(item, Mapping | list):
                yield from _walk(item, path, depth + 1)
            elif isinstance(item, str) and path:
                yield Field(path, item)
        return
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        name = normal(str(key))
        here = (*path, name)
        if isinstance(value, str):
            yield Field(here, value)
            if name in WRAPPINGS or name in WORDS:
                # A gateway may put the JSON of the server behind it into its message, as text. Only where the whole
                # text is an object is it read; an object that a user wrote within a sentence is not.
                yield from _walk(_embedded(value), here, depth + 1)
        elif isinstance(value, Mapping | list):
            yield Field(here, "")
            if name in WRAPPINGS:
                yield from _walk(value, here, depth + 1)
        elif value is not None:
            yield Field(here, str(value))


def _embedded(text: str) -> Any:
    """The object that a message consists of, apart from what was written before and after it; None where it is none.

    Gateways write JSON, and clients in Python what Python shows of it.
    """
    rest = unwrapped(text[:LONGEST])[-1]
    if rest.startswith(("b'", 'b"')):
        rest = rest[2:]
    if not rest.startswith(("{", "[")):
        return None
    try:
        return json.JSONDecoder().raw_decode(rest)[0]
    except (ValueError, RecursionError):
        end = rest.rfind("}") + 1
    try:
        return ast.literal_eval(rest[:end])
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
