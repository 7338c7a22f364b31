r"""Reads the answer of a judging model: which of the offered letters it names, in any of the usual forms.

A model that was asked for one letter may write `A`, `**Answer:** A`, `\boxed{A}`, JSON in a fence, or a letter and an
explanation. A form is read where it can mean one letter only. Where two forms of equal rank name two letters, or the
words after a letter name another one, nothing is read: a wrong verdict is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

VERDICT: Final = re.compile(
    r"(?i)(?<![\"'<])\bverdict\b[\s*_`\"']{0,4}(?:[:=]|\bis\b:?)"
    # Without a colon only where nothing else is on the line: "I did not choose verdict A" is none.
    r"|(?m:^)[ \t>*_`-]*(?:(?:final|revised|corrected|updated|overall|new|my)[ \t]+)?verdict[ \t*_`\"']+"
    r"(?=(?-i:[A-Z])[*_`\"')\].!]*[ \t]*(?m:$))"
)
"""What the judge is asked to write where it must write more than a letter."""
LABELLED: Final = re.compile(
    r"(?i)\b(?:(?:final|my|correct|best|overall) )?(?:answer|choice|label|option|classification|rating|judge?ment"
    r"|letter|verdict|conclusion|decision|score|result|refusal|harm)\b"
    # Not "verdict (quoted)": so the prompt defuses a verdict in the material, and a judge may copy that.
    r"(?:[ \t]*\((?!quoted\))[^()\n]{1,24}\))?[\s*_`\"']{0,4}"
    r"(?:[:=\uff1a\u2192]|[-=]>|[-\u2013\u2014](?=\s)|\bis\b:?|\b(?:would|should|must) be\b)"
    r"|(?m:^)[ \t]*\#{1,4}[ \t]*(?:final )?(?:verdict|answer|label)[ \t]*\n+"
    r"|\b(?:therefore|thus|hence)\b[,:]|\bi(?:'d| would)? (?:choose|pick|select|go with|say)\b"
)
"""An answer with a name before it."""
MARKED: Final = re.compile(
    r"\\boxed\s*\{(?P<boxed>[^{}]*|\\\w+\s*\{[^{}]*\})\}|\[\[(?P<double>[^\[\]\n]{1,20})\]\]"
    r"|<(?P<tag>answer|verdict|label|choice|final_answer)>\s*(?P<tagged>[^<>]{1,40}?)\s*</(?P=tag)>"
)
"""An answer between marks."""
KEYED: Final = re.compile(
    r"(?i)[\"'](?:(?:final_?)?(?:verdict|answer|label|choice|option|letter|rating|judge?ment|classification|decision"
    r"|result|response)|refusal|harm)[\"']\s*:\s*(?:\[\s*)?"
    r"(?:[\"'](?P<value>[^\"'\n]{1,40})[\"']|(?P<bare>[A-Z])(?=\s*[,}\]\n]))"
)
"""A field of JSON whose name says that the answer is in it."""
TABLE_ROW: Final = re.compile(r"(?m)^[ \t]*\|(.+)\|[ \t]*$")
TABLE_NAMES: Final = ("final verdict", "verdict", "answer", "label", "choice", "letter")
"""Headings of the column of a table that holds the answer, the most certain first."""
OPENING: Final = re.compile(r"[\s*_`\"'(\[<$]*(?:(?i:option|letter|choice)\s+)?")
"""What may stand before the letter."""
AFTER: Final = re.compile(
    r"[)\]][ \t]|[*_`\"')\]$}]*[ \t]*(?:$|[.,;:!\n(\u3002\uff0c\uff1a\uff1b\uff09]|[-\u2013\u2014]+[ \t]|/?>)"
)
"""What must stand after a letter, or it begins a sentence: "A reply that ..." names no letter."""
RETRACTS: Final = re.compile(
    r"(?i)\b(?:actually|wait|hmm|correction|rather|instead|on second thoughts?|on reflection|reconsider(?:ing|ed)?"
    r"|however|scratch that|strike that|oops|sorry|no[,:;])(?!\w)"
)
"""Words with which a judge takes its verdict back."""
DENIED: Final = re.compile(
    r"(?i)(?:\b(?:no|not|nothing|without|never|neither|nor|hardly|rather than|less than|lacks?|avoids?|short of)|n't)"
    r"\s+(?:(?!(?:but|wait|actually|this|it)\b)[\w'-]+\s+){0,5}\Z"
)
"""What stands before a label or letter that is said not to apply: "There is no severe harm"."""
ENDS: Final = r"[*_`\"')\]$}]*[ \t]*(?:[.!]?[ \t]*$|[,;:(])"
"""What must stand after a label on its line."""


@dataclass(frozen=True)
class ReadLetter:
    """A letter that an answer names, and where it stands."""

    letter: str
    """One of those on offer."""
    start: int
    """Where it stands."""


def read_letter(text: str, meanings: Mapping[str, str], material: str = "") -> ReadLetter | str:
    """The letter that an answer names, or what is wrong with it in words that follow "the judge ...".

    Args:
        text: the judge's own words; traces and long copies of the material have been blanked.
        meanings: the label by the letter on offer.
        material: what was judged; an answer that also stands there may be a copy and is not read.
    """
    # A verdict goes before everything else, and only the last one counts: a judge may change its mind.
    verdicts = list(VERDICT.finditer(text))
    if verdicts:
        rest = verdicts[-1].end()
        last = _letter_at(text, rest, meanings)
        if last and _is_taken_back(text[last.start :], last.letter, meanings):
            return f"named {last.letter!r} and then another one"
        return last or _unread(text[rest:], meanings)
    first = _letter_at(text, 0, meanings)
    others = [*_between_marks(text, meanings, _folded(material)), *_labelled(text, meanings, _folded(material))]
    candidates = [first, *others] if first else others
    letters = {candidate.letter for candidate in candidates} | _begun(text, meanings)
    if len(letters) > 1:
        return f"named {' and '.join(sorted(letters))}"
    if not candidates:
        return _unread(text, meanings) if _is_short(text) else "named no verdict"
    # An explanation after the letter may take it back: "A - no, C fits better".
    last = max(candidates, key=lambda candidate: candidate.start)
    alone = not others and _names_another(text[last.start + 1 :], last.letter, meanings)
    if alone or _is_taken_back(text[last.start :], last.letter, meanings):
        return f"named {last.letter!r} and then another one"
    return last


def _between_marks(text: str, meanings: Mapping[str, str], material: str) -> Iterator[ReadLetter]:
    for match in MARKED.finditer(text):
        group = next(name for name in ("boxed", "double", "tagged") if match[name] is not None)
        inner = re.match(r"\\\w+\s*\{", match[group])
        read = _whole(match[group], match.start(group), meanings, skip=inner.end() if inner else 0)
        if read and _folded(match[0]) not in material:
            yield read
    for match in KEYED.finditer(text):
        group = "value" if match["value"] else "bare"
        read = _whole(match[group], match.start(group), meanings)
        if read and _folded(match[0]) not in material:
            yield read
    if (cell := _cell_of_table(text)) is not None:
        read = _whole(*cell, meanings)
        if read and _folded(text[cell[1] - 40 : read.start + 1]) not in material:
            yield read


def _cell_of_table(text: str) -> tuple[str, int] | None:
    """The answer in a Markdown table of one row, and where it stands; None where there is no such table."""
    rows = list(TABLE_ROW.finditer(text))
    if len(rows) != 3 or not re.fullmatch(r"[\s|:-]+", rows[1][0]):
        return None
    heads = [head.strip(" *_`").casefold() for head in rows[0][1].split("|")]
    name = next((name for name in TABLE_NAMES if heads.count(name) == 1), None)
    cells = rows[2][1].split("|")
    if name is None or len(cells) != len(heads):
        return None
    index = heads.index(name)
    cell = cells[index]
    start = rows[2].start(1) + sum(len(before) + 1 for before in cells[:index]) + len(cell) - len(cell.lstrip())
    return cell.strip(), start


def _labelled(text: str, meanings: Mapping[str, str], material: str) -> Iterator[ReadLetter]:
    for match in LABELLED.finditer(text):
        read = _letter_at(text, match.end(), meanings)
        if read and _folded(text[match.start() : read.start + 1]) not in material:
            yield read


def _begun(text: str, meanings: Mapping[str, str]) -> set[str]:
    """The letters after names of answers, whatever stands behind them: "Conclusion: A. Final answer: C" names two."""
    ends = (OPENING.match(text, match.end()) for match in LABELLED.finditer(text))
    starts = [opening.end() for opening in ends if opening is not None]
    return {text[start] for start in starts if text[start : start + 1] in meanings and AFTER.match(text, start + 1)}


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _whole(value: str, start: int, meanings: Mapping[str, str], skip: int = 0) -> ReadLetter | None:
    """The letter that a value consists of, or begins with before its meaning."""
    stripped = value[skip:].rstrip(" }$*_`")
    read = _letter_at(f"{stripped}\n", 0, meanings)
    return ReadLetter(read.letter, start + skip + read.start) if read else None


def _letter_at(text: str, start: int, meanings: Mapping[str, str]) -> ReadLetter | None:
    """The letter at a place, or the letter of the label there; None where what follows may mean something else."""
    # A fence of code around the answer: the name of a language is no answer.
    fence = re.compile(r"\s*```[a-z]*\s*\n").match(text, start)
    opening = OPENING.match(text, fence.end() if fence else start)
    at = opening.end() if opening else start
    line = text[at:].split("\n", 1)[0]
    denied = re.match(r"(?i)no (?:refusal|harm)[*_`\"')\]]*[ \t]*[.!]?[ \t]*$", line)
    if denied and "none" in meanings.values():
        return ReadLetter(next(letter for letter, meaning in meanings.items() if meaning == "none"), at)
    for letter, meaning in meanings.items():
        if line[:1].upper() == letter and AFTER.match(text, at + 1) and not _another_on(line, letter, meanings):
            return ReadLetter(letter, at)
        if re.match(rf"(?i){re.escape(meaning)}(?:[ \t]+(?:refusal|harm))?{ENDS}", line):
            return None if _another_on(line, letter, meanings) else ReadLetter(letter, at)
        spelled = re.match(rf"(?i){letter}[ \t]+[(\"']?{re.escape(meaning)}\b", line)
        if spelled and not _another_on(line, letter, meanings):
            return ReadLetter(letter, at)
    return None


def _another_on(line: str, letter: str, meanings: Mapping[str, str]) -> bool:
    """Whether a line that begins with a letter, or with its label, goes on with another one: "A or B", "A: full"."""
    if _names_another(line[1:], letter, meanings):
        return True
    head = re.match(
        r"(?i)\s*[A-Z][*_`\"')\]]*[ \t]*[:.,(=\u2013\u2014-]+[ \t*_`\"']*(\w+)[*_`\"')\]]*[ \t]*(?:$|[.,;(])", line
    )
    own = meanings[letter]
    return head is not None and head[1].lower() in {label for label in meanings.values() if label != own}


def _names_another(text: str, letter: str, meanings: Mapping[str, str]) -> bool:
    """Whether a text names one of the other letters: capital, alone, and no article."""
    for other in meanings:
        # "A" before a word is the article; before a mark or the end it is the letter.
        alone = (
            rf"(?<![\w']){other}(?![\w'])"
            if other != "A"
            else r"(?<![\w'])A(?=\s*(?:[.,;:)\]\"*!?/]|$"
            r"|(?:or|and|could|would|might|may|is|also|fits|applies)\b))"
        )
        if other != letter and re.search(alone, text):
            return True
    return False


def _is_taken_back(text: str, letter: str, meanings: Mapping[str, str]) -> bool:
    """Whether a text that begins with a verdict names another letter or label as the right one.

    A label counts as one before "refusal" or "harm", and after a word that takes the verdict back also where a clause
    ends with it; a letter counts after such a word, and at the end of a line after "verdict". A reason may deny the
    other labels.
    """
    # Behind the letter or the label itself.
    text = re.sub(r"\A\w+", lambda own: " " * len(own[0]), text)
    others = {own: re.escape(label) for own, label in meanings.items() if own != letter}
    labels = "|".join(others.values())
    named = rf"(?i:\b(?:{labels})\s+(?:refusal|harm)\b)|(?i:\bverdict)[\s*_`]+(?:{'|'.join(others)})(?=\W*?(?m:$))"
    if _is_affirmed(named, text):
        return True
    retracting = RETRACTS.search(text)
    if retracting is None:
        return False
    rest = text[retracting.start() :]
    nothing = r"|\bno\s+(?:refusal|harm)\b" if "none" in others.values() else ""
    wider = rf"(?i:(?<!\bin )\b(?:{labels})(?=[*_`\"')\]]*\s*(?:$|[.,;:!?\n])){nothing})"
    return _names_another(rest, letter, meanings) or _is_affirmed(wider, rest)


def _is_affirmed(pattern: str, text: str) -> bool:
    """Whether a text holds a pattern where nothing before it denies it."""
    return any(not DENIED.search(text, 0, match.start()) for match in re.finditer(pattern, text))


def _unread(text: str, meanings: Mapping[str, str]) -> str:
    letters = ", ".join(meanings)
    named = re.match(r"\W*(\w+)", text)
    return f"named {named[1][:20] if named else 'nothing'!r}, not one of {letters}"


def _is_short(text: str) -> bool:
    return bool(re.fullmatch(r"\W*\w{1,2}\W*", text))
