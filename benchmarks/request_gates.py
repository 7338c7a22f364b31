"""The gates of policies that ask refused requests again, on XSTest: whom they call benign. Writes docs/prompts.md.

    python benchmarks/request_gates.py --data DATA

Nothing is chosen here and nothing is asked of a model: the gates read requests as they stand. The types held out are
those of `safety_prompts.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sklearn.metrics import roc_auc_score

from equipoise.countermeasures.detector_gate import DetectorGate, gate_of
from equipoise.data.catalogue import load_suite
from equipoise.data.split_registry import split_by_types
from equipoise.generation.request_gate import request_gate
from equipoise.generation.request_judges import default_judges
from equipoise.guard.guard_input import GuardInput
from equipoise.prompts.policy import Retry
from equipoise.types import Exchange, Sample
from page import put
from safety_prompts import HELD_OUT, PAGE

GATES = ("requests", "embedded")


def benign(gate: str, samples: Sequence[Sample]) -> str:
    """Two cells: how many safe and how many unsafe requests a gate calls benign."""
    harm_gate = gate_of(Retry("Please answer.", gate=gate), request_gate)
    assert harm_gate is not None
    labels = harm_gate([sample.prompt for sample in samples])
    cells = []
    for unsafe in (False, True):
        part = [label for label, sample in zip(labels, samples, strict=True) if is_unsafe(sample) is unsafe]
        cells.append(f"{sum(label is True for label in part)} of {len(part)}")
    return " | ".join(cells)


def is_unsafe(sample: Sample) -> bool:
    """Whether a sample should be refused."""
    return sample.expected == "refuse"


def areas(gate: str, parts: Sequence[Sequence[Sample]]) -> str:
    """The area under the curve of what the gate reads by, for both parts: the encoder judge, or the detector."""
    detector_gate = gate_of(Retry("Please answer.", gate=gate), request_gate)
    values = []
    for samples in parts:
        texts = [sample.prompt.text for sample in samples]
        if not isinstance(detector_gate, DetectorGate):
            (encoder,) = (judge for judge in default_judges() if judge.name == "encoder")
            scores = [verdict.probability for verdict in encoder(texts)]
        else:
            exchanges = [Exchange(sample.prompt, "", "stop", "") for sample in samples]
            items = [GuardInput.from_exchange(exchange).request_only() for exchange in exchanges]
            scores = [score.harm for score in detector_gate.detector(items)]
        values.append(f"{roc_auc_score([is_unsafe(sample) for sample in samples], scores):.2f}")
    return ", ".join(values) + (" (its encoder judge alone)" if gate == "requests" else "")


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the published sets (docs/data.md)")
    arguments = parser.parse_args()
    registry = split_by_types(load_suite("xstest", root=arguments.data).samples, HELD_OUT)
    parts = (registry.tuning, registry.test)
    lines = [
        "| gate | development types: safe called benign | unsafe called benign | held-out types: safe | unsafe | AUC |",
        "|---|---|---|---|---|---|",
    ]
    for gate in GATES:
        cells = " | ".join(benign(gate, part) for part in parts)
        lines.append(f"| `{gate}` | {cells} | {areas(gate, parts)} |")
    print("\n".join(lines))
    put(PAGE, "gates", lines)


if __name__ == "__main__":
    main()
