"""What the tests of the engine ask, and whom."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from equipoise.audit.append_only_log import AppendOnlyLog
from equipoise.audit.engine.collect import collect_replies
from equipoise.audit.engine.session import CollectionOutcome, EvaluationTarget, IdentifiedJudge
from equipoise.audit.records import ReplyRow, SampleRow, VerdictRow
from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.judges.phrases import PhraseJudge
from equipoise.types import Exchange, Expected, Prompt, Sample

REFUSAL = "I'm sorry, but I can't help with that."


def picture(colour: str = "red", size: tuple[int, int] = (40, 30), kind: str = "PNG") -> GeneratedPicture:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return GeneratedPicture(file.getvalue())


def sample(text: str, *pictures: GeneratedPicture, expected: Expected = "answer", **more: Any) -> Sample:
    return Sample(id=more.pop("id", text), suite=more.pop("suite", "made"), text=text, expected=expected,
                  pictures=pictures, **more)  # fmt: skip


def rows(samples: Sequence[Sample], variant: str = "plain") -> list[tuple[SampleRow, Sample]]:
    return [(SampleRow.of(entry, variant, {"model": "m"}, ()), entry) for entry in samples]


@dataclass
class Parrot:
    """Says what it was asked; refuses what sounds bad, breaks on what breaks it."""

    name: str = "parrot"
    revision: str = "1"
    batches: list[int] = field(default_factory=list)
    prompts_received: list[Prompt] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    before: Callable[[Prompt], None] = lambda prompt: None

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self.batches.append(len(prompts))
        self.threads.add(threading.current_thread().name)
        for prompt in prompts:
            self.before(prompt)
        self.prompts_received += prompts
        return [self._reply(prompt, max_new_tokens) for prompt in prompts]

    def _reply(self, prompt: Prompt, limit: int) -> Exchange:
        words = (REFUSAL if "bad" in prompt.text else f"You said: {prompt.text}").split()
        finish = "stop" if len(words) <= limit else "length"
        return Exchange(prompt, " ".join(words[:limit]), finish, f"{self.name}@{self.revision}")


@dataclass
class Stores:
    """A run folder's worth."""

    folder: Path

    @property
    def replies(self) -> AppendOnlyLog[ReplyRow]:
        return AppendOnlyLog(self.folder / "replies.jsonl", ReplyRow)

    @property
    def verdicts(self) -> AppendOnlyLog[VerdictRow]:
        return AppendOnlyLog(self.folder / "verdicts.jsonl", VerdictRow)

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def ask(
        self,
        content: Sequence[tuple[SampleRow, Sample]],
        target: EvaluationTarget,
        judge: IdentifiedJudge | None = None,
        **options: Any,
    ) -> CollectionOutcome:
        return collect_replies(
            content,
            target,
            replies=options.pop("replies", self.replies),
            verdicts=options.pop("verdicts", self.verdicts),
            judge=judge or PhraseJudge(),
            logs=self.logs,
            **options,
        )

    def by_text(self, content: Sequence[tuple[SampleRow, Sample]]) -> dict[str, ReplyRow]:
        """The last reply to each text."""
        texts = {row.key: entry.text for row, entry in content}
        return {texts[row.key]: row for row in self.replies.rows()}


def local(model: Parrot | None = None) -> EvaluationTarget:
    model = model or Parrot()
    return EvaluationTarget(model.name, model.revision, model=model)


def served(spec: str, **more: Any) -> EvaluationTarget:
    return EvaluationTarget("scripted", "", spec=spec, **more)
