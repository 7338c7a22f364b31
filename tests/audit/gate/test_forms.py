"""The forms of a verdict as their consumers take them: GitHub code scanning, Jenkins and GitLab, a step's summary."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.audit.gate import markdown
from equipoise.audit.gate.junit import to_junit
from equipoise.audit.gate.markdown import to_markdown, write_markdown
from equipoise.audit.gate.repository import repository_root, repository_uri
from equipoise.audit.gate.rules import GateRule, RateLimit
from equipoise.audit.gate.sarif import ROOT, RULES, to_sarif
from equipoise.audit.gate.verdict import CheckedRule, GateVerdict
from equipoise.audit.labels import RATES
from equipoise.audit.warnings import AuditWarning
from equipoise.errors import OutputError
from equipoise.stats.estimates import CaseLabel, estimate

RULE = GateRule("needless_refusal", RateLimit(0.1, "max", "upper"))
RATE = estimate([CaseLabel(value, str(index), False) for index, value in enumerate([True, False, False, None])])


def verdict_of(*outcomes: Any, rules: Path = Path("gate.toml"), complete: bool = True, **more: Any) -> GateVerdict:
    checked = tuple(CheckedRule(RULE, outcome, "the rate is above the limit", estimate=RATE) for outcome in outcomes)
    verdict = GateVerdict("toy", "toy@r1", "judge", rules, complete, checked, {}, ())
    return replace(verdict, **more)


def repository(folder: Path, marker: str = "folder") -> Path:
    root = folder / "repo"
    (root / "ci").mkdir(parents=True)
    if marker == "folder":
        (root / ".git").mkdir()
    elif marker == "file":
        (root / ".git").write_text("gitdir: elsewhere\n")
    (root / "ci" / "gate.toml").write_text("")
    return root


@pytest.mark.parametrize("marker", ["folder", "file"])
@pytest.mark.parametrize("here", [".", "ci", ".."])
def test_a_file_is_named_from_the_root_of_its_repository_wherever_the_gate_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str, here: str
) -> None:
    root = repository(tmp_path, marker)
    monkeypatch.chdir(root / here)
    for path in (root / "ci" / "gate.toml", Path({".": "ci/", "ci": "", "..": "repo/ci/"}[here] + "gate.toml")):
        assert repository_uri(path) == ("ci/gate.toml", True)
    assert repository_uri(root / "ci" / ".." / "limits & more.toml") == ("limits%20%26%20more.toml", True)


def test_without_git_the_workspace_of_the_ci_system_is_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repository(tmp_path, "none")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(root))
    assert repository_root(root / "ci" / "gate.toml") == root
    assert repository_uri(root / "ci" / "gate.toml") == ("ci/gate.toml", True)
    monkeypatch.delenv("GITHUB_WORKSPACE")
    monkeypatch.setenv("CI_PROJECT_DIR", str(root))
    assert repository_uri(root / "ci" / "gate.toml") == ("ci/gate.toml", True)


def test_a_file_outside_of_every_repository_is_named_from_here_or_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
        monkeypatch.delenv(variable, raising=False)
    root = repository(tmp_path, "none")
    monkeypatch.chdir(root)
    assert repository_uri(Path("ci/gate.toml")) == ("ci/gate.toml", True)
    assert repository_uri(tmp_path / "other.toml") == ((tmp_path / "other.toml").as_uri(), False)


def test_code_scanning_gets_every_field_that_it_asks_for(tmp_path: Path) -> None:
    rules = repository(tmp_path) / "ci" / "gate.toml"
    (run,) = json.loads(to_sarif(verdict_of("failed", "inconclusive", rules=rules, complete=False)))["runs"]
    assert run["automationDetails"]["id"] == "equipoise-gate/toy/"
    assert set(run["originalUriBaseIds"]) == {ROOT}
    for rule in run["tool"]["driver"]["rules"]:
        assert re.fullmatch(r"[\w-]+", rule["id"])
        for field in ("shortDescription", "fullDescription", "help"):
            assert rule[field]["text"].strip()
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
    assert len(run["results"]) == 3
    for result in run["results"]:
        assert result["message"]["text"]
        (location,) = result["locations"]
        artifact, region = location["physicalLocation"]["artifactLocation"], location["physicalLocation"]["region"]
        assert artifact == {"uri": "ci/gate.toml", "uriBaseId": ROOT}
        assert set(region) == {"startLine", "startColumn", "endLine", "endColumn"}
        assert (region["endLine"], region["endColumn"]) > (region["startLine"], region["startColumn"]) > (0, 0)
        assert re.fullmatch(r"[0-9a-f]+:\d+", result["partialFingerprints"]["primaryLocationLineHash"])


def test_an_address_outside_of_the_repository_has_no_base(tmp_path: Path) -> None:
    (run,) = json.loads(to_sarif(verdict_of("failed", rules=tmp_path / "gate.toml")))["runs"]
    artifact = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact == {"uri": (tmp_path / "gate.toml").as_uri()}


@given(st.lists(st.sampled_from(["passed", "failed", "inconclusive"]), min_size=1, max_size=6), st.booleans())
def test_junit_is_what_strict_readers_take(outcomes: list[Any], complete: bool) -> None:
    text = to_junit(verdict_of(*outcomes, complete=complete))
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites ')
    root = ElementTree.fromstring(text.encode())
    assert set(root.attrib) <= {"name", "time", "tests", "failures", "disabled", "errors"}
    cases = 0
    for suite in root:
        assert suite.tag == "testsuite"
        assert set(suite.attrib) <= {"name", "tests", "failures", "errors", "time", "skipped", "timestamp", "id"}
        assert [child.tag for child in suite if child.tag == "properties"] in ([], ["properties"])
        own = suite.findall("testcase")
        cases += len(own)
        assert int(suite.attrib["tests"]) == len(own)
        for outcome, counter in (("failure", "failures"), ("error", "errors")):
            assert int(suite.attrib[counter]) == sum(case.find(outcome) is not None for case in own)
        for case in own:
            assert set(case.attrib) == {"classname", "name", "time"}
            assert float(case.attrib["time"]) == 0
            assert {child.tag for child in case} <= {"failure", "error", "system-out"}
            for child in case:
                if child.tag != "system-out":
                    assert {"type", "message"} <= set(child.attrib)
    assert cases == int(root.attrib["tests"])


def test_the_summary_of_a_step_is_appended_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("## Tests\n\n12 passed\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    write_markdown(summary, "## Gate\n")
    write_markdown(tmp_path / "other.md", "one")
    write_markdown(tmp_path / "other.md", "two")
    assert summary.read_text() == "## Tests\n\n12 passed\n## Gate\n\n"
    assert (tmp_path / "other.md").read_text() == "two"


def test_a_summary_that_cannot_be_written_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    with pytest.raises(OutputError, match="expected to write"):
        write_markdown(tmp_path, "text")


def test_a_document_that_is_too_long_ends_at_a_whole_line_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "LONGEST", 2000)
    warnings = tuple(AuditWarning("few-samples", f"too few samples \u00e4 {number}") for number in range(100))
    text = to_markdown(verdict_of("failed", warnings=warnings))
    assert len(text.encode()) <= 2000 + len(markdown.CUT)
    assert text.endswith(markdown.CUT)
    whole = set(to_markdown(verdict_of("failed", warnings=warnings[:50])).splitlines())
    assert set(text.removesuffix(markdown.CUT).splitlines()) <= whole


@given(st.text(max_size=60))
def test_a_reason_is_no_markup_whatever_it_holds(reason: str) -> None:
    shown = markdown._plain(reason)
    assert "@" not in shown
    for mark in "|<>[]`*_":
        assert re.search(rf"(?<!\\){re.escape(mark)}", shown.replace("\\\\", "")) is None


def test_every_rate_that_may_be_limited_has_a_rule_in_sarif() -> None:
    assert {*RATES} <= {*RULES}
