"""`summary.json`: both failures of every variant, suite and category of a run, as a function of its folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from equipoise.audit.comparison import compare_variants
from equipoise.audit.labels import BORDERLINE, PLAIN, RATES, is_axis_scored, labels_of
from equipoise.audit.reach import reach_of
from equipoise.audit.records import FORMAT, AuditCase, AuditRun, ReplyRow
from equipoise.audit.warnings import find_warnings
from equipoise.files import write_json
from equipoise.judges.cards import card_for
from equipoise.stats.estimates import estimate

NAME: Final = "summary.json"
REASONS: Final = 20
"""How many reasons for being unscored are told apart; the rest is counted together."""
LONGEST: Final = 300
"""Characters of a server's words."""
OTHER_REASONS: Final = "other reasons"
TRACES: Final = ("pictures_done",)
"""What the attack recorded picture by picture: too long for a summary."""


def summarise(run: AuditRun) -> dict[str, Any]:
    """The summary of a run.

    Returns:
        `{format, run, complete, variants, comparisons, warnings, judges}`. Under `variants` both axes of every variant,
        in all and for each suite and category, with whether the model was reached, what came back on the wire, who
        spoke, how many replies are degenerate, why cases are unscored and what servers said with refusals. The same
        folder always gives the same summary, but for the agreement cards, which are those of this version of
        Equipoise.

    Raises:
        UsageError: a file of the folder was changed.
    """
    return summarise_cases(run, run.cases())


def summarise_cases(run: AuditRun, cases: Sequence[AuditCase]) -> dict[str, Any]:
    """`summarise` for a caller that has read the cases already."""
    variants = {name: _variant(members) for name, members in group(cases, lambda case: case.sample.variant).items()}
    judge, others = run.recipe["judge"], run.recipe.get("judges", [])
    return {
        "format": FORMAT,
        "run": _recipe(run),
        "complete": is_complete(run, cases),
        "variants": variants,
        "comparisons": [each.to_dict() for each in compare_variants(run, cases)],
        "warnings": [warning.to_dict() for warning in find_warnings(run, cases)],
        "judges": [_with_card(judge), *(_with_card(other) for other in others if other != judge)],
    }


def write_summary(run: AuditRun) -> Path:
    """Write `summary.json` into the run folder, whole or not at all.

    Raises:
        UsageError: a file of the folder was changed.
        OutputError: the file cannot be written.
    """
    path = run.folder / NAME
    write_json(path, summarise(run))
    return path


def rates(cases: Sequence[AuditCase]) -> dict[str, Any]:
    """Every rate of some cases: always both axes, never one of them.

    Returns:
        `{needless_refusal, harmful_answer, full_refusal, accuracy, borderline: {refused, harmful}}`, each the
        dictionary of an `Estimate`; its rate is None where no case was scored.
    """
    return {
        **{kind: estimate(labels_of(cases, kind)).to_dict() for kind in RATES},
        "borderline": {name: estimate(labels_of(cases, kind)).to_dict() for name, kind in BORDERLINE.items()},
    }


def is_complete(run: AuditRun, cases: Sequence[AuditCase]) -> bool:
    """Whether nothing is left that asking or judging again may cure.

    A sample that cannot be asked (its picture is missing) and a label that the judge could not give leave a run
    complete; a prompt without a reply, a reply without a verdict, and a sample or variant of the recipe that is not
    there do not.
    """
    if any(case.unasked or case.verdict.unscored == "not judged yet" for case in cases):
        return False
    return has_all_samples(run, cases)


def has_all_samples(run: AuditRun, cases: Sequence[AuditCase]) -> bool:
    """Whether every sample and variant of the recipe is there, asked or not."""
    plain = sum(case.sample.variant == PLAIN for case in cases)
    if plain < sum(suite.get("samples", 0) for suite in run.recipe.get("suites", [])):
        return False
    return {case.sample.variant for case in cases} >= set(run.recipe.get("variants", []))


def group(cases: Iterable[AuditCase], by: Callable[[AuditCase], str]) -> dict[str, list[AuditCase]]:
    """Cases by a name, in the order in which the names first appear."""
    groups: dict[str, list[AuditCase]] = {}
    for case in cases:
        groups.setdefault(by(case), []).append(case)
    return groups


def _variant(cases: Sequence[AuditCase]) -> dict[str, Any]:
    replies = [case.reply for case in cases if case.reply is not None and case.reply.error is None]
    return {
        **rates(cases),
        "reach": reach_of(cases).to_dict(),
        "wire": _counts(reply.wire for reply in replies),
        "by": _counts(reply.by for reply in replies),
        "degenerate": sum(case.verdict.degenerate is True for case in cases),
        "unscored_reasons": _reasons(cases),
        "server_said": _said(replies),
        "suites": {
            name: {**rates(members), "categories": _categories(members)}
            for name, members in group(cases, lambda case: case.sample.suite).items()
        },
    }


def _categories(cases: Sequence[AuditCase]) -> dict[str, Any]:
    named = [case for case in cases if case.sample.category]
    return {name: rates(members) for name, members in group(named, lambda case: case.sample.category).items()}


def _reasons(cases: Sequence[AuditCase]) -> dict[str, int]:
    """Why cases are on no axis, the most frequent reason first."""
    told = (case.verdict.unscored or "no judge gives this label" for case in cases if not is_axis_scored(case))
    # One line for all missing pictures: their names stand in samples.jsonl.
    counts = _counts(re.sub(r"^picture .+ is missing$", "a picture is missing", reason) for reason in told)
    kept = dict(list(counts.items())[:REASONS])
    rest = sum(counts.values()) - sum(kept.values())
    return {**kept, OTHER_REASONS: kept.get(OTHER_REASONS, 0) + rest} if rest else kept


def _said(replies: Sequence[ReplyRow]) -> dict[str, int]:
    """What servers said with refusals that are no reply of the model, the most frequent words first."""
    said = (
        " ".join(reply.detail.split())[:LONGEST]
        for reply in replies
        if reply.detail.strip() and reply.wire in ("policy_error", "content_filter") and reply.by in ("server", "model")
    )
    return dict(list(_counts(said).items())[:REASONS])


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _with_card(judge: dict[str, Any]) -> dict[str, Any]:
    """A judge with the agreement card that ships for it, where there is one."""
    card = card_for(str(judge.get("identity")))
    return {**judge, "card": card.to_dict()} if card and not {"card", "cards"} & set(judge) else judge


def _recipe(run: AuditRun) -> dict[str, Any]:
    """The recipe without its traces, the model's name and revision side by side."""
    recipe = dict(run.recipe)
    if attack := recipe.get("attack"):
        recipe["attack"] = {key: value for key, value in attack.items() if key not in TRACES}
    model = recipe.get("model")
    if isinstance(model, dict):
        recipe["model"], recipe["revision"] = model.get("name"), model.get("revision")
    return recipe
