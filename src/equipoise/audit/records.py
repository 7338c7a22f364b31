"""The run folder: what was asked, what came back and what judges said, in append-only files that survive a kill.

```
RUN/
  run.json         the recipe, written once: model, suites, variants, judges, versions, hardware, command
  samples.jsonl    a `SampleRow` for each prompt of each variant
  replies.jsonl    a `ReplyRow` for each prompt that was asked
  verdicts.jsonl   a `VerdictRow` for each reply and judge
  judges.jsonl     a `JudgeChange` for each later judge whose verdicts took the place of an earlier one's
  attack.json      what the attack did to each picture, where there is one
  pictures/        every picture asked about, named by the sha256 of its bytes
  logs/            inspect's own logs of the same run
  summary.json     the rates; report.html and report-replies.html  the pages
```

Nothing here imports torch or inspect, so that everything which only reads results is quick to start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from equipoise.audit.append_only_log import AppendOnlyLog, fingerprint
from equipoise.audit.perturbed_picture import PerturbedPicture, read_perturbed_pictures
from equipoise.errors import UsageError
from equipoise.files import write_json
from equipoise.types import FinishReason, Sample, Turn, Verdict, Wire, sample_values

FORMAT: Final = 1
"""Raised when an older Equipoise could no longer read the folder."""


@dataclass(frozen=True)
class SampleRow:
    """One prompt of one variant: the sample, and what makes it a row of this run."""

    key: str
    """Content address: sha256 over the model, the variant, the sample and how replies are generated."""
    content: str
    """sha256 over the sample alone; equal in runs that sent the same, whichever model they sent it to."""
    variant: str
    """`plain` or `perturbed`; with a defence `defended`, `defended perturbed` and `defended adaptive` too."""
    sample: Sample
    """What is sent and what should happen. Its `cluster` is never empty, and its pictures are left out: their files
    lie in the run folder, under the names in `pictures`."""
    pictures: tuple[str, ...] = ()
    """Names of the sample's pictures under `pictures/`."""

    @classmethod
    def of(cls, sample: Sample, variant: str, settings: Mapping[str, Any], pictures: tuple[str, ...]) -> Self:
        """The row of a sample.

        Args:
            sample: what is sent.
            variant: one way of sending it.
            settings: which model, and how its replies are generated; part of the key.
            pictures: names of its pictures under `pictures/`.
        """
        stored = replace(sample, pictures=(), cluster=sample.cluster or sample.id)
        row = cls(key="", content="", variant="", sample=stored, pictures=pictures)
        # Over the row as it is written, with what is not known yet left empty: comparisons pair samples by them.
        content = fingerprint(row.to_json())
        key = fingerprint({"content": content, "variant": variant, "asked": settings})
        return replace(row, key=key, content=content, variant=variant)

    def to_json(self) -> dict[str, Any]:
        """One flat object: key, content and variant, then the fields of the sample with the pictures' names."""
        values = sample_values(self.sample)
        row = {"key": self.key, "content": self.content, "variant": self.variant, "suite": self.sample.suite}
        # Left out where empty: the hashes of most samples stay those of earlier versions.
        earlier = {"earlier": [asdict(turn) for turn in turns]} if (turns := values.pop("earlier")) else {}
        return {**row, **values, "pictures": self.pictures, **earlier}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_json` gave.

        Raises:
            TypeError, KeyError: a field is missing or unknown.
        """
        rest = dict(values)
        key, content, variant = rest.pop("key"), rest.pop("content"), rest.pop("variant")
        pictures = rest.pop("pictures", ())
        rest["earlier"] = tuple(Turn(**turn) for turn in rest.pop("earlier", ()))
        return cls(key, content, variant, Sample(**rest), pictures)


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
    """Why nothing came back. A row with an error is asked again when the run goes on, unless it is `accepted`."""
    reasoning: str = ""
    """Reasoning trace, kept for people; judges read the reply."""
    seconds: float | None = None
    """How long it took."""
    detail: str = ""
    """What a server wrote beside a reply, such as an error that names a policy; or the steps of countermeasures."""
    permanent: bool = False
    """Whether the error is this prompt's own, so that sending it again cures nothing."""
    accepted: bool = False
    """Whether the user accepted a permanent error with `--max-failed`: not sent again, unscored, and not missing."""
    input_tokens: int | None = None
    """Tokens of the prompt as the server counted them."""
    output_tokens: int | None = None
    """Tokens of the reply, its reasoning among them."""

    @property
    def pending(self) -> bool:
        """Whether the prompt is to be sent again."""
        return self.error is not None and not self.accepted

    def to_json(self) -> dict[str, Any]:
        """One flat object."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_json` gave; a `TypeError` where a field is missing or unknown."""
        return cls(**values)


@dataclass(frozen=True)
class VerdictRow:
    """The verdict of one judge on one reply."""

    key: str
    """Of the `SampleRow`."""
    judge: str
    """Identity of the judge."""
    verdict: Verdict
    """The verdict."""

    def to_json(self) -> dict[str, Any]:
        """One flat object: key and judge, then the fields of the verdict."""
        return {"key": self.key, "judge": self.judge, **self.verdict.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_json` gave; a `TypeError` or `KeyError` where a field is missing or unknown."""
        rest = dict(values)
        key, judge = rest.pop("key"), rest.pop("judge")
        return cls(key, judge, Verdict.from_json(rest))


@dataclass(frozen=True)
class JudgeChange:
    """A later choice of the judge that reports; verdicts of earlier judges stay in the folder."""

    description: dict[str, Any]
    """Name, identity and members, as `describe` of a judge gives them."""
    since: str
    """When, in ISO 8601."""
    command: str = ""
    """The command that chose it."""

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_json` gave.

        Raises:
            TypeError, KeyError: a field is missing, unknown or of another form.
        """
        change = cls(**values)
        if not isinstance(change.description["identity"], str):
            raise TypeError("identity")
        return change


def _is_recipe(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe has the form that readers of a run rely on."""
    judge, suites, variants = recipe.get("judge"), recipe.get("suites", []), recipe.get("variants", [])
    return (
        isinstance(judge, dict)
        and isinstance(judge.get("identity"), str)
        and _is_list(judge.get("members", []), dict)
        and _is_list(judge.get("notes", []), str)
        and isinstance(judge.get("card"), dict | None)
        and isinstance(recipe.get("model", {}), dict | str)
        and _is_list(suites, dict)
        and all(isinstance(suite.get("samples", 0), int) for suite in suites)
        and _is_list(variants, str)
        and all(isinstance(recipe.get(name), dict | None) for name in ("attack", "defence"))
        and _is_list((recipe.get("defence") or {}).get("layers", []), dict)
    )


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(part, kind) for part in value)


@dataclass(frozen=True)
class AuditCase:
    """One prompt with the reply to it and the verdict of one judge."""

    row: SampleRow
    """The prompt's row."""
    reply: ReplyRow | None
    """The reply, or the error that came instead; None when the prompt has not been sent."""
    verdict: Verdict
    """The judge's verdict; unscored with a reason when there is no reply."""
    judged: bool = True
    """Whether the judge is done with it: False where it has no verdict yet on a reply that is there."""

    @property
    def sample(self) -> Sample:
        """What was sent and what should happen, without its pictures."""
        return self.row.sample

    @property
    def variant(self) -> str:
        """In which variant it was sent."""
        return self.row.variant

    @property
    def pictures(self) -> tuple[str, ...]:
        """Names of its pictures under `pictures/`."""
        return self.row.pictures

    @property
    def pending(self) -> bool:
        """Whether there is no reply yet, for a reason that another try may cure."""
        return self.sample.problem is None and (self.reply is None or self.reply.pending)

    @property
    def unfinished(self) -> bool:
        """Whether asking or judging again may cure it: its reply is still missing, or a verdict on the reply."""
        return self.pending or not self.judged


@dataclass(frozen=True)
class AuditRun:
    """A run folder, for reading."""

    folder: Path
    """Where it is."""
    recipe: dict[str, Any]
    """`run.json`: what decides the run, as it was written when the run began."""

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
            version = recipe["format"]
            check = recipe.pop("check", None)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(f"expected a recipe in {path}, got something else; try a new run") from error
        if version != FORMAT:
            raise UsageError(f"expected format {FORMAT} in {path}, got {version}; try the Equipoise that wrote it")
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

    def perturbed_pictures(self) -> tuple[PerturbedPicture, ...]:
        """What the attack did to each picture; empty where there was no attack, or none has begun.

        Raises:
            UsageError: `attack.json` is damaged.
        """
        path = self.folder / "attack.json"
        return read_perturbed_pictures(path) if self.recipe.get("attack") and path.is_file() else ()

    @property
    def model_name(self) -> str:
        """Name of the model that was asked, the same for all its revisions."""
        model = self.recipe.get("model")
        return str(model.get("name") if isinstance(model, dict) else model)

    @property
    def model_revision(self) -> str | None:
        """Its revision; None where the recipe has none."""
        model = self.recipe.get("model")
        return model.get("revision") if isinstance(model, dict) else None

    @property
    def judge_descriptions(self) -> list[dict[str, Any]]:
        """Every judge that reported, the present one first, each once.

        Raises:
            UsageError: `judges.jsonl` is damaged.
        """
        changes = [change.description for change in self.judge_changes().rows()]
        # Read backwards: the latest choice comes first, and a judge that was chosen twice stands where it was chosen
        # last.
        described = {item["identity"]: item for item in reversed([self.recipe["judge"], *changes])}
        return list(described.values())

    @property
    def judge(self) -> str:
        """Identity of the judge that reports: that of the last command that judged, an audit or a rejudge."""
        return str(self.judge_descriptions[0]["identity"])

    @property
    def judge_line(self) -> str:
        """The judge that reports, in one line; a run that was judged again says so."""
        now, *earlier = self.judge_descriptions
        line = f"{now.get('name', 'judge')} {now['identity']}"
        if not earlier:
            return line
        names = ", ".join(f"{judge.get('name', 'judge')} {str(judge['identity'])[:12]}" for judge in earlier)
        last = list(self.judge_changes().rows())[-1]
        return f"{line} (chosen {last.since[:10]}; verdicts of {names} are kept and not used)"

    def samples(self) -> AppendOnlyLog[SampleRow]:
        """What was sent."""
        return AppendOnlyLog(self.folder / "samples.jsonl", SampleRow)

    def replies(self) -> AppendOnlyLog[ReplyRow]:
        """What came back."""
        return AppendOnlyLog(self.folder / "replies.jsonl", ReplyRow)

    def verdicts(self) -> AppendOnlyLog[VerdictRow]:
        """What judges said."""
        return AppendOnlyLog(self.folder / "verdicts.jsonl", VerdictRow)

    def judge_changes(self) -> AppendOnlyLog[JudgeChange]:
        """Judges that took the place of the recipe's, in order."""
        return AppendOnlyLog(self.folder / "judges.jsonl", JudgeChange)

    def use_judge(self, description: Mapping[str, Any], command: str) -> None:
        """Let a judge report from now on; nothing is written where it does already.

        Raises:
            OutputError: the folder cannot be written.
        """
        if description["identity"] != self.judge:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.judge_changes().append([JudgeChange(dict(description), now, command)])

    def cases(self, judge: str | None = None) -> list[AuditCase]:
        """Every prompt with its reply and the verdict of one judge, by its identity; None is the one that reports.

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
    def _case(row: SampleRow, reply: ReplyRow | None, verdict: VerdictRow | None) -> AuditCase:
        if row.sample.problem is not None:
            return AuditCase(row, reply, Verdict(None, unscored=row.sample.problem))
        if reply is None:
            return AuditCase(row, None, Verdict(None, unscored="not asked yet"))
        if reply.error is not None:
            return AuditCase(row, reply, Verdict(None, unscored=f"no reply: {reply.error}"))
        if verdict is None:
            return AuditCase(row, reply, Verdict(None, unscored="not judged yet"), judged=False)
        return AuditCase(row, reply, verdict.verdict)
