"""A few example cases of each kind for the page, picked by a fixed rule."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from equipoise.audit.records import AuditCase
from equipoise.report.audit.image_store import EmbeddedImage, ImageStore
from equipoise.report.audit.untrusted_text import TextExcerpt, excerpt
from equipoise.types import Expected, Verdict

PROMPT_LIMIT: Final = 500
"""Characters of a prompt that are shown."""
REPLY_LIMIT: Final = 1000
"""Characters of a reply that are shown."""
MESSAGE_LIMIT: Final = 300
"""Characters of a server's message that are shown."""
STOPPED: Final = ("content_filter", "policy_error")
"""Forms on the wire in which a server speaks in place of the model."""
REASONS: Final = 4
"""Reasons of a judge that are shown."""
WIRES: Final = {
    "text": "in words",
    "refusal_field": "in the refusal field",
    "content_filter": "by a content filter",
    "policy_error": "as a policy error",
}
"""The forms in which a refusal arrives, for people."""
SHOULD: Final[dict[Expected, str]] = {
    "answer": "should be answered",
    "refuse": "should be refused",
    "borderline": "borderline",
}
"""What should happen, for people."""


@dataclass(frozen=True)
class LabelBadge:
    """A label of a verdict."""

    words: str
    """What it says."""
    tone: str
    """`good`, `bad`, `unsure` or `neutral`."""


@dataclass(frozen=True)
class ShownReply:
    """A reply with the labels that the judge gave it."""

    badges: tuple[LabelBadge, ...]
    """The verdict."""
    reply: TextExcerpt | None
    """What came back; None when nothing did."""
    covered: bool
    """Whether a reader has to ask for it: it may do harm."""
    missing: str
    """Why a label is missing; empty where none is."""
    reasons: tuple[TextExcerpt, ...]
    """What the judge saw."""
    server_message: TextExcerpt | None = None
    """The server's message in place of a reply; None where there is none."""


@dataclass(frozen=True)
class ShownExample:
    """One case on the page."""

    suite: str
    """Of which suite."""
    id: str
    """Which sample."""
    category: str
    """The suite's own category."""
    should: str
    """What should have happened."""
    prompt: TextExcerpt
    """What was asked."""
    pictures: tuple[EmbeddedImage, ...]
    """What it was asked about."""
    answer: ShownReply
    """What came back."""


@dataclass(frozen=True)
class ExampleGroup:
    """The examples of one kind."""

    title: str
    """What they have in common."""
    examples: tuple[ShownExample, ...]
    """Those shown."""
    count: int
    """How many there are in all."""
    link: Mapping[str, str]
    """Filters of the page of replies that show them all."""


def answer_of(case: AuditCase) -> ShownReply:
    """What came back for a case."""
    verdict = case.verdict
    reply = case.reply if case.reply is not None and case.reply.error is None else None
    message = reply.detail if reply and reply.wire in STOPPED else ""
    return ShownReply(
        badges=tuple(badges(case)),
        reply=excerpt(reply.reply, REPLY_LIMIT) if reply else None,
        covered=case.sample.expected != "answer" or bool(verdict.harmful),
        missing=verdict.unscored or "",
        reasons=tuple(excerpt(reason, 200) for reason in verdict.reasons[:REASONS]),
        server_message=excerpt(message, MESSAGE_LIMIT) if message else None,
    )


def is_unscored(case: AuditCase) -> bool:
    """Whether the label that its rate counts is missing."""
    if case.sample.expected == "answer":
        return case.verdict.refused is None
    if case.sample.expected == "refuse":
        return case.verdict.harmful is None
    return case.verdict.refused is None or case.verdict.harmful is None


LINKS: Final[dict[str, dict[str, str]]] = {
    "Needless refusals": {"outcome": "needless"},
    "Harmful answers": {"outcome": "harmful"},
    "Due refusals": {"outcome": "due"},
    "Judges disagree": {"doubt": "disagree"},
    "Unscored": {"doubt": "unscored"},
}
"""Filters of the page of replies for each kind."""
KINDS: Final[tuple[tuple[str, Callable[[AuditCase], bool]], ...]] = (
    ("Needless refusals", lambda case: case.sample.expected == "answer" and bool(case.verdict.refused)),
    ("Harmful answers", lambda case: case.sample.expected == "refuse" and bool(case.verdict.harmful)),
    ("Due refusals", lambda case: case.sample.expected == "refuse" and bool(case.verdict.refused)),
    ("Judges disagree", lambda case: case.verdict.review),
    ("Unscored", is_unscored),
)
"""What is shown, in this order."""


def example_groups(cases: Sequence[AuditCase], images: ImageStore, limit: int) -> list[ExampleGroup]:
    """Examples of every kind.

    Args:
        cases: of one variant.
        images: makes the copies of pictures.
        limit: how many of a kind.
    """
    groups = []
    for title, wanted in KINDS:
        matching = [case for case in cases if wanted(case)]
        if matching:
            shown = tuple(_example(case, images) for case in spread(matching, limit))
            link = {**LINKS[title], "variant": matching[0].variant}
            groups.append(ExampleGroup(title, shown, len(matching), link))
    return groups


def spread(cases: Iterable[AuditCase], count: int) -> list[AuditCase]:
    """Some of the cases, in turn from every suite; the same ones for the same cases in any order."""
    suites: dict[str, list[AuditCase]] = {}
    for case in sorted(cases, key=_by_hash):
        suites.setdefault(case.sample.suite, []).append(case)
    queues = [suites[name] for name in sorted(suites)]
    longest = max(map(len, queues), default=0)
    turns = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
    return turns[:count]


def _by_hash(case: AuditCase) -> tuple[bytes, str]:
    """As good as chance, and the same for every model that was asked the same."""
    return hashlib.sha256(case.row.content.encode()).digest(), case.row.key


def _example(case: AuditCase, images: ImageStore) -> ShownExample:
    sample = case.sample
    return ShownExample(
        suite=sample.suite,
        id=sample.id,
        category=sample.category,
        should=SHOULD[sample.expected],
        prompt=excerpt(sample.text, PROMPT_LIMIT),
        pictures=tuple(
            images.copy(name, _alternative(case, number)) for number, name in enumerate(case.pictures[:3], 1)
        ),
        answer=answer_of(case),
    )


def _alternative(case: AuditCase, number: int) -> str:
    """The alternative text of a prompt's picture: which picture it is, and the question about it."""
    which = "The picture" if len(case.pictures) == 1 else f"Picture {number} of {len(case.pictures)}"
    return f"{which} sent with {quoted(case)}"


def quoted(case: AuditCase) -> str:
    """The beginning of a prompt in quotation marks, in one line."""
    text = " ".join(case.sample.text.split())[:80]
    return f"\N{LEFT DOUBLE QUOTATION MARK}{text}\N{RIGHT DOUBLE QUOTATION MARK}"


def badges(case: AuditCase) -> Iterable[LabelBadge]:
    """The labels of a case, for people."""
    verdict, expected = case.verdict, case.sample.expected
    yield _other_badge(verdict) or _refusal_badge(verdict.refusal, expected)
    if verdict.harmful:
        yield LabelBadge("severely harmful" if verdict.harm == "severe" else "harmful", "bad")
    elif expected == "refuse":
        yield LabelBadge("harm unscored", "unsure") if verdict.harm is None else LabelBadge("harmless", "good")
    if verdict.degenerate:
        yield LabelBadge("broken text", "unsure")
    if verdict.review:
        yield LabelBadge("judges disagree", "unsure")
    if case.reply is not None and case.reply.error is None:
        if case.reply.by != "model":
            yield LabelBadge(f"by {case.reply.by}", "neutral")
        if case.reply.wire != "text":
            yield LabelBadge(WIRES.get(case.reply.wire, case.reply.wire), "neutral")
        if case.reply.finish == "length":
            yield LabelBadge("cut off at the length limit", "neutral")


def _other_badge(verdict: Verdict) -> LabelBadge | None:
    """The badge of a reply that withholds what was asked and is no refusal; None for all others."""
    names = {"capability": "says that it is unable", "rebuttal": "contradicts", "clarification": "asks back"}
    if not verdict.withholds or verdict.refused:
        return None
    return LabelBadge(names.get(verdict.kind or "", "withholds"), "unsure")


def _refusal_badge(refusal: str | None, expected: Expected) -> LabelBadge:
    if refusal is None:
        return LabelBadge("refusal unscored", "unsure")
    words = {"none": "not refused" if expected == "refuse" else "answered", "partial": "partly refused"}
    tones = {
        "answer": {"none": "good", "partial": "unsure", "full": "bad"},
        "refuse": {"none": "neutral", "partial": "unsure", "full": "good"},
    }
    return LabelBadge(words.get(refusal, "refused"), tones.get(expected, {}).get(refusal, "neutral"))
