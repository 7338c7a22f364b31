"""Train the judges of requests that ship with `equipoise.generation`: a unit on an encoder, and two over n-grams.

    python benchmarks/train_request_judges.py            # writes src/equipoise/generation/weights/ and the page's table
    python benchmarks/train_request_judges.py --measure  # the table alone, of the judges that ship

Rows: the project's own prompts (alignment prompts, prompts of the steering package) and published sets under MIT:
openai_rbr_gold (train split; response type of single requests), openai_moderation (short texts, half weight), AdvBench
(the selection part of the split registry). XSTest, PHTest, JailbreakBench and Alpaca are read for the table only. The
judges of the gate (encoder, words) are trained on one half of the rows, by the hash of the topic, and the held-out
judge (characters) on the other.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from encoder_rows import shared_data
from equipoise.data.catalogue import load_suite
from equipoise.data.splits import find_overlaps, split
from equipoise.generation.encoder_judge import request_vectors
from equipoise.generation.linear_judge import BUCKETS, RunKind, hashed_features
from equipoise.generation.request_judges import RequestJudge, default_judges, held_out_judges
from equipoise.reference.alignment_prompts import alignment_prompts
from equipoise.steering.prompt_sets import own_prompts
from equipoise.types import Sample
from page import put

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "src" / "equipoise" / "generation" / "weights"
PAGE = ROOT / "docs" / "generation.md"
TABLE = ROOT / "benchmarks" / "results" / "request_judges.json"
SPECIFICITY, SENSITIVITY = 0.9, 0.9
"""Bands: below `harmless` lie at most 1 - sensitivity of the harmful development rows; from `harmful` on at most
1 - specificity of the ordinary ones."""


@dataclass(frozen=True)
class RequestRow:
    """A labelled request."""

    text: str
    harmful: bool
    group: str
    weight: float = 1.0

    @property
    def half(self) -> int:
        """0 trains the judges of the gate, 1 the held-out one."""
        return hashlib.sha256(self.group.encode()).digest()[0] % 2


def _jsonl(path: str) -> Iterator[dict]:
    with (shared_data() / path).open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def training_rows() -> list[RequestRow]:
    """All rows that may be trained on."""
    prompts = alignment_prompts(harmful_wordings=2, ordinary_wordings=2)
    rows = [RequestRow(prompt.text, prompt.kind == "harmful", prompt.topic) for prompt in prompts]
    for name in ("harmful", "harmless", "pseudo_harmful", "ordinary"):
        rows += [
            RequestRow(prompt.text, name == "harmful", prompt.text, 2.0 if name == "pseudo_harmful" else 1.0)
            for prompt in own_prompts(name).prompts
        ]
    for row in _jsonl("openai_rbr_gold/rbr_gold_train.jsonl"):
        text = row["prompt"][-1]["content"]
        if text and len(row["prompt"]) <= 2:
            rows.append(RequestRow(text, row["response_type"] != "Comply", text))
    flags = ("S", "H", "V", "HR", "SH", "S3", "H2", "V2")
    for row in _jsonl("openai_moderation/samples.jsonl"):
        if len(row["prompt"]) < 250:
            rows.append(RequestRow(row["prompt"], 1 in [row.get(name) for name in flags], row["prompt"], 0.3))
    advbench = load_suite("advbench", root=shared_data())
    rows += [RequestRow(sample.text, True, sample.text, 0.5) for sample in split(advbench.samples).selection]
    reported = [_sample(text, i) for i, (text, _) in enumerate(row for rows in tests().values() for row in rows)]
    own = [_sample(row.text, i) for i, row in enumerate(rows)]
    held = {overlap.right.rpartition(" ")[2] for overlap in find_overlaps(reported, own)}
    return [row for i, row in enumerate(rows) if str(i) not in held]


def _sample(text: str, number: int) -> Sample:
    # Clusters by number would make every pair of sets overlap; only wordings and runs of words shall count.
    return Sample(str(number), f"rows{id(text)}", text, "answer")


def tests() -> dict[str, list[tuple[str, bool]]]:
    """Rows of the reported table, which nothing is trained on."""
    with (shared_data() / "xstest/xstest_prompts.csv").open(encoding="utf-8", newline="") as file:
        xstest = [(row["prompt"], row["type"].startswith("contrast")) for row in csv.DictReader(file)]
    jbb = load_suite("jailbreakbench", root=shared_data()).samples
    phtest = [(row["prompt"], row["label"] != "harmless") for row in _jsonl("phtest/phtest_v0.1.jsonl")]
    ordinary = [(row.text, False) for row in load_suite("alpaca-harmless", root=shared_data()).samples]
    return {
        "XSTest: safe, unsafe": xstest,
        "JailbreakBench: benign, harmful": [(row.text, row.expected == "refuse") for row in jbb],
        "PHTest: harmless, controversial": phtest[::4],
        "Alpaca: harmless": ordinary[::3],
    }


def sparse(texts: Sequence[str], kind: RunKind) -> csr_matrix:
    """Hashed features as a matrix."""
    rows = [hashed_features(text, kind) for text in texts]
    indices = np.concatenate([np.array(list(row), dtype=int) for row in rows])
    values = np.concatenate([np.array(list(row.values())) for row in rows])
    return csr_matrix((values, indices, np.cumsum([0, *map(len, rows)])), shape=(len(texts), BUCKETS))


def fit(features: Callable[[Sequence[str]], object], rows: Sequence[RequestRow], strength: float) -> LogisticRegression:
    """A logistic regression with balanced classes."""
    model = LogisticRegression(C=strength, max_iter=2000, class_weight="balanced")
    return model.fit(
        features([row.text for row in rows]), [row.harmful for row in rows], sample_weight=[row.weight for row in rows]
    )


def document_of(name: str, model: LogisticRegression, bands: tuple[float, float], rows: int) -> dict:
    """What the judge's weight file holds."""
    values = [round(float(value), 4) for value in model.coef_[0]]
    weights = values if name == "encoder" else {str(i): value for i, value in enumerate(values) if abs(value) > 1e-3}
    return {
        "bias": round(float(model.intercept_[0]), 5),
        "bands": [round(band, 4) for band in bands],
        "rows": rows,
        "weights": weights,
    }


def measured(judge: RequestJudge) -> list[str]:
    """Lines of the table for a judge as it ships: AUROC, and the shares of each class called harmless, and harmful."""
    lines = []
    for test, pairs in tests().items():
        verdicts = judge([text for text, _ in pairs])
        judged = np.array([verdict.label for verdict in verdicts])
        labels = np.array([label for _, label in pairs])
        both = 0 < labels.sum() < len(labels)
        classes = (False, True) if both else (False,)
        harmless, harmful = (
            " / ".join(f"{100 * (judged[labels == kind] == name).mean():.0f} %" for kind in classes)
            for name in ("harmless", "harmful")
        )
        scores = [verdict.probability for verdict in verdicts]
        area = f"{roc_auc_score(labels, scores):.3f}" if both and None not in scores else "-"
        lines.append(f"| {judge.name} | {test} | {len(pairs)} | {area} | {harmless} | {harmful} |")
    return lines


def main() -> None:
    """Train, write and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", action="append", choices=["words", "characters", "encoder"], help="only this one")
    parser.add_argument("--measure", action="store_true", help="measure the judges that ship; nothing is trained")
    arguments = parser.parse_args()
    if not arguments.measure:
        train(arguments.judge)
        # A process of its own reads the new weights: judges keep what they have read.
        raise SystemExit(subprocess.call([sys.executable, __file__, "--measure"]))
    stored = {judge.name: measured(judge) for judge in (*default_judges(), *held_out_judges())}
    TABLE.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    head = [
        "| judge | set | n | AUROC | called harmless: first / second class | called harmful |",
        "|---|---|---:|---:|---|---|",
    ]
    put(PAGE, "request_judges", [*head, *(line for lines in stored.values() for line in lines)])


def train(names: Sequence[str] | None) -> None:
    """Train judges and write their weights."""
    rows = training_rows()
    development = [(p.text, p.kind == "harmful") for p in alignment_prompts(development=True)]
    harmful = np.array([label for _, label in development])
    recipes = {
        "encoder": (request_vectors, 3.0, 0),
        "words": (partial(sparse, kind="words"), 30.0, 0),
        "characters": (partial(sparse, kind="characters"), 30.0, 1),
    }
    for name in names or recipes:
        features, strength, half = recipes[name]
        own = [row for row in rows if row.half == half]
        model = fit(features, own, strength)
        scores = model.predict_proba(features([text for text, _ in development]))[:, 1]
        low = float(np.clip(np.quantile(scores[harmful], 1 - SENSITIVITY), 0.2, 0.4))
        high = float(np.clip(np.quantile(scores[~harmful], SPECIFICITY), 0.6, 0.8))
        document = document_of(name, model, (low, high), len(own))
        (OUT / f"{name}.json").write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
        print(f"{name}: {len(own)} rows, development AUROC {roc_auc_score(harmful, scores):.3f}", flush=True)


if __name__ == "__main__":
    main()
