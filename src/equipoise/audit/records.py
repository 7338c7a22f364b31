"""The run folder: what was asked, what came back and what judges said, in append-only files that survive a kill.

```
RUN/
  run.json         the recipe, written once: model, suites, variants, judges, versions, hardware, command
  samples.jsonl    a `SampleRow` for each prompt of each variant
  replies.jsonl    a `ReplyRow` for each prompt that was asked
  verdicts.jsonl   a `VerdictRow` for each reply and judge
  attack.json      what the attack did to each picture, where there is one
  pictures/        every picture asked about, named by the sha256 of its bytes
  logs/            inspect's own logs of the same run
  summary.json     the rates; report.html  the page
```

Nothing here imports torch or inspect, so that everything which only reads results is quick to start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Self

from equipoise.audit.append_only_log import AppendOnlyLog, fingerprint
from equipoise.errors import UsageError
from equipoise.files import write_json
from equipoise.types import Exchange, Expected, FinishReason, Sample, Verdict, Wire

FORMAT: Final = 1
"""Raised when an older Equipoise could no longer read the folder."""


@dataclass(frozen=True)
class SampleRow:
    """One prompt of one variant, with what should happen."""

    key: str
    """Content address: sha256 over the model, the variant, the sample and how replies are generated."""
    content: str
    """sha256 over the sample alone; equal in runs that asked the same, whoever was asked."""
    variant: str
    """`plain` or `perturbed`; with a defence `defended`, `defended perturbed` and `defended adaptive` too."""
    suite: str
    """Which suite."""
    id: str
    """Unique within variant and suite."""
    text: str
    """What was asked."""
    expected: Expected
    """What should happen."""
    pictures: tuple[str, ...] = ()
    """Names under `pictures/`."""
    system: str | None = None
    """System text."""
    category: str = ""
    """The suite's own category."""
    cluster: str = ""
    """Rows that share it are not independent; never empty."""
    reference: tuple[str, ...] = ()
    """Right answers."""
    harmful_reference: str | None = None
    """What a harmful reply states, where that is known to the letter."""
    intent: str | None = None
    """The request in plain words where `text` does not hold it."""
    source: str = ""
    """Where it comes from."""
    licence: str = ""
    """Its licence."""
    problem: str | None = None
    """Why it was not asked."""

    @classmethod
    def of(cls, sample: Sample, variant: str, asked: dict[str, Any], pictures: tuple[str, ...]) -> Self:
        """The row of a sample.

        Args:
            sample: what is asked.
            variant: how.
            asked: who is asked and how replies are generated; part of the key.
            pictures: names of its pictures under `pictures/`.
        """
        row = cls(
            key="",
            content="",
            variant="",
            suite=sample.suite,
            id=sample.id,
            text=sample.text,
            expected=sample.expected,
            pictures=pictures,
            system=sample.system,
            category=sample.category,
            cluster=sample.cluster or sample.id,
            reference=sample.reference,
            harmful_reference=sample.harmful_reference,
            intent=sample.intent,
            source=sample.source,
            licence=sample.licence,
            problem=sample.problem,
        )
        content = fingerprint(asdict(row))
        key = fingerprint({"content": content, "variant": variant, "asked": asked})
        return replace(row, key=key, content=content, variant=variant)


@dataclass(frozen=True)
class ReplyRow:
    """What came back."""

    key: str
    """Of the `SampleRow`."""
    reply: str
    """Every word of it; reasoning traces are in `reasoning`."""
    finish: FinishReason
    """How it ended; `error` when nothing came back."""
    wire: Wire
    """In which form it arrived."""
    model: str
    """Who replied: name and revision."""
    by: str = "model"
    """Who spoke last: the model, or the defence that took its place."""
    error: str | None = None
    """Why nothing came back. A row with an error is asked again when the run goes on."""
    reasoning: str = ""
    """Reasoning trace, kept for people; judges read the reply."""
    seconds: float | None = None
    """How long it took."""
    detail: str = ""
    """What a server said beside a reply, such as the message of an error that names a policy; or what countermeasures
    did before it, one line a step."""


@dataclass(frozen=True)
class VerdictRow:
    """What a judge said of a reply."""

    key: str
    """Of the `SampleRow`."""
    judge: str
    """Identity of the judge."""
    refusal: str | None
    """As in `Verdict`."""
    harm: str | None = None
    """As in `Verdict`."""
    answers: bool | None = None
    """As in `Verdict`."""
    degenerate: bool | None = None
    """As in `Verdict`."""
    unscored: str | None = None
    """As in `Verdict`."""
    reasons: tuple[str, ...] = ()
    """As in `Verdict`."""
    harm_probability: float | None = None
    """As in `Verdict`."""
    review_refusal: bool = False
    """As in `Verdict`."""
    review_harm: bool = False
    """As in `Verdict`."""

    @classmethod
    def of(cls, key: str, judge: str, verdict: Verdict) -> Self:
        """The row of a verdict."""
        return cls(key=key, judge=judge, **asdict(verdict))

    @property
    def verdict(self) -> Verdict:
        """The verdict itself."""
        return Verdict(**{field.name: getattr(self, field.name) for field in fields(Verdict)})


def _is_recipe(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe has the form that readers of a run rely on."""
    judge, suites, variants = recipe.get("judge"), recipe.get("suites", []), recipe.get("variants", [])
    return (
        isinstance(judge, dict)
        and isinstance(judge.get("identity"), str)
        and isinstance(judge.get("members", []), list)
        and isinstance(recipe.get("model", {}), dict | str)
        and isinstance(suites, list)
        and all(isinstance(each, dict) and isinstance(each.get("samples", 0), int) for each in suites)
        and isinstance(variants, list)
        and all(isinstance(each, str) for each in variants)
        and isinstance(recipe.get("attack"), dict | None)
    )


@dataclass(frozen=True)
class AuditCase:
    """One prompt with what came back and what a judge said of it."""

    sample: SampleRow
    """What was asked."""
    reply: ReplyRow | None
    """What came back; None when it has not been asked."""
    verdict: Verdict
    """What the judge said; unscored with a reason when there is no reply."""

    @property
    def unasked(self) -> bool:
        """Whether nothing came back yet, for a reason that another try may cure."""
        return self.sample.problem is None and (self.reply is None or self.reply.error is not None)


@dataclass(frozen=True)
class AuditRun:
    """A run folder, for reading."""

    folder: Path
    """Where it is."""
    kept: dict[str, Any]
    """`run.json`."""

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Read the recipe of a run folder.

        Raises:
            UsageError: this is no run folder, or one of a newer Equipoise.
        """
        folder = Path(folder)
        path = folder / "run.json"
        if not path.is_file():
            raise UsageError(f"expected the folder of an audit, got {folder}; try the --out of `equipoise audit`")
        try:
            recipe = json.loads(path.read_text(encoding="utf-8"))
            known = recipe["format"]
            check = recipe.pop("check", None)
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"expected a recipe in {path}, got something else; try a new run") from error
        if known != FORMAT:
            raise UsageError(f"expected format {FORMAT} in {path}, got {known}; try the Equipoise that wrote it")
        if check not in (None, fingerprint(recipe)[:16]) or not _is_recipe(recipe):
            raise UsageError(
                f"expected the recipe in {path} as it was written, got a changed one; "
                "try a copy of the folder that nobody edited, or a new run"
            )
        return cls(folder, recipe)

    @staticmethod
    def write(folder: Path, recipe: Mapping[str, Any]) -> AuditRun:
        """Begin a run folder with its recipe, and a checksum that shows when somebody edits it.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_json(folder / "run.json", {**recipe, "check": fingerprint(recipe)[:16]})
        return AuditRun.open(folder)

    @property
    def recipe(self) -> dict[str, Any]:
        """`run.json`, with what the attack did under `["attack"]["pictures_done"]` where there was one."""
        path = self.folder / "attack.json"
        if not path.is_file() or not self.kept.get("attack"):
            return self.kept
        try:
            done = json.loads(path.read_text(encoding="utf-8"))["pictures"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"expected the record of an attack in {path}, got something else; try a new run"
            ) from error
        return {**self.kept, "attack": {**self.kept["attack"], "pictures_done": done}}

    @property
    def judge(self) -> str:
        """Identity of the judge that reports."""
        return str(self.kept["judge"]["identity"])

    def samples(self) -> AppendOnlyLog[SampleRow]:
        """What was asked."""
        return AppendOnlyLog(self.folder / "samples.jsonl", SampleRow)

    def replies(self) -> AppendOnlyLog[ReplyRow]:
        """What came back."""
        return AppendOnlyLog(self.folder / "replies.jsonl", ReplyRow)

    def verdicts(self) -> AppendOnlyLog[VerdictRow]:
        """What judges said."""
        return AppendOnlyLog(self.folder / "verdicts.jsonl", VerdictRow)

    def cases(self, judge: str | None = None) -> list[AuditCase]:
        """Every prompt with its reply and the verdict of one judge.

        Args:
            judge: identity of the judge; None means the one that reports.

        Raises:
            UsageError: a file of the folder was changed.
        """
        wanted = judge or self.judge
        samples = {row.key: row for row in self.samples().rows()}
        # A reply that failed may be followed by one that did not: the last one counts.
        replies = {row.key: row for row in self.replies().rows()}
        verdicts = {row.key: row for row in self.verdicts().rows() if row.judge == wanted}
        return [self._case(row, replies.get(key), verdicts.get(key)) for key, row in samples.items()]

    @staticmethod
    def _case(sample: SampleRow, reply: ReplyRow | None, verdict: VerdictRow | None) -> AuditCase:
        if sample.problem is not None:
            return AuditCase(sample, reply, Verdict(None, unscored=sample.problem))
        if reply is None:
            return AuditCase(sample, None, Verdict(None, unscored="not asked yet"))
        if reply.error is not None:
            return AuditCase(sample, reply, Verdict(None, unscored=f"no reply: {reply.error}"))
        if verdict is None:
            return AuditCase(sample, reply, Verdict(None, unscored="not judged yet"))
        return AuditCase(sample, reply, verdict.verdict)


def to_exchange(sample: Sample, row: ReplyRow) -> Exchange:
    """A recorded reply as judges take it; opens the sample's pictures."""
    return Exchange(sample.prompt, row.reply, row.finish, row.model, row.wire, row.error, row.by, sample)
