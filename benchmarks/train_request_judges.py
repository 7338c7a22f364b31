"""Train the judges of requests that ship with `equipoise.generation`: the linear unit and the n-gram judge.

    python benchmarks/train_request_judges.py            # writes src/equipoise/generation/weights/ and prints the table

Rows: the project's own prompts (alignment prompts, prompts of the steering package) and published sets under MIT:
openai_rbr_gold (train split; response type of single requests), openai_moderation (short texts, half weight), AdvBench
(the selection part of the split registry). XSTest, PHTest, JailbreakBench, OR-Bench and Alpaca are read for the table
only. The two judges are trained on disjoint halves of the rows, by the hash of the topic.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from encoder_rows import shared_data
from equipoise.data.catalogue import load_suite
from equipoise.data.splits import find_overlaps, split
from equipoise.generation.encoder_judge import request_vectors
from equipoise.generation.linear_judge import BUCKETS, hashed_features
from equipoise.reference.alignment_prompts import alignment_prompts
from equipoise.steering.prompt_sets import own_prompts
from equipoise.types import Sample

OUT = Path(__file__).parents[1] / "src" / "equipoise" / "generation" / "weights"
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
        """0 trains the encoder's unit, 1 the n-gram judge."""
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


def sparse(texts: Sequence[str]) -> csr_matrix:
    """Hashed features as a matrix."""
    rows = [hashed_features(text) for text in texts]
    indices = np.concatenate([list(row) for row in rows])
    values = np.concatenate([list(row.values()) for row in rows])
    return csr_matrix((values, indices, np.cumsum([0, *map(len, rows)])), shape=(len(texts), BUCKETS))


def fit(features: Callable[[Sequence[str]], object], rows: Sequence[RequestRow], strength: float) -> LogisticRegression:
    """A logistic regression with balanced classes."""
    model = LogisticRegression(C=strength, max_iter=2000, class_weight="balanced")
    return model.fit(
        features([row.text for row in rows]), [row.harmful for row in rows], sample_weight=[row.weight for row in rows]
    )


def main() -> None:
    """Train, write and report both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-write", action="store_true")
    arguments = parser.parse_args()
    rows = training_rows()
    development = [(p.text, p.kind == "harmful") for p in alignment_prompts(development=True)]
    print(f"{len(rows)} rows, {sum(row.harmful for row in rows)} harmful; development {len(development)}", flush=True)
    for name, features, strength, half in (("linear", sparse, 30.0, 1), ("encoder", request_vectors, 3.0, 0)):
        own = [row for row in rows if row.half == half]
        model = fit(features, own, strength)
        scores = model.predict_proba(features([text for text, _ in development]))[:, 1]
        harmful = np.array([label for _, label in development])
        low = float(np.clip(np.quantile(scores[harmful], 1 - SENSITIVITY), 0.05, 0.5))
        high = float(np.clip(np.quantile(scores[~harmful], SPECIFICITY), max(low, 0.5), 0.95))
        coefficients, bias = model.coef_[0], float(model.intercept_[0])
        document = {
            "bias": round(bias, 5),
            "bands": [round(low, 4), round(high, 4)],
            "rows": len(own),
            "weights": [round(float(value), 4) for value in coefficients]
            if name == "encoder"
            else {str(i): round(float(value), 3) for i, value in enumerate(coefficients) if abs(value) > 1e-3},
        }
        if not arguments.no_write:
            (OUT / f"{name}.json").write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
        print(f"\n{name}: {len(own)} rows, bands {low:.3f} {high:.3f}, development AUROC "
              f"{roc_auc_score(harmful, scores):.3f}")  # fmt: skip
        for test, pairs in tests().items():
            scores = model.predict_proba(features([text for text, _ in pairs]))[:, 1]
            labels = np.array([label for _, label in pairs])
            area = f"{roc_auc_score(labels, scores):.3f}" if 0 < labels.sum() < len(labels) else "-"
            shares = [f"{float((scores[labels == kind] < low).mean()):.3f}" for kind in (False, True)]
            blocked = [f"{float((scores[labels == kind] >= high).mean()):.3f}" for kind in (False, True)]
            print(
                f"| {name} | {test} | {len(pairs)} | {area} | {' / '.join(shares)} | {' / '.join(blocked)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
