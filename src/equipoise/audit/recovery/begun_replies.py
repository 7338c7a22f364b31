"""The suite `recovery-depth` of one audit: its rows, its samples for the target, and the curve afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from equipoise.audit.labels import PLAIN
from equipoise.audit.records import AuditRun
from equipoise.audit.recovery.curve_file import read_curve, write_curve
from equipoise.audit.recovery.depths import SUITE, refusal_position
from equipoise.audit.recovery.suite import (
    is_recovery_depth,
    own_prompt_count,
    own_rows,
    recovery_suite,
    rows_of_spec,
    usable_rows,
    with_weights,
)
from equipoise.data.catalogue import Suite
from equipoise.data.refusal_rows import RefusalRow
from equipoise.errors import ModelError, UsageError
from equipoise.types import ChatModel

CURVE_ROWS: Final = 100
"""Rows of each side over which the curve is a mean, at most."""


@dataclass
class BegunReplies:
    """What a `--suite recovery-depth` means for one target."""

    source: str
    """The file of the rows, or empty for the model's own answers."""
    rows: list[RefusalRow] | None
    """The rows of the file; else None until the model has given answers of its own."""

    @classmethod
    def of_specs(cls, specs: Sequence[str]) -> Self | None:
        """The suite that is among some specs; None where it is not. Its file is read, before a model is loaded.

        Raises:
            UsageError: it is named twice, or its file cannot be used.
        """
        own = [spec for spec in specs if is_recovery_depth(spec)]
        if len(own) > 1:
            raise UsageError(f"expected {SUITE} once, got it {len(own)} times; try one file with all rows")
        return cls(own[0].partition("=")[2], rows_of_spec(own[0])) if own else None

    def suite(self, model: ChatModel | None, limit: int | None, seed: int) -> Suite:
        """The samples for a target.

        Args:
            model: the target; None for one on a server.
            limit: samples at most.
            seed: of the choice of rows.

        Raises:
            ModelError: own answers of a model that is not here, or that complies with nothing.
            UsageError: no harmful row.
        """
        if self.rows is not None:
            return recovery_suite(model, self.rows, source=self.source, limit=limit, seed=seed)
        local = with_weights(model)
        if local is None:
            raise ModelError(
                f"expected a model of transformers for {SUITE} with its own answers, got another; try {SUITE}=FILE"
            )
        self.rows = own_rows(local, limit, seed)
        suite = recovery_suite(model, self.rows, source="the model's own answers", limit=limit, seed=seed)
        harmful = sum(row.kind == "harmful" for row in self.rows)
        counts = f"{harmful} harmful and {len(self.rows) - harmful} harmless of {own_prompt_count(limit)} prompts each"
        note = f"replies begin with the model's own answers to {counts}; it refused the others even when it was led"
        return replace(suite, notes=(*suite.notes, note))

    def write_curve(self, model: ChatModel | None, run: AuditRun) -> str | None:
        """Measure the curve and write it into the run folder, where the weights are here and it is not there yet.

        Returns:
            Why there is no curve, or why it is of other words than the model's; None where there is nothing to say.
        """
        local = with_weights(model)
        if local is None or self.rows is None or read_curve(run.folder) is not None:
            return None
        from equipoise.audit.recovery.curve import refusal_curve

        rows = usable_rows(self.rows)
        sides = [row for row in rows if row.kind == "harmful"], [row for row in rows if row.kind != "harmful"]
        chosen = [row for side in sides for row in side[:CURVE_ROWS]]
        refusals = _refusals(run)
        try:
            curve = refusal_curve(local, chosen, refusals)
        except UsageError:
            return "no curve of the refusal's probability: refusals begin as the answers do that replies begin with"
        write_curve(run.folder, curve)
        openers = tuple(dict.fromkeys(text.strip() for text in curve.openers))
        if refusals and not any(refusal.startswith(openers) for refusal in refusals):
            words = ", ".join(map(repr, openers))
            return f"the curve of the refusal's probability is of {words}: {local.name} refuses in words of answers"
        return None


def _refusals(run: AuditRun) -> list[str]:
    """Replies of the run that are refusals from their first word on."""
    return [
        case.reply.reply
        for case in run.cases()
        if case.sample.suite == SUITE
        and case.variant == PLAIN
        and case.verdict.refusal == "full"
        and case.reply is not None
        and refusal_position(case.reply.reply) == 0
    ]
