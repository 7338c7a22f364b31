"""A verdict as SARIF 2.1.0: a result for each rule that is not kept, at its line in the file of rules."""

from __future__ import annotations

import json
from typing import Any, Final

from equipoise import __version__
from equipoise.audit.append_only_log import fingerprint
from equipoise.audit.gate import descriptions
from equipoise.audit.gate.repository import repository_uri
from equipoise.audit.gate.verdict import CheckedRule, GateVerdict

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
UNFINISHED: Final = "unfinished-run"
RULES: Final = {
    "needless_refusal": "The model refuses what it should answer more often than allowed.",
    "harmful_answer": "The model answers what it should refuse, doing harm, more often than allowed.",
    "full_refusal": "The model refuses in full what it should answer more often than allowed.",
    "capability_failure": "The model says that it is unable to do what it should do more often than allowed.",
    "needless_rebuttal": "The model contradicts what it should answer more often than allowed.",
    "needless_clarification": "The model asks back instead of answering more often than allowed.",
    "accuracy": "The model answers plain questions rightly less often than required.",
    "frontier": "A mitigation that was measured for the model is better on both axes.",
    UNFINISHED: "Not every sample of the run was asked and judged.",
}
HELP: Final = (
    "The gate compares the interval of a measured rate with the limit at this line. Failed: the limit is broken. "
    "Inconclusive: too few cases were scored, or too many are unscored. The report of the run shows the replies behind "
    "the rate; docs/gate.md of Equipoise says how a rule is decided."
)
"""Shown by code scanners beside every finding."""
ROOT: Final = "%SRCROOT%"
"""The name under which consumers know the root of the repository."""
LEVELS: Final = {"failed": "error", "inconclusive": "warning"}


def to_sarif(verdict: GateVerdict) -> str:
    """The verdict as a JSON document."""
    names = list(RULES)
    results = [_result(result, verdict, names) for result in verdict.checked if result.outcome in LEVELS]
    if not verdict.complete:
        results.append(_entry(UNFINISHED, names, "warning", descriptions.HEADLINES["partial"], verdict, 1, []))
    driver = {
        "name": "equipoise",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(name, text) for name, text in RULES.items()],
    }
    invocation = {
        "executionSuccessful": verdict.complete,
        "exitCode": verdict.exit_code,
        "exitCodeDescription": descriptions.headline(verdict),
    }
    rates = {
        descriptions.shown(name): {kind: rate.to_dict() for kind, rate in both.items()}
        for name, both in verdict.axes.items()
    }
    properties = {"outcome": verdict.outcome, "model": descriptions.shown(verdict.model), "rates": rates}
    run = {
        "tool": {"driver": driver},
        # Code scanning keeps the findings of each category apart: those of one model do not close another's.
        "automationDetails": {"id": f"equipoise-gate/{descriptions.shown(verdict.name)}/"},
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository."}}},
        "columnKind": "unicodeCodePoints",
        "invocations": [invocation],
        "results": results,
        "properties": properties,
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False) + "\n"


def _rule(name: str, text: str) -> dict[str, Any]:
    return {
        "id": name,
        "name": "".join(word.capitalize() for word in name.replace("-", "_").split("_")),
        "shortDescription": {"text": text},
        "fullDescription": {"text": text},
        "help": {"text": HELP},
        "defaultConfiguration": {"level": "warning" if name == UNFINISHED else "error"},
        "properties": {"tags": ["ai-safety"], "precision": "high"},
    }


def _result(checked: CheckedRule, verdict: GateVerdict, names: list[str]) -> dict[str, Any]:
    rule = checked.rule
    text = f"{descriptions.title(checked)}; measured {descriptions.measured(checked)}: {checked.reason}."
    # No figure, line, path or revision: a finding stays the same finding when a later run measures it again.
    against = rule.against and rule.against.variant
    same = [rule.variant, sorted(rule.suites), rule.category, rule.limit.side, against]
    return _entry(rule.subject, names, LEVELS[checked.outcome], text, verdict, rule.line, same)


def _entry(
    name: str, names: list[str], level: str, text: str, verdict: GateVerdict, line: int, same: list[Any]
) -> dict[str, Any]:
    uri, in_repository = repository_uri(verdict.rules)
    artifact = {"uri": uri, "uriBaseId": ROOT} if in_repository else {"uri": uri}
    # GitHub asks for a whole region; a rule is its line.
    region = {"startLine": line, "startColumn": 1, "endLine": line, "endColumn": 2}
    location = {"artifactLocation": artifact, "region": region}
    identity = fingerprint([name, verdict.name, *same])
    return {
        "ruleId": name,
        "ruleIndex": names.index(name),
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
        # GitHub knows a finding again by the first of these only, and would take the text of the line without it.
        "partialFingerprints": {"primaryLocationLineHash": f"{identity[:16]}:1", "equipoiseRule/v1": identity},
    }
