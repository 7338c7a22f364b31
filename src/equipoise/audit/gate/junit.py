"""A verdict as JUnit XML: a test case for each rule, none for a prompt."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from equipoise.audit.gate import descriptions
from equipoise.audit.gate.verdict import CheckedRule, GateVerdict

NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, escaped or not."""


def to_junit(verdict: GateVerdict) -> str:
    """The verdict as an XML document.

    A broken rule is a failure and an inconclusive one an error, so that no reader takes either for a pass. Whether the
    run is finished is a test case of its own.
    """
    failures, errors = verdict.count("failed"), verdict.count("inconclusive")
    root = Element("testsuites", name="equipoise gate")
    _counts(root, len(verdict.checked) + 1, failures, errors + (not verdict.complete))
    # Jenkins' schema knows `skipped` for a suite only.
    del root.attrib["skipped"]
    run = SubElement(root, "testsuite", name="run")
    _counts(run, 1, 0, int(not verdict.complete))
    properties = SubElement(run, "properties")
    facts = {"outcome": verdict.outcome, "model": verdict.model, "judge": verdict.judge}
    for name, both in verdict.axes.items():
        facts |= {f"{name} {kind}": descriptions.in_percent(rate) for kind, rate in both.items()}
    for key, value in facts.items():
        SubElement(
            properties, "property", name=_text(descriptions.printable(key)), value=_text(descriptions.printable(value))
        )
    finished = SubElement(run, "testcase", classname="run", name="every sample was asked and judged", time="0")
    if not verdict.complete:
        SubElement(finished, "error", type="partial", message=descriptions.HEADLINES["partial"])
    for name, group in groupby(verdict.checked, descriptions.scope):
        _suite(root, name, list(group))
    ElementTree.indent(root)
    # With its encoding: some readers take a file without one for Latin-1.
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(root: Element, name: str, checked: list[CheckedRule]) -> None:
    suite = SubElement(root, "testsuite", name=_text(name))
    outcomes = [result.outcome for result in checked]
    _counts(suite, len(checked), outcomes.count("failed"), outcomes.count("inconclusive"))
    for result in checked:
        name_of_rule = _text(descriptions.title(result))
        # Readers add up the times of cases, and some take a missing one for no number.
        case = SubElement(suite, "testcase", classname=f"gate.{result.rule.subject}", name=name_of_rule, time="0")
        message = _text(f"{descriptions.measured(result)}; {result.reason}")
        if result.outcome == "failed":
            SubElement(case, "failure", type="limit", message=message).text = message
        elif result.outcome == "inconclusive":
            SubElement(case, "error", type="inconclusive", message=message).text = message
        else:
            SubElement(case, "system-out").text = message


def _counts(element: Element, tests: int, failures: int, errors: int) -> None:
    for key, value in (("tests", tests), ("failures", failures), ("errors", errors), ("skipped", 0)):
        element.set(key, str(value))
    element.set("time", "0")


def _text(text: str) -> str:
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
