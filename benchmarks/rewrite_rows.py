"""The rows that the detoxifier is trained and tested on: harmful replies, and for training a harmless answer to each.

Harmful requests of this project (`reference/prompts`) and of AdvBench are answered by `reference/base`; replies that
people labelled harmful come from the training side of GPTFuzzer's and HarmBench's labels, and the rejected replies of
HH-RLHF (all MIT). The harmless answers are composed here from sentences of our own (`rewrite_sentences.toml`): what is
asked for, why it does harm, and what a person can do instead. None of them refuses. HH-RLHF's chosen replies are no
answers to learn from: many evade the question, and some help. Held-out questions are those of `guard_rows`; of HH-RLHF
a fifth is held out.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from encoder_rows import _csv, shared_data
from equipoise.guard.training_rows import RewrittenReply
from equipoise.reference.alignment_prompts import alignment_prompts
from guard_rows import key, reported

SENTENCES: Final = Path(__file__).parent / "rewrite_sentences.toml"
REPLIES_OF_ONE: Final = 4
"""Most labelled replies to one question."""


@dataclass(frozen=True)
class HarmKind:
    """A kind of harm and the sentences about it."""

    name: str
    words: tuple[str, ...]
    """Beginnings of words by which a question is recognised, lower case; with a space at the end, whole words."""
    verdicts: tuple[str, ...]
    """What is wrong with the act, after its name."""
    reasons: tuple[str, ...]
    alternatives: tuple[str, ...]


@cache
def kinds() -> tuple[HarmKind, ...]:
    """The kinds of `rewrite_sentences.toml`, narrow ones first; the last one takes what no other does."""
    tables = tomllib.loads(SENTENCES.read_text(encoding="utf-8"))["kinds"]
    return tuple(
        HarmKind(table["name"], *(tuple(table[part]) for part in ("words", "verdicts", "reasons", "alternatives")))
        for table in tables
    )


def kind_of(question: str) -> HarmKind:
    """The first kind with a word in the question."""
    text = f" {re.sub(r'[^a-z0-9-]+', ' ', question.lower())} "
    return next((kind for kind in kinds() if any(f" {word}" in text for word in kind.words)), kinds()[-1])


_ACTS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bhow (?:do|can|could|would|should) (?:i|we|you|one|someone) (?!think\b)(?:go about )?(?P<act>.+)",
        r"\b(?:how|ways?|strateg(?:y|ies)|steps|instructions|plan|trying|wants?|need|going|like) to (?P<act>.+)",
        r"\b(?:instructions|strateg(?:y|ies)|guide|tips|plan|tutorial|advice) (?:for|on) (?P<act>\w+ing\b.+)",
        r"\bcan you help me (?P<act>.+)",
    )
)
_TEXT: Final = re.compile(
    r"^(?:please )?(?:write|create|compose|draft|develop|generate|produce|design|make) (?:me )?"
    r"(?P<text>(?:an?|the) .+?)(?: for me)?$",
    re.IGNORECASE,
)
_IMPERATIVE: Final = re.compile(
    r"^(?:please )?(?P<act>(?:release|provide|outline|instruct|share|publish|train|post|manipulate|describe|give|list|"
    r"convince|persuade|suggest|generate|write|use|encourage|spread|compose|make|create|promote)\b.+)",
    re.IGNORECASE,
)
_VAGUE: Final = re.compile(r"(?:do|go about|accomplish|achieve) (?:it|this|that|so)\b", re.IGNORECASE)
_PERSONS: Final = {"my": "your", "me": "you", "i": "you", "myself": "yourself", "our": "your", "us": "you", "we": "you"}


def topic_of(question: str) -> tuple[str, str] | None:
    """What a question asks for, spoken to the person who asks.

    Returns:
        `act` with an infinitive, `doing` with a gerund or `text` with a noun phrase; None where no form fits.
    """
    # From the last sentence, which is usually the question; the first may hold what it only points at.
    for sentence in reversed(re.split(r"(?<=[.?!])\s", question.strip())):
        plain = sentence.rstrip(" .?!,:")
        for pattern in _ACTS:
            match = pattern.search(plain)
            if match and not _VAGUE.match(match["act"]):
                act = _addressed(match["act"])
                return ("doing" if re.match(r"\w+ing\b", act) else "act", act)
        if match := _TEXT.match(plain):
            return "text", _addressed(match["text"])
        if match := _IMPERATIVE.match(plain):
            act = _addressed(match["act"])
            return "act", act[0].lower() + act[1:]
    return None


def _addressed(phrase: str) -> str:
    words = phrase.strip().split(" ")
    turned = " ".join(_PERSONS.get(word.lower(), word) for word in words)
    return turned.replace("I'm", "you are").replace("i'm", "you are")


_OPENINGS: Final = {
    "act": ("To {topic} {verdict}.", "Trying to {topic} {verdict}.", "An attempt to {topic} {verdict}."),
    "doing": ("{Topic} {verdict}.", "Anything like {topic} {verdict}."),
    "text": ("{Topic} {verdict}.", "Spreading {topic} {verdict}."),
}
_WITHOUT_TOPIC: Final = ("What you describe {verdict}.", "Acting on this {verdict}.", "This {verdict}.")


def harmless_answer(question: str, random: np.random.Generator, *, nameless: bool = False) -> str:
    """A harmless answer to a question that asks for harm, of sentences written for this project.

    Args:
        question: which names the harm.
        random: draws the sentences.
        nameless: whether the answer does not say what was wanted.
    """
    kind, topic = kind_of(question), None if nameless else topic_of(question)
    verdict = _one(random, kind.verdicts)
    if topic is None or len(topic[1].split()) > 30:
        opening = _one(random, _WITHOUT_TOPIC).format(verdict=verdict)
    else:
        form, phrase = topic
        opening = _one(random, _OPENINGS[form]).format(
            topic=phrase, Topic=phrase[0].upper() + phrase[1:], verdict=verdict
        )
    parts = [opening, _one(random, kind.reasons), _one(random, kind.alternatives)]
    if random.random() < 1 / 3:
        parts.append(_one(random, [text for text in kind.alternatives if text not in parts]))
    return " ".join(parts)


def _one(random: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(random.integers(len(choices)))]


def harmful_requests() -> list[str]:
    """Requests without a reply: ours in two wordings, and those of AdvBench."""
    ours = [prompt.text for prompt in alignment_prompts(harmful_wordings=2) if prompt.kind == "harmful"]
    return [*ours, *(row["goal"] for row in _csv("advbench/harmful_behaviors.csv"))]


@dataclass(frozen=True)
class HarmfulReply:
    """A reply that should be rewritten."""

    id: str
    dataset: str
    question: str
    reply: str


def harmful_replies(side: str) -> list[HarmfulReply]:
    """Replies that people labelled harmful, and the rejected ones of HH-RLHF.

    Args:
        side: `train`, `choice` or `test`.
    """
    counts: dict[str, int] = {}
    kept = []
    for split in reported():
        row = split.row
        if row.dataset not in ("gptfuzz", "harmbench_val") or not row.harmful or split.side != side:
            continue
        counts[row.prompt] = counts.get(row.prompt, 0) + 1
        if row.prompt and counts[row.prompt] <= REPLIES_OF_ONE:
            kept.append(HarmfulReply(row.id, row.dataset, row.prompt, row.response))
    return [*kept, *(reply for reply in _rejected() if _side(reply.question) == side)]


def _side(question: str) -> str:
    digest = hashlib.sha256(key(question).encode(errors="surrogatepass")).digest()
    return "test" if digest[0] % 5 == 0 else "choice" if digest[0] % 5 == 1 and digest[1] % 2 else "train"


def _rejected() -> Iterator[HarmfulReply]:
    with gzip.open(shared_data() / "hh_rlhf_harmless/harmless-base-test.jsonl.gz", "rt", encoding="utf-8") as lines:
        for at, line in enumerate(lines):
            row = json.loads(line)
            head, _, rejected = row["rejected"].rpartition("\n\nAssistant:")
            question = head.rpartition("\n\nHuman:")[2].strip()
            if question and rejected.strip():
                yield HarmfulReply(f"hh-{at}", "hh", question, rejected.strip())


def names_harm(reply: HarmfulReply) -> bool:
    """Whether a question names a harm: the last turn of a dialogue of HH-RLHF often wants none, or names none."""
    known = kind_of(reply.question) is not kinds()[-1] and topic_of(reply.question) is not None
    return known or reply.dataset != "hh"


def lessons(own: Sequence[HarmfulReply], seed: int = 0) -> list[RewrittenReply]:
    """Rows to learn from, a harmless answer each.

    Args:
        own: replies to `harmful_requests`.
        seed: of the sentences that are drawn.
    """
    random = np.random.default_rng([seed, 41])
    held = {key(reply.question) for side in ("choice", "test") for reply in harmful_replies(side)}
    rows = []
    for number, reply in enumerate([*own, *harmful_replies("train")]):
        if key(reply.question) in held or not names_harm(reply):
            continue
        # Sometimes without the question, as a reply may come without one; then the topic stays out of the answer.
        nameless = number % 10 == 9
        answer = harmless_answer(reply.question, random, nameless=nameless)
        rows.append(RewrittenReply(reply.id, "" if nameless else reply.question, reply.reply, answer))
    return rows
