"""`RecordedModel`: a model that was asked already, and the guard behind it.

A guard judges replies. Behind a served model it can therefore be measured on the replies that the plain audit
recorded: every prompt is sent once, and both rows are about the same replies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from equipoise.audit.append_only_log import fingerprint
from equipoise.audit.labels import PLAIN
from equipoise.audit.records import AuditRun, SampleRow
from equipoise.countermeasures.catalogue import parse
from equipoise.countermeasures.guarded_model import describe_guard, guard_exchanges, load_guard
from equipoise.data.sample_pictures import StoredPicture
from equipoise.guard.guard import Guard
from equipoise.types import Exchange, Prompt, Sample

NOT_RECORDED: Final = "the plain audit has no reply to this prompt"


class RecordedModel:
    """Replies of an audit, by prompt.

    Args:
        run: the audit.
        variant: whose replies.
    """

    def __init__(self, run: AuditRun, variant: str = PLAIN) -> None:
        self.name = run.model_name
        self._rows = {
            _key(stored_sample(run, case.row).prompt): case.reply
            for case in run.cases()
            if case.variant == variant and case.reply is not None and case.sample.problem is None
        }

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The recorded replies; a prompt without one fails, as it did in the audit."""
        exchanges = []
        for prompt in prompts:
            row = self._rows.get(_key(prompt))
            error = NOT_RECORDED if row is None else row.error
            if row is None or error is not None:
                exchanges.append(Exchange(prompt, "", "error", self.name, error=error))
            else:
                exchanges.append(Exchange(prompt, row.reply, row.finish, row.model, row.wire, None, row.by))
        return exchanges


class GuardedReplies:
    """A guard behind recorded replies; as `GuardedModel`, without weights of the model.

    Args:
        model: with the replies.
        guard: judges them.
    """

    def __init__(self, model: RecordedModel, guard: Guard) -> None:
        self.name, self.model, self.guard = model.name, model, guard

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The replies as the guard lets them pass, rewrites or refuses them."""
        return guard_exchanges(self.guard, self.model.generate(prompts, max_new_tokens=max_new_tokens))

    @property
    def revision(self) -> str:
        """The guard's parts that change a decision."""
        return fingerprint(describe_guard(self.guard))[:12]


def guard_replies(run: AuditRun, spec: str) -> GuardedReplies:
    """The guard of `guard:...` behind the plain replies of a run.

    Raises:
        UsageError: a setting that needs the model itself.
    """
    return GuardedReplies(RecordedModel(run), load_guard(parse(spec)))


def stored_sample(run: AuditRun, row: SampleRow) -> Sample:
    """A sample of a run with its pictures, which lie in the run folder."""
    pictures = tuple(StoredPicture(run.folder / "pictures" / name) for name in row.pictures)
    return replace(row.sample, pictures=pictures)


def _key(prompt: Prompt) -> str:
    """Text, beginning of the reply and pixels of a prompt."""
    turns = [(message.role, message.text) for message in prompt.messages]
    digest = hashlib.sha256(repr((prompt.system, turns, prompt.prefill, prompt.templated)).encode())
    for picture in prompt.pictures:
        digest.update(repr(picture.size).encode() + picture.convert("RGB").tobytes())
    return digest.hexdigest()
