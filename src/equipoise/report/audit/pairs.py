"""Pictures before and after an attack, with the replies about both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equipoise.audit.records import AuditCase
from equipoise.report.audit.examples import PROMPT_LIMIT, SHOULD, ShownReply, answer_of
from equipoise.report.audit.image_store import EmbeddedImage, ImageStore
from equipoise.report.audit.numbers import finite
from equipoise.report.audit.untrusted_text import TextExcerpt, excerpt, mapping, mappings
from equipoise.report.pictures import GAIN, LossCurve, curve

QUESTIONS: Final = 4
"""Questions about a picture that are shown."""


@dataclass(frozen=True)
class PairedReplies:
    """One question, asked about both pictures."""

    prompt: TextExcerpt
    """What was asked."""
    should: str
    """What should happen."""
    before: ShownReply
    """About the picture as it was."""
    after: ShownReply
    """About the changed picture."""


@dataclass(frozen=True)
class PicturePair:
    """A picture before and after."""

    variant: str
    """Of which variant."""
    suite: str
    """Of which suite."""
    before: EmbeddedImage
    """As it was."""
    after: EmbeddedImage
    """Changed."""
    change: EmbeddedImage
    """The difference, amplified."""
    facts: tuple[tuple[str, str], ...]
    """What was measured on the changed file."""
    loss: LossCurve | None
    """The loss of every step."""
    warnings: tuple[str, ...]
    """What speaks against taking it at face value."""
    asked: tuple[PairedReplies, ...]
    """Questions that are shown."""
    count: int
    """How many there are in all."""


@dataclass(frozen=True)
class PicturePairs:
    """The changed pictures of a run."""

    shown: tuple[PicturePair, ...]
    """Those on the page."""
    count: int
    """How many there are in all."""


def pairs(cases: Sequence[AuditCase], album: ImageStore, attack: Mapping[str, Any], limit: int) -> PicturePairs:
    """Cases of other variants whose pictures differ from those of the plain one.

    Args:
        cases: of all variants.
        album: makes the copies.
        attack: what the recipe says of the attack.
        limit: how many pictures to show.
    """
    plain = {(case.sample.suite, case.sample.id): case for case in cases if case.sample.variant == "plain"}
    found: dict[tuple[str, str, str], list[tuple[AuditCase, AuditCase]]] = {}
    for case in cases:
        before = plain.get((case.sample.suite, case.sample.id))
        if case.sample.variant == "plain" or before is None:
            continue
        old, new = before.sample.pictures, case.sample.pictures
        if old and new and old != new:
            found.setdefault((case.sample.variant, old[0], new[0]), []).append((before, case))
    done = {str(entry.get("perturbed")): entry for entry in mappings(attack.get("pictures_done"))}
    # Names are hashes of the pictures: their order is as good as chance, and the same every time.
    chosen = sorted(found)[:limit]
    return PicturePairs(tuple(_pair(key, found[key], album, done) for key in chosen), len(found))


def _pair(
    key: tuple[str, str, str],
    asked: Sequence[tuple[AuditCase, AuditCase]],
    album: ImageStore,
    done: Mapping[str, Mapping[str, Any]],
) -> PicturePair:
    variant, old, new = key
    record = mapping(done.get(new.partition(".")[0]))
    losses = [value for value in map(finite, record.get("losses") or ()) if value is not None]
    return PicturePair(
        variant=variant,
        suite=asked[0][0].sample.suite,
        before=album.copy(old, "As it was"),
        after=album.copy(new, f"{variant.capitalize()}"),
        change=album.change(old, new, f"Difference, {GAIN} times"),
        facts=tuple(_facts(record)),
        loss=curve(losses),
        warnings=tuple(str(warning) for warning in record.get("warnings") or ()),
        asked=tuple(_asked(before, after) for before, after in _chosen(asked)),
        count=len(asked),
    )


def _chosen(asked: Sequence[tuple[AuditCase, AuditCase]]) -> list[tuple[AuditCase, AuditCase]]:
    """Safe questions first, but at least one request of each other sort."""
    ordered = sorted(asked, key=lambda both: (both[0].sample.expected, both[0].sample.id))
    first = {both[0].sample.expected: both for both in reversed(ordered)}
    extra = [both for both in first.values() if both not in ordered[:QUESTIONS]]
    return [*ordered[: QUESTIONS - len(extra)], *sorted(extra, key=lambda both: both[0].sample.expected)]


def _asked(before: AuditCase, after: AuditCase) -> PairedReplies:
    sample = before.sample
    should = SHOULD.get(sample.expected, sample.expected)
    return PairedReplies(excerpt(sample.text, PROMPT_LIMIT), should, answer_of(before), answer_of(after))


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    largest, psnr, ssim = (finite(record.get(name)) for name in ("linf", "psnr", "ssim"))
    if largest is not None:
        facts.append(("largest change", f"{255 * largest:.4g}/255"))
    if psnr is not None:
        facts.append(("PSNR", f"{psnr:.1f} dB"))
    if ssim is not None:
        facts.append(("SSIM", f"{ssim:.3f}"))
    if record.get("stopped"):
        steps = len(record.get("losses") or ())
        facts.append(("attack", f"{steps} steps, {str(record['stopped']).replace('_', ' ')}"))
    seconds = finite(record.get("seconds"))
    if seconds is not None:
        facts.append(("seconds", f"{seconds:.1f}"))
    return facts
