"""Where the numbers come from: model, suites, versions, hardware, and the command that makes them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equipoise.audit.records import AuditCase, AuditRun
from equipoise.report.audit.untrusted_text import plain
from equipoise.types import Sample

SHOWN_ELSEWHERE: Final = frozenset(
    ["format", "equipoise", "command", "started", "model", "suites", "variants", "judge"]
)
"""Keys of a recipe that have a place of their own on the page."""


@dataclass(frozen=True)
class SuiteProvenance:
    """Where one suite comes from."""

    name: str
    """Its name."""
    source: str
    """Where it was read from, or who made it."""
    sha256: str
    """Of its files."""
    licence: str
    """Its licence, as its rows state it."""
    samples: int
    """Prompts of it in this run, each counted once."""


@dataclass(frozen=True)
class RunProvenance:
    """The recipe of a run."""

    model: str
    """Who was asked."""
    revision: str
    """Which weights."""
    started: str
    """When, as the recipe has it."""
    version: str
    """Which Equipoise."""
    command: str
    """What makes it again, quoted for a shell."""
    suites: tuple[SuiteProvenance, ...]
    """What was asked."""
    facts: tuple[tuple[str, str], ...]
    """All else that the recipe holds."""
    defence: tuple[str, ...] = ()
    """The countermeasures of the defended variants, in the order in which a picture meets them."""

    @property
    def day(self) -> str:
        """The date alone."""
        return self.started.partition("T")[0]


def provenance(run: AuditRun, cases: Sequence[AuditCase]) -> RunProvenance:
    """The recipe of a run as the page shows it."""
    recipe = run.recipe
    return RunProvenance(
        model=run.model_name,
        revision=run.model_revision or "",
        started=recipe.get("started", ""),
        version=recipe.get("equipoise", "unknown"),
        command=recipe.get("command", ""),
        suites=tuple(_suites(recipe.get("suites", []), cases)),
        facts=tuple(_facts(recipe)),
        defence=tuple(str(layer.get("spec")) for layer in (recipe.get("defence") or {}).get("layers", [])),
    )


def _suites(entries: Sequence[Mapping[str, Any]], cases: Sequence[AuditCase]) -> Iterator[SuiteProvenance]:
    # Prompts are counted by id, since each is asked again in every variant.
    by_name = {str(entry.get("name")): entry for entry in entries}
    rows: dict[str, dict[str, Sample]] = {}
    for case in cases:
        rows.setdefault(case.sample.suite, {})[case.sample.id] = case.sample
    # A recipe may name the whole where its rows name the parts: `mm-safetybench` for `mm-safetybench/typo`.
    for name in [*rows, *(name for name in by_name if not any(row.partition("/")[0] == name for row in rows))]:
        entry = by_name.get(name) or by_name.get(name.partition("/")[0]) or {}
        samples = rows.get(name, {}).values()
        source = entry.get("source") or ", ".join(sorted({row.source for row in samples} - {""})[:3])
        licences = sorted({row.licence for row in samples} - {""})[:3] or ["not stated"]
        yield SuiteProvenance(name, source, entry.get("sha256", ""), ", ".join(licences), len(samples))


def _facts(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in recipe.items():
        if name not in SHOWN_ELSEWHERE and value not in (None, "", [], {}):
            yield name.replace("_", " "), plain(value)
