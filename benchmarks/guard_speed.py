"""What a check of the embedded detector costs in float32 and in 8-bit integers, and how far their scores agree.

    python benchmarks/guard_speed.py [--rounds 40] [--replies 120] [--page]

Both are measured in turn in one process, in processor time of one thread, so that other load changes the ratio little.
The page's figures are for AVX2, which these variables choose on newer processors: ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 FBGEMM_ENABLE_INSTRUCTIONS=AVX2. Needs EQUIPOISE_SHARED_DATA.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equipoise.guard.detector import load
from equipoise.guard.detector.harm_detector import HarmDetector
from equipoise.guard.guard_input import GuardInput
from guard_rows import choices
from page import put

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "guard_speed.json"
PAGE = ROOT / "docs" / "guard.md"
FORMATS = ("float32", "int8")
NAMES = ("embedded", "embedded-fast")
QUESTION = "How do I bake bread?"
TEXTS = {
    "short (29 tokens)": "Mix flour, water, salt and yeast, and let the dough rest for {} minutes.",
    "hundred words": "Loaf number {}. "
    + "Keep it in a paper bag, away from the sun, and eat it within three days. " * 7,
}


def timed(detector: HarmDetector, text: str, number: int) -> float:
    """Milliseconds of processor time for one new reply."""
    reply = GuardInput(text.format(number), QUESTION)
    begin = time.process_time()
    detector([reply])
    return 1000 * (time.process_time() - begin)


def speeds(detectors: dict[tuple[str, str], HarmDetector], rounds: int) -> list[dict[str, Any]]:
    """Median and least time of each detector for each text."""
    taken: dict[tuple[str, str, str], list[float]] = {}
    for number in range(-3, rounds):
        for (name, number_format), detector in detectors.items():
            for kind, text in TEXTS.items():
                milliseconds = timed(detector, text, number)
                # The first replies warm up.
                if number >= 0:
                    taken.setdefault((name, number_format, kind), []).append(milliseconds)
    return [
        {
            "detector": name,
            "format": number_format,
            "reply": kind,
            "median_ms": round(float(np.median(values)), 2),
            "least_ms": round(min(values), 2),
        }
        for (name, number_format, kind), values in taken.items()
    ]


def agreement(exact: HarmDetector, rounded: HarmDetector, count: int) -> dict[str, Any]:
    """How far logits and probabilities differ on replies that were not trained on."""
    rows = choices()
    random.Random(0).shuffle(rows)
    harmful = [row for row in rows if row.harmful][: count // 2]
    chosen = [*harmful, *[row for row in rows if not row.harmful][: count - len(harmful)]]
    # One at a time, as the gateway does.
    logits = [
        np.array([detector.logits(detector.windows([row.evidence]))[0] for row in chosen])
        for detector in (exact, rounded)
    ]
    probabilities = [np.array([exact.calibration(logit) for logit in values]) for values in logits]
    difference = np.abs(logits[0] - logits[1])
    return {
        "replies": len(chosen),
        "mean_logit": round(float(difference.mean()), 3),
        "largest_logit": round(float(difference.max()), 3),
        "largest_probability": round(float(np.abs(probabilities[0] - probabilities[1]).max()), 3),
        "decided_otherwise": int(((probabilities[0] > 0.5) != (probabilities[1] > 0.5)).sum()),
    }


def render(results: dict[str, Any]) -> None:
    """Write the table."""
    rows = {(row["detector"], row["format"], row["reply"]): row for row in results["speeds"]}
    lines = ["| detector | reply | float32 ms | 8-bit ms | faster |", "|---|---|---|---|---|"]
    for name in NAMES:
        for kind in TEXTS:
            first, second = (rows[name, number_format, kind] for number_format in FORMATS)
            shown = " | ".join(f"{row['median_ms']:.1f} (least {row['least_ms']:.1f})" for row in (first, second))
            lines.append(f"| `{name}` | {kind} | {shown} | {first['median_ms'] / second['median_ms']:.1f}x |")
    agreed = results["agreement"]
    lines += [
        "",
        f"Processor time of one thread, {results['instructions']}, medians. On {agreed['replies']} replies that were",
        f"not trained on, the logits of 8-bit integers differ by {agreed['mean_logit']:.3f} on average and by",
        f"{agreed['largest_logit']:.2f} at most, the probabilities by at most {agreed['largest_probability']:.3f};",
        f"{agreed['decided_otherwise']} replies are decided otherwise at 0.5.",
    ]
    put(PAGE, "guard speed", lines)


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--replies", type=int, default=120)
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    arguments = parser.parse_args()
    if not arguments.page:
        torch.set_num_threads(1)
        detectors = {}
        for name in NAMES:
            for number_format in FORMATS:
                detector = load(name, dtype=number_format)
                assert isinstance(detector, HarmDetector)
                detectors[name, number_format] = detector
        results = {
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "speeds": speeds(detectors, arguments.rounds),
            "agreement": agreement(detectors["embedded", "float32"], detectors["embedded", "int8"], arguments.replies),
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    render(json.loads(RESULTS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
