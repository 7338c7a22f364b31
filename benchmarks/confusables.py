"""Make the table of characters that look like Latin letters or digits.

    python benchmarks/confusables.py confusables.txt

`confusables.txt` is the data file of Unicode Technical Standard 39, from https://www.unicode.org/Public/security/latest.
Of its characters those are kept that NFKD does not turn into ASCII anyway. Characters that it maps to another one than
ASCII are resolved by their names: `LATIN LETTER SMALL CAPITAL B` is a b. Letters in circles, squares and flags, and
turned letters, are added by their names.
"""

from __future__ import annotations

import argparse
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

OUT = Path(__file__).parent.parent / "src" / "equipoise" / "guard" / "normalisation" / "confusables.txt"
NAMED = re.compile(
    r"(?:LATIN|NEGATIVE CIRCLED LATIN|NEGATIVE SQUARED LATIN|REGIONAL INDICATOR SYMBOL)"
    r"(?P<kind>(?: (?:CAPITAL|SMALL|LETTER|SMALL CAPITAL|TURNED|REVERSED|SIDEWAYS|OPEN|CLOSED|LONG))*)"
    r" (?P<letter>[A-Z]|KRA|ALPHA)(?: WITH .*)?"
)
OTHER_NAMES = {"KRA": "k", "ALPHA": "a"}
TWO = {"rn": "m", "vv": "w", "VV": "W"}
"""Pairs of letters that stand for one in the data file."""


def by_name(character: str) -> str | None:
    """The Latin letter in a character's name; None where there is none."""
    match = NAMED.fullmatch(unicodedata.name(character, ""))
    if match is None:
        return None
    letter = OTHER_NAMES.get(match["letter"], match["letter"])
    return letter if "CAPITAL" in match["kind"] and "SMALL" not in match["kind"] else letter.lower()


def ascii_of(text: str) -> str | None:
    """A prototype as ASCII letters and digits; None where it has others."""
    letters = []
    for character in unicodedata.normalize("NFKD", text):
        if unicodedata.combining(character):
            continue
        # The prototype of the Cyrillic m is a w upside down.
        letter = character if character.isascii() else "m" if character == "\u028d" else by_name(character)
        if letter is None:
            return None
        letters.append(letter)
    joined = TWO.get("".join(letters), "".join(letters))
    return joined if joined.isalnum() else None


def entries(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Characters with what they look like."""
    for line in lines:
        fields = line.split("#")[0].split(";")
        if len(fields) < 3:
            continue
        source = "".join(chr(int(code, 16)) for code in fields[0].split())
        prototype = ascii_of("".join(chr(int(code, 16)) for code in fields[1].split()))
        if len(source) != 1 or source.isascii() or prototype is None:
            continue
        # The standard's prototype of I, l and 1 is l; of a capital letter that is the wrong one.
        if prototype == "l" and unicodedata.category(source) == "Lu":
            prototype = "I"
        yield source, prototype
    for code in range(0x80, sys.maxunicode):
        letter = by_name(chr(code))
        if letter is not None:
            yield chr(code), letter


def main() -> None:
    """Read the standard's file and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("confusables", type=Path)
    lines = parser.parse_args().confusables.read_text(encoding="utf-8-sig").splitlines()
    version = next(line for line in lines if "Version" in line).split()[-1]
    table: dict[str, str] = {}
    for source, letters in entries(lines):
        # Signs such as those of money and arithmetic are not letters in ordinary text; `So` has letters in squares.
        if not ascii_of_compatibility(source) and re.match("[LN]|So", unicodedata.category(source)):
            table[source] = by_name(source) or letters
    rows = [f"{ord(source):04X} {letters}" for source, letters in sorted(table.items())]
    head = (
        f"# Characters that look like Latin letters or digits, from the data of UTS 39, version {version}, and names.\n"
        "# Copyright 1991-2025 Unicode, Inc. Licence: Unicode-3.0 (https://www.unicode.org/license.txt).\n"
        "# Made by benchmarks/confusables.py: code point, what it looks like.\n"
    )
    OUT.write_text(head + "\n".join(rows) + "\n", encoding="ascii")
    print(len(rows))


def ascii_of_compatibility(character: str) -> bool:
    """Whether NFKD without marks gives ASCII, so that no table is needed."""
    parts = unicodedata.normalize("NFKD", character)
    return "".join(part for part in parts if not unicodedata.combining(part)).isascii()


if __name__ == "__main__":
    main()
