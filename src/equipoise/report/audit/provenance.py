"""Where the numbers come from: model, suites, versions, hardware, and the command that makes them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equipoise.audit.records import AuditCase
from equipoise.report.audit.untrusted_text import mapping, mappings, plain

SHOWN_ELSEWHERE: Final = frozenset(
    ["format", "equipoise", "command", "started", "model", "revision", "suites", "variants", "judge", "judges"]
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


def read_origin(recipe: Mapping[str, Any], cases: Sequence[AuditCase]) -> RunProvenance:
    """The recipe as the page shows it."""
    model = recipe.get("model")
    named = mapping(model)
    versions = mapping(recipe.get("versions"))
    return RunProvenance(
        model=str(named.get("name") or (model if isinstance(model, str) else "unknown model")),
        revision=str(named.get("revision") or recipe.get("revision") or ""),
        started=str(recipe.get("started") or recipe.get("date") or ""),
        version=str(recipe.get("equipoise") or versions.get("equipoise") or "unknown"),
        command=_command(recipe.get("command")),
        suites=tuple(_suites(recipe, cases)),
        facts=tuple(_facts(recipe)),
        defence=_defence(mapping(recipe.get("defence"))),
    )


def _defence(defence: Mapping[str, Any]) -> tuple[str, ...]:
    specs = tuple(str(layer.get("spec")) for layer in mappings(defence.get("layers")))
    return specs or ((str(defence["name"]),) if defence.get("name") else ())


def _command(command: object) -> str:
    """A list of words is quoted here; text was quoted by whoever wrote it."""
    if isinstance(command, list | tuple):
        return shlex.join(str(word) for word in command)
    return str(command or "")


def _suites(recipe: Mapping[str, Any], cases: Sequence[AuditCase]) -> list[SuiteProvenance]:
    kept = {str(entry.get("name")): entry for entry in mappings(recipe.get("suites"))}
    rows: dict[str, dict[str, AuditCase]] = {}
    for case in cases:
        rows.setdefault(case.sample.suite, {})[case.sample.id] = case
    made = []
    # A recipe may name the whole where its rows name the parts: `mm-safetybench` for `mm-safetybench/typo`.
    for name in [*rows, *(name for name in kept if not any(row.partition("/")[0] == name for row in rows))]:
        entry = mapping(kept.get(name) or kept.get(name.partition("/")[0]))
        asked = [case.sample for case in rows.get(name, {}).values()]
        sources = sorted({str(entry.get("source") or "")} - {""}) or sorted({row.source for row in asked} - {""})[:3]
        licences = sorted({row.licence for row in asked} - {""})[:3] or [str(entry.get("licence") or "not stated")]
        made.append(
            SuiteProvenance(name, ", ".join(sources), str(entry.get("sha256") or ""), ", ".join(licences), len(asked))
        )
    return made


def _facts(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    for name, value in recipe.items():
        if name in SHOWN_ELSEWHERE or value in (None, "", [], {}):
            continue
        shown = {key: part for key, part in value.items() if key != "pictures_done"} if name == "attack" else value
        facts.append((str(name).replace("_", " "), plain(shown)))
    return facts
