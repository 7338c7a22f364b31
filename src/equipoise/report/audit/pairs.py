"""Pictures before and after the attack, with the replies to the same questions about both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from equipoise.audit.comparison import SamplePair
from equipoise.audit.labels import PLAIN
from equipoise.audit.perturbed_picture import PerturbedPicture
from equipoise.audit.records import AuditCase
from equipoise.report.audit.examples import PROMPT_LIMIT, SHOULD, ShownReply, answer_of, quoted
from equipoise.report.audit.image_store import EmbeddedImage, ImageStore
from equipoise.report.audit.untrusted_text import TextExcerpt, excerpt
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
    """Reasons not to trust the attack on it."""
    questions: tuple[PairedReplies, ...]
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


def picture_pairs(
    cases: Sequence[AuditCase], images: ImageStore, records: Sequence[PerturbedPicture], limit: int
) -> PicturePairs:
    """Cases of other variants whose pictures differ from those of the plain one.

    Args:
        cases: of all variants.
        images: makes the copies.
        records: what the attack did to each picture.
        limit: how many pictures to show.
    """
    plain = {(case.sample.suite, case.sample.id): case for case in cases if case.variant == PLAIN}
    groups: dict[tuple[str, str, str], list[SamplePair]] = {}
    for case in cases:
        before = plain.get((case.sample.suite, case.sample.id))
        if case.variant == PLAIN or before is None:
            continue
        old, new = before.pictures, case.pictures
        if old and new and old != new:
            groups.setdefault((case.variant, old[0], new[0]), []).append(SamplePair(before, case))
    by_picture = {record.perturbed: record for record in records}
    # Names are hashes of the pictures: their order is as good as chance, and the same every time.
    chosen = sorted(groups)[:limit]
    return PicturePairs(tuple(_pair(key, groups[key], images, by_picture) for key in chosen), len(groups))


def _pair(
    key: tuple[str, str, str],
    pairs: Sequence[SamplePair],
    images: ImageStore,
    records: Mapping[str, PerturbedPicture],
) -> PicturePair:
    variant, old, new = key
    record = records.get(new.partition(".")[0])
    about = f"the picture of {len(pairs)} prompts such as {quoted(pairs[0].a)}"
    return PicturePair(
        variant=variant,
        suite=pairs[0].a.sample.suite,
        before=images.copy(old, "As it was", f"As it was: {about}"),
        after=images.copy(new, variant.capitalize(), f"{variant.capitalize()}: {about}"),
        change=images.change(
            old, new, f"Difference, {GAIN} times", f"{GAIN} times what was changed in {about}; grey is no change"
        ),
        facts=tuple(_facts(record)) if record else (),
        loss=curve(record.losses if record else ()),
        warnings=record.warnings if record else (),
        questions=tuple(_question(pair) for pair in _chosen(pairs)),
        count=len(pairs),
    )


def _chosen(pairs: Sequence[SamplePair]) -> list[SamplePair]:
    """Safe questions first, but at least one request of each other sort."""
    ordered = sorted(pairs, key=lambda pair: (pair.a.sample.expected, pair.a.sample.id))
    first = {pair.a.sample.expected: pair for pair in reversed(ordered)}
    extra = [pair for pair in first.values() if pair not in ordered[:QUESTIONS]]
    return [*ordered[: QUESTIONS - len(extra)], *sorted(extra, key=lambda pair: pair.a.sample.expected)]


def _question(pair: SamplePair) -> PairedReplies:
    sample = pair.a.sample
    return PairedReplies(
        excerpt(sample.text, PROMPT_LIMIT), SHOULD[sample.expected], answer_of(pair.a), answer_of(pair.b)
    )


def _facts(record: PerturbedPicture) -> Iterator[tuple[str, str]]:
    yield "largest change", f"{255 * record.linf:.4g}/255"
    if record.psnr is not None:
        yield "PSNR", f"{record.psnr:.1f} dB"
    if record.ssim is not None:
        yield "SSIM", f"{record.ssim:.3f}"
    yield "attack", f"{len(record.losses)} steps, {record.stopped.replace('_', ' ')}"
    yield "seconds", f"{record.seconds:.1f}"
