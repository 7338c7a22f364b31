"""What the figures of a frontier say, in sentences that need no statistics; and how to deploy the chosen row.

A change counts as measured if its interval excludes zero and its p-value, after Holm's correction over all rows, is
below 0.05. "No measurable rise" is weaker than "no rise", so the sentence gives the largest rise that the interval
still allows, and a row is recommended only where that is within a margin.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equipoise.audit.frontier.document import Frontier, FrontierRow
from equipoise.audit.frontier.margin import MARGIN, PROMPTS, open_rises, prompts_needed, prompts_to_show
from equipoise.audit.labels import AXES, PLAIN, RateName
from equipoise.countermeasures.catalogue import parse
from equipoise.prompts.policy_file import NAMED, load_policy
from equipoise.stats.estimates import PairedChange

NOT_DECLARED: Final = "not declared"
"""`FrontierRow.tuning` of a row that came with files of unknown origin."""
CERTAIN: Final = 0.05
"""Corrected p-value below which a change counts as measured."""
WORDS: Final[dict[RateName, str]] = {"needless_refusal": "needless refusals", "harmful_answer": "harmful answers"}


@dataclass(frozen=True)
class FrontierAdvice:
    """What to ship, and why."""

    ship: str
    """Name of the row: `plain` where no mitigation is measurably better."""
    headline: str
    """In one sentence."""
    sentences: tuple[str, ...]
    """One for each other row, those most surely on the front first."""
    command: str
    """What deploys the chosen row."""
    alternatives: tuple[str, ...] = ()
    """Rows that also qualify and are better on one failure, for those who weigh the failures otherwise."""
    margin: float = MARGIN
    """Largest rise of the other failure that was accepted, as a share."""

    def to_json(self) -> dict[str, Any]:
        """Every field under its name."""
        return {
            "ship": self.ship,
            "headline": self.headline,
            "sentences": list(self.sentences),
            "command": self.command,
            "alternatives": list(self.alternatives),
            "margin": self.margin,
        }


def advise(frontier: Frontier, margin: float = MARGIN) -> FrontierAdvice:
    """Choose a row and put all rows into words.

    Chosen is, of the rows that measurably lower one failure and whose interval excludes a rise of the other by more
    than the margin, the one with the lowest sum of both measured rates; equal sums go to the faster one. Rows that
    were tuned on undeclared data are described and never chosen: they may have been tuned on the test split.

    Args:
        frontier: what was measured.
        margin: largest rise of a failure that is accepted where the other one falls, as a share.
    """
    improving = [row for row in frontier.rows if row.complete and row.tuning != NOT_DECLARED and _improves(row)]
    candidates = [row for row in improving if not open_rises(row, _lowered(row), margin)]
    sentences = {row.name: sentence(row, frontier.plain, margin) for row in rank(frontier.rows) if row.changes}
    if not candidates:
        command = deploy_command(frontier, frontier.plain)
        reason = _why_plain(frontier, improving, margin)
        return FrontierAdvice(PLAIN, reason, tuple(sentences.values()), command, margin=margin)
    # Both failures count alike in the sum. It only ranks rows that already lower one failure without a rise of the
    # other beyond the margin; a user who weighs them otherwise has the table and the plot.
    best = min(candidates, key=_sum_then_time)
    rest = tuple(text for name, text in sentences.items() if name != best.name)
    command = deploy_command(frontier, best)
    return FrontierAdvice(best.name, sentences[best.name], rest, command, _alternatives(best, candidates), margin)


def _why_plain(frontier: Frontier, improving: Sequence[FrontierRow], margin: float) -> str:
    """Why no mitigation is recommended."""
    if not any(row.changes for row in frontier.rows):
        return "No mitigation was measured."
    if any(row.membership is None for row in frontier.rows):
        return "One axis is unknown for some rows, so nothing is recommended over the model as it is."
    if not improving:
        reason = "No mitigation here measurably lowers one failure without raising the other: ship the model as it is."
        return f"{reason}{_nearest(frontier, margin)}"
    best = min(improving, key=_sum_then_time)
    axis = open_rises(best, _lowered(best), margin)[0]
    change = best.changes[axis]
    seeds = len(best.folders)
    count = prompts_needed(change, margin, seeds)
    more = (
        f"about {count:,} of them would show whether it is there"
        if count is not None
        else f"the measured rise of {100 * (change.change or 0):.1f} points is no smaller than that"
    )
    falls = " and ".join(_from_to(best, frontier.plain, lowered) for lowered in _lowered(best))
    return (
        f"Nothing is recommended over the model as it is. {best.name} lowers {falls}, but {change.n // seeds} "
        f"{PROMPTS[axis]} prompts do not exclude a rise of {WORDS[axis]} of up to {100 * change.high:.1f} points "
        f"(margin: {100 * margin:g}); {more}."
    )


def _nearest(frontier: Frontier, margin: float) -> str:
    """The row that looks better and is not shown to be, with the prompts that would show it; empty where none does."""
    options = [
        (row, axis)
        for row in frontier.rows
        for axis, other in (AXES, AXES[::-1])
        if row.changes and row.complete and row.tuning != NOT_DECLARED and row.changes[other].high <= margin
        if (row.changes[axis].change or 0.0) < 0 and direction(row.changes[axis]) == 0
    ]
    if not options:
        return ""
    row, axis = min(options, key=lambda option: option[0].changes[option[1]].change or 0.0)
    change, seeds = row.changes[axis], len(row.folders)
    needed = f"{prompts_to_show(change, seeds):,} {PROMPTS[axis]} prompts instead of {change.n // seeds}"
    return (
        f" Not settled: {row.name} ({_from_to(row, frontier.plain, axis)} on these prompts, a change that may be "
        f"chance); about {needed} would show it, if it is as large as it looks."
    )


def _alternatives(best: FrontierRow, candidates: Sequence[FrontierRow]) -> tuple[str, ...]:
    """Of the rows that qualify, the one with the fewest failures of each kind, where that is another than the best."""
    texts = []
    for axis in AXES:
        least = min(candidates, key=lambda row: row.rates[axis].rate or 0.0)
        if least is not best and (least.rates[axis].rate or 0.0) < (best.rates[axis].rate or 0.0):
            own, others = (_percent(row.rates[axis].rate) for row in (least, best))
            texts.append(
                f"For the fewest {WORDS[axis]}: {least.name} ({own}, {best.name} {others}). {best.name} has the lower "
                "sum of both measured rates, which weighs both failures alike."
            )
    return tuple(texts)


def sentence(row: FrontierRow, plain: FrontierRow, margin: float = MARGIN) -> str:
    """What a row changes, from its paired changes and its cost; the rates are those of the table."""
    lowered = _lowered(row)
    raised = [axis for axis in AXES if direction(row.changes[axis]) == 1]
    open_ = [axis for axis in AXES if axis not in lowered and axis not in raised]
    unknown = [axis for axis in AXES if row.changes[axis].change is None]
    if unknown:
        names = " and ".join(WORDS[axis] for axis in unknown)
        return f"{row.name}: {names} could not be compared with the plain model."
    parts = [f"lowers {_from_to(row, plain, axis)}" for axis in lowered]
    parts += [f"raises {_from_to(row, plain, axis)}" for axis in raised]
    if not parts:
        return (
            f"{row.name} changes neither failure measurably{_acted(row)}: "
            f"needless refusals {_points(row.changes[AXES[0]])}, "
            f"harmful answers {_points(row.changes[AXES[1]])}{_uncorrected(row)}."
        )
    text = f"{row.name} {' and '.join(parts)}"
    if open_:
        axis = open_[0]
        change = row.changes[axis]
        word = "rise" if lowered else "fall"
        most = max(change.high, 0.0) if lowered else max(-change.low, 0.0)
        text += f" without a measurable {word} of {WORDS[axis]}"
        if round(most, 3) > 0:
            beyond = f", more than the margin of {100 * margin:g}" if lowered and most > margin else ""
            text += f" (a {word} of up to {100 * most:.1f} points is not excluded{beyond})"
    return f"{text}{_cost(row)}."


def _acted(row: FrontierRow) -> str:
    """On how many prompts a row's replies differ from the plain model's."""
    if row.replies is None:
        return ""
    changed, compared = row.replies
    return f" (it changes {changed:,} of {compared:,} replies)"


def _uncorrected(row: FrontierRow) -> str:
    """What an interval without zero means where the corrected p-value does not follow it."""
    apart = [axis for axis in AXES if not row.changes[axis].low <= 0 <= row.changes[axis].high]
    if not apart:
        return ""
    names = " and of ".join(WORDS[axis] for axis in apart)
    return f" (the interval of {names} leaves zero out, but not after correction for all comparisons)"


def direction(change: PairedChange) -> int:
    """-1 where a rate measurably fell, 1 where it measurably rose, 0 where neither was measured."""
    p = change.p if change.p_adjusted is None else change.p_adjusted
    # Both must agree: the interval knows of clusters and the p-value of the number of comparisons, and neither of the
    # other.
    if change.change is None or p >= CERTAIN or change.low <= 0 <= change.high:
        return 0
    return 1 if change.change > 0 else -1


def deploy_command(frontier: Frontier, row: FrontierRow) -> str:
    """The command that puts a row to use."""
    model = str(frontier.recipe["model"]["name"])
    if frontier.recipe["model"].get("served"):
        parsed = {spec.name: spec.values for spec in map(parse, row.specs)}
        upstream = model.partition("#")[0]
        if "prompt" in parsed:
            return _served_policy(parsed["prompt"]["file"], upstream)
        if "guard" not in parsed:
            return f"# no change: keep calling {model}"
        return " ".join(["equipoise guard serve --upstream", shlex.quote(upstream), *_guard_options(parsed["guard"])])
    defences = [part for spec in row.specs for part in ("--defend", shlex.quote(spec))]
    return " ".join(["equipoise serve", shlex.quote(row.model), *defences])


def _served_policy(policy: str, upstream: str) -> str:
    """The gateway with a prompt policy of ours; it also has a guard, which it never runs without."""
    if policy not in NAMED:
        # A file, perhaps on another machine than the one that renders the page.
        return (
            f"# put the steps of {policy} under [[prompt.steps]] of a guard's policy file: equipoise guard serve --help"
        )
    if load_policy(policy).retry is not None:
        return f"# {policy} asks again after a refusal, which the gateway does not: countermeasures.prompted_chat does"
    file = f"""printf '[prompt]\\nuse = "{policy}"\\n' > policy.toml"""
    return f"{file} && equipoise guard serve --upstream {shlex.quote(upstream)} --policy policy.toml"


def _guard_options(values: Mapping[str, str]) -> list[str]:
    options = [f"--detector {shlex.quote(values['detector'])}"]
    if values["detoxifier"] != "none":
        options += [f"--detoxifier {shlex.quote(name)}" for name in values["detoxifier"].split("+")]
    if values["policy"] != "default":
        options.append(f"--policy {shlex.quote(values['policy'])}")
    return options


def _improves(row: FrontierRow) -> bool:
    if not row.changes:
        return False
    directions = [direction(row.changes[axis]) for axis in AXES]
    return -1 in directions and 1 not in directions


def _lowered(row: FrontierRow) -> list[RateName]:
    """The failures that measurably fall."""
    return [axis for axis in AXES if direction(row.changes[axis]) == -1]


def _sum(row: FrontierRow) -> float:
    return sum(row.rates[axis].rate or 0.0 for axis in AXES)


def _sum_then_time(row: FrontierRow) -> tuple[float, float]:
    return _sum(row), row.cost.get("latency_ratio") or 1.0


def _from_to(row: FrontierRow, plain: FrontierRow, axis: RateName) -> str:
    """A failure before and after: the rates that the table shows, so that a reader finds them there.

    The change itself is measured on the prompts that both rows have a label for. Where the rates of all prompts move
    the other way, those of the shared prompts are named.
    """
    change = row.changes[axis]
    before, after = plain.rates[axis].rate, row.rates[axis].rate
    if before is None or after is None or (after - before) * (change.change or 0.0) <= 0:
        before, after = change.rate_a, change.rate_b
    return f"{WORDS[axis]} from {_percent(before)} to {_percent(after)}"


def _cost(row: FrontierRow) -> str:
    ratio = row.cost.get("latency_ratio")
    return "" if ratio is None else f", at {ratio:.1f} times the time of a reply"


def _percent(rate: float | None) -> str:
    return "unknown" if rate is None else f"{100 * rate:.1f} %"


def _points(change: PairedChange) -> str:
    return f"{100 * (change.change or 0):+.1f} points ({100 * change.low:+.1f} to {100 * change.high:+.1f})"


def rank(rows: Sequence[FrontierRow]) -> list[FrontierRow]:
    """The rows as the page lists them: the plain model, then those most surely on the front."""
    plain = [row for row in rows if not row.changes]
    others = [row for row in rows if row.changes]
    return plain + sorted(others, key=lambda row: (-(row.membership.share if row.membership else -1.0), _sum(row)))
