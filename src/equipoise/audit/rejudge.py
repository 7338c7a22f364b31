"""Judges the stored replies of a run again; the model is not asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from equipoise.audit.append_only_log import fingerprint
from equipoise.audit.recorded_exchange import to_exchange
from equipoise.audit.records import AuditRun, ReplyRow, SampleRow, VerdictRow
from equipoise.data.sample_pictures import StoredPicture
from equipoise.errors import ModelError, PictureError, UsageError
from equipoise.folder_lock import claim_folder
from equipoise.judges.judge_batches import BatchJudging, JudgingBatch, judging_here
from equipoise.types import Exchange, Verdict

BATCH: Final = 64
"""Replies judged at once, and verdicts that a kill may lose."""


class DescribedJudge(Protocol):
    """A judge that says which one it is."""

    @property
    def identity(self) -> str:
        """Changes whenever its verdicts could."""
        ...

    def describe(self) -> dict[str, Any]:
        """Name, identity and members."""
        ...

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order."""
        ...


@dataclass(frozen=True)
class RejudgeOutcome:
    """What was done."""

    judged: int
    """Replies that the judge read now."""
    reused: int
    """Replies of which the folder held a verdict of this judge."""
    skipped: int
    """Prompts without a reply."""
    unscored: int = 0
    """Replies read now that the judge gave no label; the same call judges them again."""
    reason: str = ""
    """The most frequent reason for that."""


def rejudge(
    folder: Path,
    judge: DescribedJudge | BatchJudging,
    *,
    with_pictures: bool = False,
    command: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RejudgeOutcome:
    """Judge every stored reply, and let this judge's verdicts make the numbers from now on.

    Verdicts of other judges stay in the folder. A reply that this judge left unscored before is judged again. The
    judge takes over only when all replies are judged: after a kill the earlier one still reports, and the same call
    goes on where it stopped. So it does where the judge labelled not one reply, as its server was away. A reply whose
    picture cannot be read is unscored where the judge shall see pictures.

    Args:
        folder: of the run.
        judge: who reads the replies, in this process or on workers.
        with_pictures: whether the judge gets the pictures, too; they are decoded from the folder.
        command: what the user wrote, for the record.
        progress: called with the count of judged replies and of all that are to be judged.

    Raises:
        UsageError: this is no run, a file of it was changed, somebody else is writing it, or it has no reply yet.
        ModelError: the judge labelled no reply.
        OutputError: the folder cannot be written.
    """
    run = AuditRun.open(folder)
    judging: AbstractContextManager[BatchJudging]
    judging = nullcontext(judge) if isinstance(judge, BatchJudging) else judging_here(judge)
    with claim_folder(folder), judging as batches:
        identity, description = batches.identity, batches.description
        if description is None:
            raise UsageError(f"expected a judge that describes itself, got {batches.name}; try --judge ensemble")
        replies = {row.key: row for row in run.replies().rows()}
        known = {row.key: row.verdict for row in run.verdicts().rows() if row.judge == identity}
        samples = [row for row in run.samples().rows() if row.sample.problem is None]
        spoken = [(row, replies[row.key]) for row in samples if row.key in replies and replies[row.key].error is None]
        if not spoken:
            raise UsageError(f"expected a run with replies, got none in {folder}; try the audit's command first")
        # Cut from all replies, not from those that are left: a batch that a killed run left in a shard is known again.
        parts = [spoken[start : start + BATCH] for start in range(0, len(spoken), BATCH)]
        todo = [
            batch
            for part in parts
            if (batch := [(row, reply) for row, reply in part if row.key not in known or _is_unscored(known[row.key])])
        ]
        total, done = sum(map(len, todo)), 0
        reasons: Counter[str] = Counter()
        verdicts_of = batches.verdicts(_batch(run, batch, with_pictures) for batch in todo)
        for batch, verdicts in zip(todo, verdicts_of, strict=True):
            pairs = zip(batch, verdicts, strict=True)
            run.verdicts().append(VerdictRow(row.key, identity, verdict) for (row, _), verdict in pairs)
            reasons.update(verdict.unscored or "no reason" for verdict in verdicts if _is_unlabelled(verdict))
            done += len(batch)
            progress(done, total)
        if batches.store is not None:
            batches.store.clear()
        unscored, (reason, _) = reasons.total(), next(iter(reasons.most_common(1)), ("", 0))
        if unscored == len(spoken):
            raise ModelError(
                f"expected verdicts on {len(spoken)} replies, got no label ({reason[:200]}); the earlier judge still "
                "reports, try the same command when the judge can be reached"
            )
        run.use_judge(description, command)
    return RejudgeOutcome(total, len(spoken) - total, len(samples) - len(spoken), unscored, reason)


def _batch(run: AuditRun, batch: Sequence[tuple[SampleRow, ReplyRow]], with_pictures: bool) -> JudgingBatch:
    # A reply may have been asked for again since: its text belongs to the input as well as its key.
    inputs = tuple(fingerprint([row.key, reply.to_json(), with_pictures]) for row, reply in batch)
    return JudgingBatch(inputs, lambda number: _readable_exchange(run, *batch[number], with_pictures))


def _readable_exchange(run: AuditRun, row: SampleRow, reply: ReplyRow, with_pictures: bool) -> Exchange | Verdict:
    """What the judge reads; its verdict, unscored, where a picture cannot be read."""
    try:
        return _exchange(run, row, reply, with_pictures)
    except PictureError as error:
        return Verdict(None, unscored=str(error))


def _is_unscored(verdict: Verdict) -> bool:
    return verdict.unscored is not None


def _is_unlabelled(verdict: Verdict) -> bool:
    return verdict.refusal is None and verdict.harm is None


def _exchange(run: AuditRun, row: SampleRow, reply: ReplyRow, with_pictures: bool) -> Exchange:
    """A stored reply as judges take it."""
    names = row.pictures if with_pictures else ()
    pictures = tuple(StoredPicture(run.folder / "pictures" / name) for name in names)
    return to_exchange(replace(row.sample, pictures=pictures), reply)
