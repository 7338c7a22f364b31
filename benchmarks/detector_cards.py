"""The cards of the harm detectors that ship: where the weights come from, how they were trained, on which rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from equipoise.guard.training_rows import LabelledReply as Row
from guard_rows import SOURCES

EMBEDDED_CARD: Final = """# The embedded harm detector

The probability that a reply does harm, in English; **high is harmful**. `docs/guard.md` holds how good it is on
held-out replies and at which threshold. It is small and wrong now and then: calibrate it on
your own traffic, and put a bigger guard behind it where errors are dear.

| file | bytes | sha256 |
|---|---:|---|
{files}

- **Base**: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0, text in `LICENSE-MiniLM.txt`), `model.safetensors`
  with sha256
  `53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db`. Changed: all layers are trained further, a
  linear unit is added, matrices are rounded to 8 bits with a scale for each row.
- **Made by** `python benchmarks/train_guard_detector.py --base MINILM --most-harmless 600 --composed --out FOLDER
  --ship src/equipoise/guard/weights` (seed 0, 3 epochs, bfloat16 autocast on one core: other processors round
  differently). It has learned from no earlier turns, so they are not shown to it (`surroundings` 0).
- **Early exit** (`glance.safetensors`): one layer of its own over the same token embeddings, distilled from the
  detector on the same rows (`--glance-only`, seed 0, 4 epochs of windows, float32). It decides alone below a threshold
  under which 1 % of those held-out windows lie to which the detector gives a probability of harm of at least 0.2.
  `embedded-fast` uses it, `embedded` does not.
- **Computes** in bfloat16 on processors with AMX, elsewhere on x86 in 8-bit integers with a scale for each token: by
  `benchmarks/guard_speed.py` logits differ from those of float32 by a few hundredths.
- **Licence** of the trained weights: Apache-2.0, like their base. MSTS and XSTest are CC-BY-4.0; the replies in
  these sets come from models whose makers have terms of their own.

Trained on (none of the held-out questions among them, whatever set that comes from):

| set | rows | licence | label |
|---|---|---|---|
{trained}
"""
"""README.md of `guard/weights`; `{files}` and `{trained}` are filled in."""

REFERENCE_CARD: Final = """# The harm detector over `reference/base`

The probability that a reply does harm, in English; **high is harmful**. An adapter (LoRA, rank 16, all linear layers,
bfloat16) and one linear unit (float32) over SmolLM2-135M-Instruct. `docs/guard.md` holds how good it is on held-out
replies, beside the embedded detector. Calibrate it on your own traffic.

- **Base**: HuggingFaceTB/SmolLM2-135M-Instruct (Apache-2.0), not in this repository; `equipoise reference install` puts
  it into the user's cache. `adapter/base.json` holds the hash of its weights.
- **Made by** `python benchmarks/train_guard_detector.py {options}--out FOLDER`
  (seed {seed}, {epochs}, batches of 8; `detector.json`), a bfloat16 base and a float32 adapter on one processor core:
  other processors round differently. It has learned from no earlier turns, so they are not shown to it
  (`surroundings` 0).
- **Computes** in bfloat16 where the processor multiplies it, else in float32.
- **Licence** of the adapter: Apache-2.0, like its base. MSTS and XSTest are CC-BY-4.0; the replies in these sets come
  from models whose makers have terms of their own.

Trained on (none of the held-out questions among them, whatever set that comes from):

| set | rows | licence | label |
|---|---|---|---|
{trained}
"""
"""README.md of `reference/weights/detector`; the names in braces are filled in."""


def trained(rows: Sequence[Row]) -> str:
    """What was trained on, a line for each set."""
    lines = []
    for name, (title, licence, label) in SOURCES.items():
        own = [row for row in rows if row.dataset == name]
        harmful = sum(row.harmful for row in own)
        if own:
            lines.append(f"| {title} | {len(own)} ({harmful} harmful) | {licence} | {label} |")
    return "\n".join(lines)
