"""Spacing, leetspeak, ciphers, encodings and the vocabulary, each by itself."""

from __future__ import annotations

import base64
import codecs
import time

import pytest

from equipoise.guard.normalisation import leetspeak
from equipoise.guard.normalisation.ciphers import backwards, deciphered
from equipoise.guard.normalisation.encodings import decoded, from_base64, text_of
from equipoise.guard.normalisation.letter_gaps import joined
from equipoise.guard.normalisation.vocabulary import is_word, known_share, ranks, segmented, words_of


def test_frequent_words_come_first() -> None:
    assert ranks()["the"] < ranks()["house"] < ranks()["powder"]
    assert is_word("The")
    assert not any(is_word(word) for word in ("gur", "xzq", "qx", "th", ""))


def test_most_of_an_english_text_is_known() -> None:
    text = "Knead the dough for ten minutes, and let it rest for an hour in a warm room."
    assert known_share(words_of(text)) > 0.8
    assert known_share(words_of(codecs.encode(text, "rot13"))) < 0.3
    assert known_share([]) == 0.0


@pytest.mark.parametrize("text", ["mix the powder", "Nobody will look there", "open the window", "xqzv"])
def test_words_are_told_apart_without_spaces(text: str) -> None:
    assert segmented(text.replace(" ", "")) == text
    assert segmented("") == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("m i x  t h e  p o w d e r", "mix the powder"),
        ("m-i-x t-h-e p-o-w-d-e-r", "mix the powder"),
        ("m.i.x / t.h.e / p.o.w.d.e.r", "mix the powder"),
        ("m i x t h e p o w d e r", "mix the powder"),
        ("p_o_w_d_e_r", "powder"),
        ("S o ,  d o n ' t  ( e v e r )  m i x  i t .", "So, don't (ever) mix it ."),
        ("S-o-, d-o-n-'-t (-e-v-e-r-) m-i-x i-t", "So, don't (ever) mix it"),
        ("m i x i t , t h e n p o u r", "mix it, then pour"),
        ("m  i x   t h  e   p o  w d   e r  t h   e n   s t i  r", "mix the powder then stir"),
        ("t h e  p i c k p o c k e t i n g  i n  t h i s  m a r k e t", "the pickpocketing in this market"),
        ("The options are A, B, C, D, E, F.", "The options are A, B, C, D, E, F."),
        ("x, y, z, u, v, w = 1, 2, 3, 4, 5, 6", "x, y, z, u, v, w = 1, 2, 3, 4, 5, 6"),
        (
            "well-known, up-to-date, easy-to-use tools of all kinds",
            "well known, up to date, easy to use tools of all kinds",
        ),
    ],
)
def test_spaced_letters_are_words_and_lists_stay(text: str, words: str | None) -> None:
    result = joined(text)[0].split()
    assert result == (text if words is None else words).split()


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("a b0mb", "a bomb"),
        ("a b0mb!", "a bomb!"),
        ("k1ll and k!ll", "kill and kill"),
        ("Use an mp3, 2nd of May, 5kg, H2O, B2B, win32, x86, COVID19", None),
        ("It costs $100 or 20% more (see 3a).", None),
        ("Call exit() and hashlib.sha256(text.encode()).hexdigest(), or main(): they are functions.", None),
        ("a b()mb of p()wder", "a bomb of powder"),
        ("m4k3 4 b0mb 1n y0ur h0us3", "make a bomb in your house"),
        ("m@k3 @ b0m8 w!+h p0wd3r", "make a bomb with powder"),
        ("|<ill |-|im w1th p0ison n0w", "kill him with poison now"),
    ],
)
def test_digits_are_letters_only_within_words(text: str, reads: str | None) -> None:
    assert leetspeak.read(text) == (text if reads is None else reads)


@pytest.mark.parametrize("shift", [1, 3, 13, 25])
def test_every_shift_is_undone_by_sentence(shift: int) -> None:
    secret = "Open the front door with the small key and wait"
    table = {code: chr((code - 97 + shift) % 26 + 97) for code in range(97, 123)}
    table |= {code: chr((code - 65 + shift) % 26 + 65) for code in range(65, 91)}
    text = f"This is what I know about it. {secret.translate(table)}. The weather is nice today."
    assert deciphered(text) == f"This is what I know about it. {secret}. The weather is nice today."


@pytest.mark.parametrize(
    "text",
    [
        "Der Hund schläft heute lange in seinem Korb und träumt von Knochen.",
        "Le chat dort toute la journée sur le canapé du salon.",
        "Zxqv wjkp qqrt mnbv plkj.",
        "def f(x): return np.sqrt(x ** 2)",
    ],
)
def test_what_is_no_cipher_stays(text: str) -> None:
    assert deciphered(text) == text
    assert backwards(text) is None


def test_only_what_says_words_is_decoded() -> None:
    assert decoded("data: " + base64.b64encode(bytes(range(256))).decode()).startswith("data: AAEC")
    for text in (
        "deadbeefcafebabedeadbeef",
        "10 20 30 40 50 60 70 80",
        "0000000 1111111 0000000 1111111",
        "--- . --- .",
    ):
        assert decoded(text) == text
    assert decoded("... --- ... / .... . .-.. .--.").strip() == "sos help"


def test_base64_may_be_cut_and_of_either_alphabet() -> None:
    secret = "naïve words, and more ÿ of them?".encode()
    for run in (base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode().rstrip("=")):
        assert from_base64(run) == secret
        assert (text_of(from_base64(run[:-3]) or b"") or "").startswith("naïve words")
    assert from_base64("not base64!") is None
    assert text_of(b"\xff\x00\x9f" * 5) is None


@pytest.mark.parametrize(
    ("text", "reads"),
    [("The b0mb!!!!! is", "The bomb!!!!! is"), ("a t4x!!!!! here", "a taxi!!!! here"), ("b0mb,!,!", "bomb,!,!")],
)
def test_signs_behind_a_word_stay_and_those_within_are_letters(text: str, reads: str) -> None:
    assert leetspeak.read(text) == reads


@pytest.mark.parametrize("sign", ["!", "|", "!|", "!,"])
def test_a_row_of_signs_behind_a_word_is_read_in_linear_time(sign: str) -> None:
    begin = time.process_time()
    assert leetspeak.read(f"the b0mb{sign * 100_000} now").startswith(f"the bomb{sign * 2}")
    assert time.process_time() - begin < 5
