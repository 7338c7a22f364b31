"""No text costs more than a time that grows as its length, and none makes a reading fail."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from equipoise.guard.gateway import blobs
from equipoise.guard.gateway.file_parts import plain_text
from equipoise.guard.normalisation.json_words import json_words
from equipoise.guard.normalisation.readings import readings

LENGTH = 40_000
HOSTILE: dict[str, Callable[[int], str]] = {
    "bits of another script": lambda n: "\u0660" * n + "\u0662",
    "bits": lambda n: "0" * n + "2",
    "bits in gaps": lambda n: "0000000 " * (n // 8) + "2",
    "letters in bits": lambda n: "01101000 " * (n // 9) + "2",
    "places that end in a hyphen": lambda n: "1- " * (n // 3),
    "places": lambda n: "1 " * (n // 2) + "x",
    "one long word and a letter with an accent": lambda n: "a" * n + " \u00e9",
    "marks out of order": lambda n: "a" + "\u0301" * (n // 2) + "\u0316" * (n // 2),
    "marks of several scripts out of order": lambda n: "\u05d0" + "\u05b0\u0301\u0316\u0f71" * (n // 4),
    "many different signs": lambda n: "".join(chr(0x4E00 + at % 20_000) for at in range(n)),
    "hidden words": lambda n: " ".join(f"a*{chr(97 + at % 26)}{chr(97 + at // 26 % 26)}b" for at in range(n // 6)),
    "sentences in no cipher": lambda n: "Xqzv wvkp jjqq zzxv qwkk.\n" * (n // 26),
    "data URLs": lambda n: "data:," * (n // 6),
    "data URLs with a type": lambda n: "data:a/b;c=d," * (n // 13),
    "blanks": lambda n: " " * n + "!",
    "comments that never end": lambda n: "<!--" * (n // 4),
    "letters in a row": lambda n: "a" * n,
    "words of signs": lambda n: "a#" * (n // 2),
    "brackets": lambda n: "[" * n,
    "backslashes": lambda n: "\\" * n,
    "percent signs": lambda n: "%4" * (n // 2),
    "pieces of strings": lambda n: '"a" + ' * (n // 6),
    "objects that never end": lambda n: '{"a":' * (n // 5),
    "strings that never end": lambda n: '{"a":"b"}' + ":\"\\'" * (n // 4),
    "escaped quotes": lambda n: '{"a' + '\\"' * (n // 2),
    "empty lines before a quote": lambda n: "\n" * n + '"',
}
READERS: dict[str, Callable[[str], object]] = {
    "readings": readings,
    "blobs": blobs.read,
    "file": plain_text,
    "json": json_words,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_text_is_read_in_a_time_that_grows_as_its_length(kind: str, reader: str) -> None:
    begin = time.process_time()
    READERS[reader](HOSTILE[kind](LENGTH))
    # The quadratic patterns that stood here took from 8 seconds to days; every reading takes below 2 on a slow core.
    assert time.process_time() - begin < 6


@pytest.mark.parametrize(
    "odd", ["&#" + "9" * 5000 + ";", "&#x" + "9" * 5000, "w0w" + "!" * 3000, "\u0131" * 100, "\u212a" * 99]
)
def test_an_odd_text_beside_another_hides_nothing(odd: str) -> None:
    several = readings(f"{odd} k#ill th@em, ta^ke th~em and hi%de th&em.")
    assert any("kill them, take them and hide them" in reading.text for reading in several)
    assert "take care" in blobs.read(f"{odd} take care").words


def test_letters_that_only_look_like_ascii_are_no_base64() -> None:
    address = "belgeler/kullan\u0131c\u0131-hesaplar\u0131/bildirim-ayarlar\u0131/varsay\u0131lan_ayarlar_sayfas\u0131/"
    assert blobs.read(address) == blobs.Read(address)


def test_a_text_that_cannot_be_taken_apart_is_read_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str, depth: int) -> blobs.Read:
        raise ValueError("unforeseen")

    monkeypatch.setattr(blobs, "_read", broken)
    assert blobs.read("x" * 100) == blobs.Read("x" * 100)


def test_nonsense_before_a_word_with_hidden_letters_does_not_hide_it() -> None:
    nonsense = " ".join(f"q*x{chr(97 + at % 26)}{chr(97 + at // 26 % 26)}" for at in range(600))
    assert "build a bomb and kill people" in readings(f"{nonsense} b*ild a b*mb and k*ll p*ople")[0].text
