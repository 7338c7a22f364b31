"""Neutral values out of what the commands of Equipoise print and write, whatever their fields are called.

`FIELDS` has for each neutral name the names that a field has, or had, in documents of Equipoise; the first that is
there counts. A name with dots is a path. After a renaming, add the new name to the line; never change a neutral name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

FIELDS: dict[str, tuple[str, ...]] = {
    # stdout of `perturb --json`
    "perturb.pictures": ("images",),
    "perturb.errors": ("errors",),
    "perturb.original": ("image",),
    "perturb.linf": ("linf_measured",),
    "perturb.psnr": ("psnr",),
    "perturb.ssim": ("ssim",),
    "perturb.steps": ("steps",),
    "perturb.stopped": ("stopped",),
    "perturb.doubts": ("doubts", "warnings"),
    "perturb.models": ("per_model",),
    "perturb.role": ("role",),
    "perturb.rate": ("refusals",),
    "perturb.clean_rate": ("clean_refusals",),
    "perturb.replies": ("answers",),
    "perturb.clean_reply": ("clean",),
    "perturb.reply": ("perturbed",),
    "perturb.clean_label": ("clean_refusal",),
    "perturb.label": ("perturbed_refusal",),
    "count.n": ("asked",),
    "count.k": ("refused",),
    "count.low": ("low",),
    "count.high": ("high",),
    "count.unscored": ("unscored",),
    # NAME.json beside each picture
    "record.losses": ("losses",),
    # stdout of `judge rows --jsonl` (formerly `--json`), a line a row
    "judge.id": ("id",),
    "judge.refusal": ("refusal",),
    "judge.harm": ("harm",),
    "judge.harm_label": ("harm_label",),
    "judge.right": ("answers",),
    "judge.degenerate": ("degenerate",),
    "judge.review": ("review",),
    "judge.reasons": ("reasons",),
    "judge.unscored": ("unscored",),
    # stdout of `judge calibrate --json`: models, labels, numbers
    "agreement.models": ("models",),
    # stdout of `guard check --jsonl` (formerly `--json`), a line a row
    "guard.id": ("id",),
    "guard.action": ("decision",),
    "guard.harm": ("harm",),
    "guard.response": ("response",),
    "guard.rounds": ("rounds",),
    # stdout of `guard calibrate --json`
    "calibration.threshold": ("threshold",),
    "calibration.false_positive_rate": ("false_positives.rate",),
    "calibration.bound": ("false_positives.bound",),
    "calibration.count": ("false_positives.count",),
    "calibration.supported": ("false_positives.supported",),
    "calibration.stopped": ("true_positives.k",),
    "calibration.harmful": ("true_positives.n",),
    "calibration.low": ("true_positives.low",),
    "calibration.high": ("true_positives.high",),
    "calibration.auc": ("auc",),
    "calibration.error": ("calibration_error",),
    "calibration.unscored": ("unscored",),
    # RUN/summary.json of an audit
    "audit.variants": ("variants",),
    "audit.suites": ("suites",),
    "audit.categories": ("categories",),
    "audit.complete": ("complete",),
    "audit.doubts": ("doubts", "warnings"),
    "audit.comparisons": ("comparisons",),
    "audit.rates": ("rates",),
    "audit.needless_refusal": ("needless_refusal",),
    "audit.harmful_answer": ("harmful_answer",),
    "audit.full_refusal": ("full_refusal",),
    "audit.accuracy": ("accuracy",),
    "audit.degenerate": ("degenerate",),
    # RUN/samples.jsonl, replies.jsonl, verdicts.jsonl, attack.json
    "row.key": ("key",),
    "row.variant": ("variant",),
    "row.suite": ("suite",),
    "row.id": ("id",),
    "row.reply": ("reply",),
    "row.finish": ("finish",),
    "row.refusal": ("refusal",),
    "row.harm": ("harm",),
    "row.right": ("answers",),
    "row.degenerate": ("degenerate",),
    "row.unscored": ("unscored",),
    "row.review_refusal": ("review_refusal",),
    "row.review_harm": ("review_harm",),
    "attack.pictures": ("pictures",),
    "attack.variant": ("variant",),
    "attack.linf": ("linf",),
    "attack.psnr": ("psnr",),
    "attack.losses": ("losses",),
    "attack.stopped": ("stopped",),
    "attack.target": ("target",),
    "attack.bystander": ("bystander",),
    # an interval, in summaries and in the gate
    "interval.n": ("n",),
    "interval.k": ("k",),
    "interval.rate": ("rate",),
    "interval.low": ("low",),
    "interval.high": ("high",),
    "interval.unscored": ("unscored",),
    "interval.review": ("review",),
    "interval.clusters": ("clusters",),
    "interval.least": ("least",),
    "interval.most": ("most",),
    "change.n": ("n",),
    "change.change": ("change",),
    "change.low": ("low",),
    "change.high": ("high",),
    "change.p": ("p",),
    "change.p_adjusted": ("p_adjusted",),
    # stdout of `gate --json`
    "gate.outcome": ("outcome",),
    "gate.complete": ("complete",),
    "gate.rules": ("rules",),
    "rule.rate": ("rate",),
    "rule.variant": ("variant",),
    "rule.suites": ("suites",),
    "rule.limit": ("limit.value",),
    "rule.side": ("limit.side",),
    "rule.on": ("limit.on",),
    "rule.outcome": ("outcome",),
    "rule.estimate": ("estimate",),
    "rule.change": ("change",),
    # stdout of `power --json`
    "power.n": ("n",),
    "power.difference": ("difference",),
}

SAME_WORD: dict[str, str] = {}
"""New word of a label, variant, suite, rate, role or outcome: today's. `{"answered": "none"}` says that a judge that
now says `answered` said `none` before. `FREE_TEXT` is never translated."""

FREE_TEXT = frozenset({"perturb.clean_reply", "perturb.reply", "guard.response", "row.reply"})

INTERVAL = ("n", "k", "rate", "low", "high", "unscored", "review", "clusters", "least", "most")
RATES = ("needless_refusal", "harmful_answer", "full_refusal", "accuracy")


class MissingFieldError(Exception):
    """A document has none of the names that `FIELDS` knows for a value."""


def field(document: Mapping[str, Any], name: str) -> Any:
    """A value of a document by its neutral name.

    Raises:
        MissingFieldError: none of its names is there.
    """
    for path in FIELDS[name]:
        value: Any = document
        for part in path.split("."):
            if not isinstance(value, Mapping) or part not in value:
                break
            value = value[part]
        else:
            return value if name in FREE_TEXT else word(value)
    raise MissingFieldError(f"{name}: none of {', '.join(FIELDS[name])} among {', '.join(map(str, document))}")


def word(value: Any) -> Any:
    """Today's word for a label; anything else as it is."""
    return SAME_WORD.get(value, value) if isinstance(value, str) else value


def fields(document: Mapping[str, Any], group: str, names: Sequence[str]) -> dict[str, Any]:
    """Several values of one group."""
    return {name: field(document, f"{group}.{name}") for name in names}


def pixels(path: Path) -> str:
    """The sha256 of a picture's size and its decoded RGB values, whatever the compression of the file."""
    with Image.open(path) as picture:
        plain = picture.convert("RGB")
    return hashlib.sha256(f"{plain.width}x{plain.height}:".encode() + plain.tobytes()).hexdigest()


def lines(text: str) -> list[dict[str, Any]]:
    """JSON objects, one a line."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def numbers(texts: Sequence[str]) -> list[str]:
    """Decimal fractions in sentences, such as the probabilities in a judge's reasons; their wording may change."""
    return [number for text in texts for number in re.findall(r"\b\d+\.\d+\b", text)]


def perturbed(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """From the stdout of `perturb --json` and its folder: pixels, counts and replies of each picture."""
    pictures = {}
    for item in field(document, "perturb.pictures"):
        name = Path(field(item, "perturb.original")).stem
        record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        pictures[name] = {
            "pixels": pixels(folder / f"{name}.png"),
            **fields(item, "perturb", ("linf", "psnr", "ssim", "steps", "stopped")),
            "doubts": len(field(item, "perturb.doubts")),
            "losses": field(record, "record.losses"),
            "models": [_model(model) for model in field(item, "perturb.models")],
        }
    return {"pictures": pictures, "errors": len(field(document, "perturb.errors"))}


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    counts = ("n", "k", "low", "high", "unscored")
    return {
        "role": field(model, "perturb.role"),
        "refused": fields(field(model, "perturb.rate"), "count", counts),
        "clean_refused": fields(field(model, "perturb.clean_rate"), "count", counts),
        "replies": [
            fields(reply, "perturb", ("clean_reply", "reply", "clean_label", "label"))
            for reply in field(model, "perturb.replies")
        ],
    }


def judged(text: str) -> dict[str, Any]:
    """From the stdout of `judge rows --json`, by id."""
    plain = ("refusal", "harm", "harm_label", "right", "degenerate", "review")
    return {
        field(row, "judge.id"): {
            **fields(row, "judge", plain),
            "unscored": field(row, "judge.unscored") is not None,
            "numbers": numbers(field(row, "judge.reasons")),
        }
        for row in lines(text)
    }


def agreement(document: Mapping[str, Any]) -> Any:
    """From the stdout of `judge calibrate --json`: every number, by model and label, sorted, without its name."""
    return {
        model: {label: sorted(_leaves(measured), key=repr) for label, measured in labels.items()}
        for model, labels in field(document, "agreement.models").items()
    }


def _leaves(value: Any) -> list[Any]:
    """All numbers within."""
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value] if isinstance(value, int | float) else []


def guarded(text: str) -> dict[str, Any]:
    """From the stdout of `guard check --json`, by id."""
    names = ("action", "harm", "response", "rounds")
    return {field(row, "guard.id"): fields(row, "guard", names) for row in lines(text)}


def calibrated(document: Mapping[str, Any]) -> dict[str, Any]:
    """From the stdout of `guard calibrate --json`."""
    names = [name.partition(".")[2] for name in FIELDS if name.startswith("calibration.")]
    return fields(document, "calibration", names)


def rates(document: Mapping[str, Any]) -> dict[str, Any]:
    """The four rates with their intervals, of a run's variant, suite or category."""
    return {rate: fields(field(document, f"audit.{rate}"), "interval", INTERVAL) for rate in RATES}


def audited(folder: Path) -> dict[str, Any]:
    """From a run folder: rates by variant, suite and category, changes, every reply and verdict, attacked pictures."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    variants = {}
    for name, variant in field(summary, "audit.variants").items():
        suites = {
            word(suite): {
                "all": rates(document),
                "categories": {word(c): rates(d) for c, d in field(document, "audit.categories").items()},
            }
            for suite, document in field(variant, "audit.suites").items()
        }
        degenerate = field(variant, "audit.degenerate")
        variants[word(name)] = {"all": rates(variant), "degenerate": degenerate, "suites": suites}
    changes = [
        {
            word(rate): fields(document, "change", ("n", "change", "low", "high", "p", "p_adjusted"))
            for rate, document in field(comparison, "audit.rates").items()
        }
        for comparison in field(summary, "audit.comparisons")
    ]
    return {
        "complete": field(summary, "audit.complete"),
        "doubts": len(field(summary, "audit.doubts")),
        "variants": variants,
        "changes": changes,
        "samples": _samples(folder),
        "attacks": _attacks(folder),
        "pixels": sorted(pixels(path) for path in (folder / "perturbed").glob("*.png")),
    }


def _samples(folder: Path) -> dict[str, Any]:
    """Reply and verdict of every sample, by variant, suite and id; keys of the run are only used to match rows."""
    samples, replies, verdicts = (
        {field(row, "row.key"): row for row in lines((folder / name).read_text(encoding="utf-8"))}
        for name in ("samples.jsonl", "replies.jsonl", "verdicts.jsonl")
    )
    labels = ("refusal", "harm", "right", "degenerate", "review_refusal", "review_harm")
    rows = {}
    for key, sample in samples.items():
        names = [str(field(sample, f"row.{part}")) for part in ("variant", "suite", "id")]
        rows["/".join(names)] = {
            **fields(replies[key], "row", ("reply", "finish")),
            **fields(verdicts[key], "row", labels),
            "unscored": field(verdicts[key], "row.unscored") is not None,
        }
    return dict(sorted(rows.items()))


def _attacks(folder: Path) -> list[dict[str, Any]]:
    """What the attack says of itself."""
    document = json.loads((folder / "attack.json").read_text(encoding="utf-8"))
    names = ("variant", "linf", "psnr", "losses", "stopped", "target", "bystander")
    rows = [fields(row, "attack", names) for row in field(document, "attack.pictures")]
    return sorted(rows, key=lambda row: json.dumps(row))


def gated(document: Mapping[str, Any]) -> dict[str, Any]:
    """From the stdout of `gate --json`: the outcome of every rule and what it was measured on."""
    rules = []
    for rule in field(document, "gate.rules"):
        estimate, change = field(rule, "rule.estimate"), field(rule, "rule.change")
        rules.append(
            {
                **fields(rule, "rule", ("rate", "variant", "limit", "side", "on", "outcome")),
                "suites": [word(suite) for suite in field(rule, "rule.suites")],
                "estimate": None if estimate is None else fields(estimate, "interval", INTERVAL),
                "change": None if change is None else fields(change, "change", ("n", "change", "low", "high")),
            }
        )
    return {**fields(document, "gate", ("outcome", "complete")), "rules": rules}


def powered(document: Mapping[str, Any], wanted: str) -> Any:
    """From the stdout of `power --json`: `n` or `difference`."""
    return field(document, f"power.{wanted}")
