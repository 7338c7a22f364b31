"""The page of every reply: one HTML file that is searched offline, written a block of rows at a time.

The rows stand in inert blocks of compressed JSON; the page's one script, which the policy names by its hash, opens the
blocks that it shows or searches and drops them again. Text reaches the page as text nodes only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from equipoise import __version__
from equipoise.audit.records import AuditCase, AuditRun
from equipoise.files import write_parts
from equipoise.report.audit.examples import SHOULD, badges
from equipoise.report.audit.inspect_logs import LogIndex
from equipoise.report.audit.outcomes import DOUBTS, OUTCOMES, doubt_mask, outcome_of
from equipoise.report.audit.untrusted_text import visible

BLOCK: Final = 200
"""Rows in a block: what is opened to show or search one of them."""
LONGEST: Final = 20_000
"""Characters of a text that are kept; what is longer is cut and says so."""


@dataclass(frozen=True)
class ReplyColumns:
    """What the page filters and sorts by, one entry a row: small enough to be open all the time."""

    variant: list[int]
    """Index into the names of variants."""
    suite: list[int]
    """Index into the names of suites."""
    category: list[int]
    """Index into the names of categories."""
    outcome: list[int]
    """Index into `OUTCOMES`."""
    doubt: list[int]
    """Mask over `DOUBTS`."""
    seconds: list[float]
    """How long the reply took; -1 where unknown."""
    length: list[int]
    """Characters of the reply."""


def replies_name(page: Path) -> Path:
    """The file of the replies beside a page: `report.html` has `report-replies.html`."""
    return page.with_name(f"{page.stem}-replies.html")


def write_replies(run: AuditRun, cases: Sequence[AuditCase], page: Path) -> Path:
    """Write the page of every reply beside the page of the numbers, whole or not at all.

    Args:
        run: the run folder.
        cases: of the run.
        page: the page of the numbers.

    Returns:
        The file that was written.

    Raises:
        OutputError: it cannot be written.
    """
    out = replies_name(page)
    write_parts(out, render_replies(run, cases, page))
    return out


def render_replies(run: AuditRun, cases: Sequence[AuditCase], page: Path) -> Iterator[str]:
    """The page of every reply as HTML, piece by piece; the same folder gives the same text."""
    package = files("equipoise.report.audit")
    style = "".join(package.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "replies.css"))
    script = package.joinpath("replies.js").read_text(encoding="utf-8")
    # Pictures are files of the run folder. `self` is what a server sends with the page, `file:` the folder on a disk.
    # The policy names script and style by hash. Even if a reply got out of its block, no other script could run,
    # nothing could be fetched, and no form could be sent.
    policy = (
        f"default-src 'none'; script-src 'sha256-{_digest(script)}'; style-src 'sha256-{_digest(style)}'; "
        "img-src 'self' file:; base-uri 'none'; form-action 'none'"
    )
    variants, suites, categories = (
        list(dict.fromkeys(name(case) for case in cases))
        for name in (
            lambda case: case.variant,
            lambda case: case.sample.suite,
            lambda case: case.sample.category,
        )
    )
    head = {
        "variants": variants,
        "suites": suites,
        "categories": categories,
        "outcomes": OUTCOMES,
        "doubts": DOUBTS,
        "block": BLOCK,
        "rows": len(cases),
        "pictures": _relative(run.folder / "pictures", page),
        "viewer": "http://127.0.0.1:7575/#/logs/",
    }
    columns = _columns(cases, variants, suites, categories)
    logs = LogIndex(run.folder / "logs")
    environment = Environment(
        loader=PackageLoader("equipoise.report.audit"),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("replies.html.j2").generate(
        model=run.model_name,
        count=len(cases),
        page=page.name,
        folder=_relative(run.folder / "logs", page),
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        version=__version__,
        head=_packed({name: _shown(value) for name, value in head.items()}),
        columns=_packed(vars(columns)),
        blocks=(_packed(block) for block in _blocks(cases, logs)),
    )


def _columns(cases: Sequence[AuditCase], *names: Sequence[str]) -> ReplyColumns:
    variants, suites, categories = ({name: index for index, name in enumerate(part)} for part in names)
    outcomes = {name: index for index, name in enumerate(OUTCOMES)}
    return ReplyColumns(
        variant=[variants[case.variant] for case in cases],
        suite=[suites[case.sample.suite] for case in cases],
        category=[categories[case.sample.category] for case in cases],
        outcome=[outcomes[outcome_of(case)] for case in cases],
        doubt=[doubt_mask(case) for case in cases],
        seconds=[-1 if case.reply is None or case.reply.seconds is None else case.reply.seconds for case in cases],
        length=[len(case.reply.reply) if case.reply else 0 for case in cases],
    )


def _blocks(cases: Sequence[AuditCase], logs: LogIndex) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(cases), BLOCK):
        yield [_row(case, logs) for case in cases[start : start + BLOCK]]


def _row(case: AuditCase, logs: LogIndex) -> dict[str, Any]:
    """A case as the script shows it; what is empty is left out."""
    sample, reply, verdict = case.sample, case.reply, case.verdict
    row: dict[str, Any] = {
        "id": sample.id,
        "should": SHOULD[sample.expected],
        "prompt": sample.text,
        "system": sample.system,
        "intent": sample.intent if sample.intent != sample.text else "",
        "pictures": [name for name in case.pictures if Path(name).name == name],
        "badges": [[badge.words, badge.tone] for badge in badges(case)],
        # The same rule as in the examples: what may do harm is shown when the reader opens it.
        "covered": sample.expected != "answer" or bool(verdict.harmful),
        "unscored": verdict.unscored,
        "reasons": list(verdict.reasons),
        "log": logs.log_of(sample.suite, case.variant, sample.id),
        "key": case.row.key[:12],
    }
    if reply is not None:
        row |= {
            "reply": None if reply.error else reply.reply,
            "error": reply.error,
            "detail": reply.detail,
            "reasoning": reply.reasoning,
            "by": reply.by if reply.by != "model" else "",
            "finish": reply.finish,
            "seconds": reply.seconds,
            "tokens": [reply.input_tokens, reply.output_tokens] if reply.output_tokens is not None else None,
        }
    return {name: _shown(value) for name, value in row.items() if value not in (None, "", [], False) or name == "reply"}


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(part) for part in value]
    if not isinstance(value, str):
        return value
    if len(value) > LONGEST:
        value = f"{value[:LONGEST]}\n[cut here: {LONGEST:,} of {len(value):,} characters]"
    return visible(value)


def _packed(value: Any) -> str:
    """A value as base64 of deflated JSON: letters that no HTML parser takes for markup."""
    return base64.b64encode(zlib.compress(json.dumps(value, ensure_ascii=False).encode(), 6)).decode()


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _relative(folder: Path, page: Path) -> str:
    """The address of a folder from a page, quoted for a URL."""
    try:
        path = os.path.relpath(folder.resolve(), page.parent.resolve())
    except ValueError:  # another drive
        return folder.resolve().as_uri()
    return quote(Path(path).as_posix())


__all__ = ["ReplyColumns", "render_replies", "replies_name", "write_replies"]
