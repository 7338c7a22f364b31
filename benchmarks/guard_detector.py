"""How good harm detectors are on real labelled replies, split by question.

    python benchmarks/guard_detector.py [--base MINILM] [--scores FILE] [--page]
    python benchmarks/guard_detector.py --detector NAME [--title TITLE] [--test-only [SET ...]] [--scores FILE]
    python benchmarks/guard_detector.py --detector NAME --only SET [SET ...] [--scores FILE]
    python benchmarks/guard_detector.py --speed embedded reference

`MINILM` is the folder that training starts from: then a logistic regression on its frozen sentence vectors is measured
beside the embedded detector. Another `--detector` (a name or a folder) becomes a column of the second table; `--speed`
measures the time of several in one run. Needs EQUIPOISE_SHARED_DATA. `guard_rows.py` says which rows are held out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from detector_columns import columns_table, milliseconds
from equipoise.guard.detector import load
from equipoise.guard.detector.harm_detector import HarmDetector
from equipoise.guard.detector.network import batch, pool
from equipoise.guard.detector.template import Template
from equipoise.guard.policy import Policy
from equipoise.guard.training_rows import LabelledReply as Row
from equipoise.stats.calibration import roc_auc
from equipoise.stats.proportions import Rate
from equipoise.stats.thresholds import calibrate
from guard_rows import (
    REPORTED,
    Labelled,
    alpaca,
    do_not_answer,
    hard_negatives_held_out,
    phtest_harmless,
    reported,
    safe_rlhf,
    short_replies,
    xstest,
)
from page import put
from score_file import ScoreFile

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "guard_detector.json"
PAGE = ROOT / "docs" / "guard.md"
RESAMPLES = 1000
KEPT = ("frozen", "safe_rlhf_learned", "others", "milliseconds")
"""Parts of the results that a new measurement of `embedded` does not replace."""
TEST_ONLY: dict[str, Callable[[], list[Labelled]]] = {"do_not_answer": do_not_answer, "safe_rlhf": safe_rlhf}
"""Sets of which nothing was trained on."""
SETS = (*REPORTED, *TEST_ONLY)


scores = ScoreFile()


def auc(values: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve."""
    return roc_auc(values[labels].tolist(), values[~labels].tolist())


def area(detector: HarmDetector, rows: Sequence[Labelled]) -> dict[str, Any]:
    """AUC with an interval over questions: whole groups are drawn again."""
    values = scores(detector, [labelled.row for labelled in rows])
    labels = np.array([labelled.row.harmful for labelled in rows])
    names = sorted({labelled.group for labelled in rows})
    places = {name: np.array([at for at, labelled in enumerate(rows) if labelled.group == name]) for name in names}
    random = np.random.default_rng(0)
    drawn = []
    while len(drawn) < RESAMPLES:
        chosen = np.concatenate([places[names[at]] for at in random.integers(len(names), size=len(names))])
        if 0 < labels[chosen].sum() < len(chosen):
            drawn.append(auc(values[chosen], labels[chosen]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "harmful": int(labels.sum()),
        "harmless": int((~labels).sum()),
        "questions": len(names),
        "auc": round(auc(values, labels), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        # At the threshold that one in a hundred of the set's own harmless replies is above.
        "found": round(float((values[labels] > np.quantile(values[~labels], 0.99)).mean()), 4),
    }


def vectors(model: Any, tokenizer: Any, rows: Sequence[Labelled]) -> np.ndarray:
    """Sentence vectors: the mean over the first window's tokens, of length one."""
    windows = [Template().windows(tokenizer, labelled.row.evidence)[0] for labelled in rows]
    order = sorted(range(len(rows)), key=lambda at: len(windows[at]))
    embeddings = np.zeros((len(rows), model.config.hidden_size))
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        windows_batch = batch([[windows[at]] for at in part], 0)
        with torch.inference_mode():
            hidden = model(input_ids=windows_batch.ids, attention_mask=windows_batch.mask).last_hidden_state
        embeddings[part] = (
            torch.nn.functional.normalize(pool(hidden, windows_batch.mask, "mean"), dim=-1).float().numpy()
        )
    return embeddings


def regressed(model: Any, tokenizer: Any, learned: Sequence[Labelled], held: Sequence[Labelled]) -> float:
    """AUC of a logistic regression on a model's sentence vectors."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=10, max_iter=2000, class_weight="balanced")
    fitted.fit(vectors(model, tokenizer, learned), [labelled.row.harmful for labelled in learned])
    values = fitted.decision_function(vectors(model, tokenizer, held))
    return round(auc(values, np.array([labelled.row.harmful for labelled in held])), 4)


def frozen(base: str, names: Sequence[str]) -> dict[str, float]:
    """AUC of a logistic regression on frozen sentence vectors: of each set on its own rows to learn from."""
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    rows = reported()
    areas = {}
    for name in names:
        own = [labelled for labelled in rows if labelled.row.dataset == name] if name in REPORTED else rows
        held = [labelled for labelled in own if labelled.side == "test"] if name in REPORTED else TEST_ONLY[name]()
        areas[name] = regressed(model, tokenizer, [labelled for labelled in own if labelled.side != "test"], held)
    return areas


def safe_rlhf_learned(base: str, detector: HarmDetector) -> dict[str, Any]:
    """SafeRLHF-mini where two thirds of its questions may be learned from, which its licence forbids to ship.

    A logistic regression on the frozen base, and the same on the detector's last layer.
    """
    from transformers import AutoModel, AutoTokenizer

    rows = safe_rlhf()
    learned = [labelled for labelled in rows if labelled.side != "test"]
    held = [labelled for labelled in rows if labelled.side == "test"]
    model, tokenizer = AutoModel.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    return {
        "learned": len(learned),
        "held": len(held),
        "frozen": regressed(model, tokenizer, learned, held),
        "detector": regressed(detector.network.base, detector.tokenizer, learned, held),
    }


def ordinary() -> dict[str, tuple[list[Row], list[Row]]]:
    """Harmless replies: those that the threshold is chosen on, and those that it is measured on."""
    traffic = {}
    sets = {
        "Alpaca": alpaca(),
        "XSTest, safe": [labelled for labelled in xstest() if not labelled.row.harmful],
        "PHTest, harmless": phtest_harmless(),
    }
    for name, rows in sets.items():
        # Alpaca's are nowhere learned from, so all that is not held out may choose.
        chosen = [
            labelled.row
            for labelled in rows
            if labelled.side == "choice" or (name == "Alpaca" and labelled.side == "train")
        ]
        traffic[name] = (chosen, [labelled.row for labelled in rows if labelled.side == "test"])
    traffic["hard negatives of our own"] = ([], [labelled.row for labelled in hard_negatives_held_out()])
    return traffic


def rate(hits: int, count: int) -> dict[str, Any]:
    """As JSON."""
    share = Rate.of(hits, count)
    return {"k": share.k, "n": share.n, "low": round(share.low, 4), "high": round(share.high, 4)}


def decided(detector: HarmDetector, rows: Sequence[Row]) -> int:
    """Of how many replies the glance decides every window."""
    assert detector.early_exit is not None
    alone = HarmDetector(
        detector.early_exit.network,
        detector.tokenizer,
        detector.template,
        detector.calibration,
        name="glance",
        identity="",
    )
    logits = alone.logits(alone.windows([row.evidence for row in rows]))
    return sum(logit < detector.early_exit.threshold for logit in logits)


def fast(
    results: dict[str, Any],
    whole: HarmDetector,
    harmless: Mapping[str, Sequence[Row]],
    held: Mapping[str, Sequence[Row]],
) -> dict[str, Any]:
    """What the glance decides, what it costs and what it saves; at the threshold of the whole network.

    Args:
        results: what was measured of the whole network.
        whole: that network.
        harmless: ordinary replies.
        held: the held-out rows of the reported sets.
    """
    detector = load("embedded-fast")
    assert isinstance(detector, HarmDetector)
    limit = results["threshold"]["value"]
    lost, areas = {}, {}
    for name, rows in held.items():
        labels = np.array([row.harmful for row in rows])
        mine, known = scores(detector, rows), scores(whole, rows)
        areas[name] = round(auc(mine, labels), 4)
        lost[name] = {"lost": int((labels & (known > limit) & (mine <= limit)).sum())}
        lost[name]["of"] = int((labels & (known > limit)).sum())
    shares = {name: {"k": decided(detector, rows), "n": len(rows)} for name, rows in harmless.items()}
    false = {name: int((scores(detector, rows) > limit).sum()) for name, rows in harmless.items()}
    return {"areas": areas, "decided": shares, "false": false, "lost": lost}


def short(detector: HarmDetector) -> dict[str, Any]:
    """AUC on the short replies, and what the default policy stops of them."""
    rows = [labelled.row for labelled in short_replies()]
    values, labels = scores(detector, rows), np.array([row.harmful for row in rows])
    stopped = values >= Policy().output.threshold
    return {
        "auc": round(auc(values, labels), 4),
        "harmful": rate(int(stopped[labels].sum()), int(labels.sum())),
        "harmless": rate(int(stopped[~labels].sum()), int((~labels).sum())),
    }


def measure(detector: HarmDetector, test_only: Sequence[str]) -> dict[str, Any]:
    """Everything; of the sets of which nothing was trained on, those that are named."""
    results: dict[str, Any] = {"identity": detector.identity, "areas": {}}
    test = [labelled for labelled in reported() if labelled.side == "test"]
    held = {name: [labelled.row for labelled in test if labelled.row.dataset == name] for name in REPORTED}
    for name in REPORTED:
        results["areas"][name] = area(detector, [labelled for labelled in test if labelled.row.dataset == name])
        print(name, results["areas"][name], flush=True)
    results["macro"] = round(fmean(results["areas"][name]["auc"] for name in REPORTED), 4)
    results["macro_found"] = round(fmean(results["areas"][name]["found"] for name in REPORTED), 4)
    traffic = ordinary()
    chosen = np.concatenate([scores(detector, rows) for rows, _ in traffic.values()])
    threshold = calibrate(chosen.tolist(), 0.01)
    results["threshold"] = threshold.to_dict()
    groups = {
        "false": {name: rows for name, (_, rows) in traffic.items()},
        "true": {name: [row for row in rows if row.harmful] for name, rows in held.items()},
    }
    for kind, sets in groups.items():
        values = {name: scores(detector, rows) for name, rows in sets.items()}
        results[kind] = {
            name: rate(int((probabilities > threshold.value).sum()), len(probabilities))
            for name, probabilities in values.items()
        }
        policy = Policy().output.threshold
        results[f"{kind} by policy"] = {
            name: int((probabilities >= policy).sum()) for name, probabilities in values.items()
        }
        print(results[kind], results[f"{kind} by policy"], flush=True)
    results["short"] = short(detector)
    print("short", results["short"], flush=True)
    for name in test_only:
        results["areas"][name] = area(detector, TEST_ONLY[name]())
        print(name, results["areas"][name], flush=True)
    if detector.name == "embedded":
        results["fast"] = fast(results, detector, {name: rows for name, (_, rows) in traffic.items()}, held)
    return results


def render(results: dict[str, Any]) -> None:
    """Write the tables into the page."""
    lines = [
        "| held-out replies | harmful, harmless (questions) | AUC | found at 1 % false alarms | frozen MiniLM, AUC |",
        "|---|---|---|---|---|",
    ]
    for name, row in results["areas"].items():
        size = f"{row['harmful']}, {row['harmless']} ({row['questions']})"
        shown = f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        frozen_auc = results["frozen"].get(name)
        lines.append(
            f"| {name} | {size} | {shown} | {row['found']:.3f} | "
            f"{'not measured' if frozen_auc is None else format(frozen_auc, '.3f')} |"
        )
    limit = results["threshold"]
    lines += [
        "",
        f"Over the first four: macro AUC {results['macro']:.3f}, {results['macro_found']:.3f} found at 1 % false",
        "positives. Nothing of the last two was trained on. At the threshold chosen on other ordinary replies",
        f"({limit['count']}) for a false-positive rate of {limit.get('target_rate', limit.get('asked')):g}",
        f"({limit['value']:.4f}; bound {limit['bound']:.4f}):",
        "",
        f"| replies | stopped there | stopped by the default policy, from {Policy().output.threshold:g} on |",
        "|---|---|---|",
    ]
    for kind, label in (("false", "harmless: "), ("true", "harmful: ")):
        for name, row in results[kind].items():
            share = f"{row['k']} of {row['n']} [{row['low']:.3f}, {row['high']:.3f}]"
            lines.append(f"| {label}{name} | {share} | {results[f'{kind} by policy'][name]} of {row['n']} |")
    own = results["safe_rlhf_learned"]
    lines += [
        "",
        "If you train on two thirds of the questions of SafeRLHF-mini (its licence forbids redistribution, so we do",
        f"not ship the result; {own['learned']} rows, {own['held']} held out), a logistic regression on frozen MiniLM",
        f"reaches {own['frozen']:.3f}, and {own['detector']:.3f} on the detector's last layer.",
    ]
    early = results["fast"]
    shares = ", ".join(f"{name} {row['k']} of {row['n']}" for name, row in early["decided"].items())
    lost = [sum(row[what] for row in early["lost"].values()) for what in ("lost", "of")]
    stopped = sum(early["false"].values())
    lines += [
        "",
        "The early exit of `embedded-fast` decides these ordinary replies:",
        f"{shares}.",
        f"It stops {stopped} of all ordinary replies. Of the harmful replies that the full network detects, it misses",
        f"{lost[0]} of {lost[1]}. AUC:",
        ", ".join(f"{value:.3f} ({name})" for name, value in early["areas"].items()) + ".",
    ]
    put(PAGE, "detector", lines)
    put(PAGE, "detectors", columns_table(results))


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", default="embedded")
    parser.add_argument("--test-only", nargs="*", default=list(TEST_ONLY), choices=list(TEST_ONLY))
    parser.add_argument("--only", nargs="+", choices=list(TEST_ONLY), help="add these sets to a column that is there")
    parser.add_argument("--title", help="of the column of another detector; its name by default")
    parser.add_argument("--speed", nargs="+", help="measure the time of these detectors alone, in one run")
    parser.add_argument("--base")
    parser.add_argument("--learned", action="store_true", help="with --base: of SafeRLHF-mini's own rows, and no more")
    parser.add_argument("--page", action="store_true", help="render the tables from stored results only")
    parser.add_argument("--scores", type=Path, help="keep the scores in this file, to go on from there")
    arguments = parser.parse_args()
    scores.open(arguments.scores)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if arguments.speed:
        known["milliseconds"] = {name: milliseconds(name) for name in arguments.speed}
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    elif not arguments.page:
        detector = load(arguments.detector)
        assert isinstance(detector, HarmDetector)
        if arguments.only:
            embedded = arguments.detector == "embedded"
            results = known if embedded else known.get("others", {}).get(arguments.title or arguments.detector, {})
            if results.get("identity") != detector.identity:
                parser.error("expected --only for a column of this detector, got none; try without --only")
            results["areas"] |= {name: area(detector, TEST_ONLY[name]()) for name in arguments.only}
        else:
            results = known if arguments.learned else measure(detector, arguments.test_only)
        if arguments.base and not arguments.learned:
            results["frozen"] = known.get("frozen", {}) | frozen(arguments.base, arguments.only or SETS)
        if arguments.base and not arguments.only:
            results["safe_rlhf_learned"] = safe_rlhf_learned(arguments.base, detector)
        print(json.dumps(results, indent=1))
        if arguments.detector == "embedded":
            results = {name: known[name] for name in KEPT if name in known} | results
        else:
            column = {arguments.title or arguments.detector: results}
            results = known | {"others": known.get("others", {}) | column}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    render(json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    main()
