"""Preprocessing of a reply for the judges: markup and quotations removed, split into sentences and clauses.

Nothing here knows what a refusal is.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from equipoise.judges.phrase_packs import pack_of_letters, packs
from equipoise.served_models.chat_messages import only_calls
from equipoise.served_models.reasoning_traces import without_traces

READING: Final[dict[str, str]] = {
    "code block": r"(```|~~~).*?(?:\1|\Z)",
    "inline code": r"`[^`\n]{1,400}`",
    "quoted line": r"(?m)^[ \t]*>.*$",
    "quoted speech": r'"[^"\n]{1,600}"|\u201c[^\u201d\n]{1,600}\u201d|\u00ab[^\u00bb\n]{1,600}\u00bb',
    "quoted speech, single": r"(?<![A-Za-z])'(?=[^'\n]*\s)(?:[^'\n]|(?<=[A-Za-z])'(?=[A-Za-z])){3,600}'(?![A-Za-z])",
    "sentence end": (
        r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\b(?:Mr|Dr|St|vs|cf)\.)(?<!\b(?:Mrs|e\.g|i\.e|etc)\.)[\"')\]]*\s+|\n+"
    ),
    "clause end": r"\s*[,;:]\s+|\s+[-\u2013\u2014]+\s+|\s*\u2014\s*|\s+(?=(?:but|and|so|because|however|though)\b)",
}
"""The patterns of this module by what they find; the identity of a judge that reads this way covers them."""

_PATTERN: Final = {
    name: re.compile(pattern, re.DOTALL if name == "code block" else 0) for name, pattern in READING.items()
}
_QUOTES: Final = ("code block", "inline code", "quoted line", "quoted speech", "quoted speech, single")
_PLAIN: Final = str.maketrans(
    {"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u00b4": "'", "\u00a0": " ", "\u2011": "-"}
)

ENGLISH: Final = (
    "the a an of and to in is are was it i you that this for with on as not or but be have has by from at "
    "can't cannot i'm sorry yes there its if your my we they he she will would which what"
)
FUNCTION_WORDS: Final = {
    "English": frozenset(ENGLISH.split()),
    **{language: pack.words for language, pack in packs().items() if pack.words},
}
"""Frequent words that tell the Latin-script languages apart well enough to know when not to judge."""
UNTOLD_WORDS: Final = 5
"""Words without a frequent one of English from which on letters with accents tell another language."""
REFUSED_IF: Final = frozenset({"refusal", "refused", "is_refusal", "refuse", "declined", "rejected", "is_refused"})
HELPED_IF: Final = frozenset(
    {"can_answer", "can_help", "can_comply", "comply", "complies", "complied", "will_comply", "fulfilled", "answered",
     "success_possible"}
)  # fmt: skip
"""Fields of JSON that say by true or false, or by 1 or 0, whether a reply refuses."""
COUNTS: Final = frozenset({"declined", "rejected", "fulfilled", "answered"})
"""Those among them whose number may be a count."""
STATED_IN: Final = frozenset({"status", "decision", "result", "response"})
"""Fields of JSON that may say in a word that a reply refuses; they may as well say what became of something else."""
STATED: Final = frozenset({"refuse", "refused", "deny", "denied", "decline", "declined"})
"""The words."""

NOTHING: Final = frozenset({"null", "undefined", "nil", "nan"})
"""Words that a program writes where there is no text."""
MOST_MARKS: Final = 30
"""Combining marks in a row that any language needs, and more (Unicode's Stream-Safe Text Format, UAX 15)."""


def plain(reply: str) -> str:
    """The reply in plain characters: typographic apostrophes and markdown emphasis gone, reasoning left out."""
    # Traces go first: NFKC changes the marks of some.
    spoken = without_traces(reply)
    if only_calls(spoken):
        return ""
    text = _folded(spoken)
    text = _said_in_json(text) or text
    text = re.sub(r"(?m)^[ \t]*#{1,6}[ \t]+|\*\*|__|(?<![\w*])\*(?=\w)|(?<=[\w.,!?])\*(?!\w)", "", text)
    # A reply that is one quotation as a whole speaks for itself; `without_quotes` would leave nothing of it.
    whole = re.fullmatch(r"\s*([\"\u201c])([^\"\u201d]*)([\"\u201d])\s*", text)
    return (whole[2] if whole else text).strip()


def refusing_field(reply: str) -> str | None:
    """The field by which a reply that is JSON as a whole says that it refuses; None for others."""
    fields = _fields(_folded(without_traces(reply))) if re.search(r"[{\[]", reply) else None
    return _refusing(fields) if fields else None


def _folded(text: str) -> str:
    # NFKC folds full-width letters, ligatures and mathematical alphabets into plain ones: a refusal in bold Unicode
    # letters is read like any other.
    return unicodedata.normalize("NFKC", with_few_marks(text)).translate(_PLAIN)


def emptiness(text: str) -> str | None:
    """Why a text in plain characters says nothing, in words after "the reply ..."; None for most texts."""
    if not re.search(r"\w", text):
        return "has no words" if text else "is empty"
    return "is a word for nothing" if text.strip(" .<>[]()`'\"").lower() in NOTHING else None


def with_few_marks(text: str) -> str:
    """A text with at most `MOST_MARKS` combining marks in a row; sorting more takes a time growing as their square."""
    if text.isascii() or not any(map(unicodedata.combining, text)):
        return text
    kept, marks = [], 0
    for letter in text:
        marks = marks + 1 if unicodedata.combining(letter) else 0
        if marks <= MOST_MARKS:
            kept.append(letter)
    return "".join(kept)


def _said_in_json(text: str) -> str | None:
    """The sentences in a reply that is JSON as a whole, fenced or not; None for others, and for JSON that holds none.

    A field that says that the reply refuses becomes a sentence, so that judges of text read it like any other.
    """
    fields = _fields(text)
    if fields is None:
        return None
    name = _refusing(fields)
    sentences_in = [
        value for _, value in fields if isinstance(value, str) and (name in STATED_IN or _is_sentence(value))
    ]
    if name:
        sentences_in.insert(0, "I must decline.")
    return "\n".join(sentences_in) or None


def _is_sentence(text: str) -> bool:
    return len(words(text)) >= 3


def _fields(text: str) -> list[tuple[str, bool | int | str]] | None:
    """The truth values, whole numbers and texts, by name, of a reply that is JSON as a whole; None for others."""
    match = re.fullmatch(r"(?is)\s*(?:```(?:json)?\s*\n)?\s*(\{.*\}|\[.*\])\s*(?:\n?```)?\s*", text)
    if match is None:
        return None
    try:
        return _leaves(json.loads(match[1]))
    except (ValueError, RecursionError):
        return None


def _leaves(node: Any, name: str = "") -> list[tuple[str, bool | int | str]]:
    if isinstance(node, bool | int | str):
        return [(name.lower(), node)]
    if isinstance(node, list):
        return [leaf for item in node for leaf in _leaves(item, name)]
    return [leaf for key, value in node.items() for leaf in _leaves(value, str(key))] if isinstance(node, dict) else []


def _refusing(fields: list[tuple[str, bool | int | str]]) -> str | None:
    """The first field that says that the reply refuses."""
    spoken = {"yes": True, "true": True, "no": False, "false": False}
    for name, value in fields:
        flag = spoken.get(value.strip().lower()) if isinstance(value, str) else value
        if isinstance(flag, int) and flag in (0, 1) and (isinstance(flag, bool) or name not in COUNTS):
            if (name in REFUSED_IF and flag) or (name in HELPED_IF and not flag):
                return name
        elif isinstance(value, str) and name in STATED_IN and value.strip(" .!").lower() in STATED:
            return name
    return None


def without_quotes(text: str) -> str:
    """What the speaker says in their own voice: code and quotations are replaced by a placeholder."""
    # A placeholder, not nothing: "He said '...' and left" must stay a sentence with an object.
    for name in _QUOTES:
        text = _PATTERN[name].sub(" QUOTE ", text)
    return re.sub(r"[ \t]+", " ", text).strip()


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without the empty ones."""
    return [piece.strip() for piece in _PATTERN["sentence end"].split(text) if re.search(r"\w", piece)]


def clauses(sentence: str) -> list[str]:
    """The clauses of a sentence: what stands between commas, dashes and conjunctions."""
    return [piece.strip() for piece in _PATTERN["clause end"].split(sentence) if piece and piece.strip()]


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", text.lower())


def foreign(text: str) -> str | None:
    """The script or language that the English judges cannot read; None for English.

    Only what shows itself is named: a short reply in Latin letters without telling words passes as readable.
    """
    pack = pack_of_letters(text[:2000])
    letters = [character for character in text[:2000] if character.isalpha()]
    other = [character for character in letters if not unicodedata.name(character, "").startswith("LATIN")]
    if len(other) > 0.5 * len(letters):
        return pack.language if pack else f"letters such as {other[0]!r}"
    # A vote of the most frequent words. English wins ties, and another language needs three hits and half as many
    # again as English, because short words are shared ("die", "is", "a").
    # In code (`df.A`, `e = x['O']`) single letters are names, not words.
    spoken = words(re.sub(r"\w*(?:[._]\w|\w\s*=\s|[\['\"(]\w['\"\])])\w*", " ", text[:2000]))
    hits = {language: sum(word in frequent for word in spoken) for language, frequent in FUNCTION_WORDS.items()}
    likely = max(hits, key=lambda language: (hits[language], language == "English"))
    if hits[likely] >= 3 and hits[likely] > 1.5 * hits["English"]:
        return likely
    if hits["English"]:
        return None
    refusing = [name for name, pack in packs().items() if pack.words and hits[name] and pack.refusing(text)]
    if refusing:
        # "No puedo ayudarte": too few words for a vote, but a phrase of that language. "La Casa de Papel" is a name.
        return max(refusing, key=hits.__getitem__)
    accents = sum(character.isalpha() and not character.isascii() for character in text[:2000])
    if len(spoken) >= UNTOLD_WORDS and accents >= 2:
        return "a language that is not English"
    return None


@dataclass(frozen=True)
class Repetition:
    """What a reply says over and over."""

    unit: str
    """The words or the sentence repeated."""
    at_once: bool
    """Whether it is a few words repeated from the start, so that the reply says nothing else."""


def find_repetition(text: str) -> Repetition | None:
    """The repetition that makes up at least half of a reply; None for most replies.

    One to three words said at least five times in a row, or a sentence that is more than half of at least four.
    """
    spoken = text.split()
    for size in (1, 2, 3):
        # With period `size`, word i equals word i - size all along; `run` counts how many words in a row do. That finds
        # loops of any start in one pass.
        run = 1
        for index in range(size, len(spoken)):
            run = run + 1 if spoken[index] == spoken[index - size] else 1
            if run > 4 * size and run + size - 1 >= len(spoken) / 2:
                start = index - run - size + 2
                return Repetition(" ".join(spoken[index - size + 1 : index + 1]), at_once=start <= 8)
    spoken_sentences = [" ".join(words(sentence)) for sentence in sentences(text)]
    spoken_sentences = [sentence for sentence in spoken_sentences if len(sentence) > 12]
    favourite, count = (Counter(spoken_sentences).most_common(1) or [("", 0)])[0]
    if len(spoken_sentences) >= 4 and count > len(spoken_sentences) / 2:
        return Repetition(favourite, at_once=False)
    return None
