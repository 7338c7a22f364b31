"""`OutcomeFolder`: what every policy did on a part of the samples, kept, so that a stopped selection goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from equipoise.files import write_json
from equipoise.prompts.policy_outcome import PolicyOutcome
from equipoise.prompts.retries import RetryEffect
from equipoise.stats.estimates import CaseLabel
from equipoise.types import Sample

FORMAT: Final = 1
"""Part of every key: raised when a stored outcome would mean something else."""


@dataclass(frozen=True)
class OutcomeFolder:
    """A folder with a file for each policy and part.

    Its files hold labels, no prompt and no reply: estimates and changes are computed from them again.
    """

    root: Path
    """Where the files lie."""

    def key(
        self,
        name: str,
        revision: str,
        samples: Sequence[Sample],
        judge: str,
        max_new_tokens: int,
        number_format: str = "",
    ) -> str:
        """A hash of everything that decides an outcome.

        Args:
            name: of the policy.
            revision: of the model under it, which covers the policy's text.
            samples: in their order.
            judge: its identity.
            max_new_tokens: length of a reply.
            number_format: in which the model computes; empty where it is not known.
        """
        rows = [
            # Pictures only where there are some, so that what is known of samples of text stays known.
            (
                *(sample.suite, sample.id, sample.text, sample.system, sample.expected),
                *(picture.sha256 for picture in sample.pictures),
                *_further(sample),
            )
            for sample in samples
        ]
        decides = (FORMAT, name, revision, number_format, rows, judge, max_new_tokens)
        return hashlib.sha256(repr(decides).encode()).hexdigest()[:24]

    def get(self, key: str) -> PolicyOutcome | None:
        """A finished outcome; None where there is none, or where its file is damaged."""
        try:
            stored = json.loads((self.root / f"{key}.json").read_text(encoding="utf-8"))
            return _outcome(stored)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, outcome: PolicyOutcome) -> None:
        """Keep an outcome.

        Raises:
            OutputError: the folder cannot be written.
        """
        document = {
            "name": outcome.name,
            "needless": [asdict(label) for label in outcome.needless_labels],
            "harmful": [asdict(label) for label in outcome.harmful_labels],
            "extra_tokens": outcome.extra_tokens,
            "seconds": outcome.seconds,
            "retries": [vars(effect) for effect in outcome.retries],
        }
        write_json(self.root / f"{key}.json", document)


def _outcome(stored: dict[str, Any]) -> PolicyOutcome:
    needless, harmful = ([CaseLabel(**label) for label in stored[axis]] for axis in ("needless", "harmful"))
    retries = tuple(RetryEffect(**effect) for effect in stored["retries"])
    return PolicyOutcome.of(stored["name"], needless, harmful, stored["extra_tokens"], stored["seconds"], retries)


def _further(sample: Sample) -> tuple[object, ...]:
    """What else decides a reply or its label, of samples that have it: what is known of all others stays known."""
    values = (
        [(turn.role, turn.text, turn.pictures) for turn in sample.earlier],
        *(sample.prefill, not sample.templated, sample.reference, sample.harmful_reference, sample.intent),
        sample.cluster if sample.cluster != sample.id else "",
    )
    return values if any(values) else ()
