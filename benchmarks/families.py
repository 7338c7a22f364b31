"""Write `docs/families.md`: every check of the model layer on a tiny model of every family.

python benchmarks/families.py            # rewrite the document
python benchmarks/families.py --check    # say whether it is up to date, change nothing
python benchmarks/families.py --types    # rewrite the section on all model types alone
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ["HF_HUB_OFFLINE"] = "1"

import transformers  # noqa: E402

from equipoise.models.families import FAMILIES as ALL_FAMILIES  # noqa: E402
from equipoise.models.families import VERDICTS, ModelFamily, families_of  # noqa: E402
from tests.models.families import FAMILIES  # noqa: E402
from tests.models.families.checks import CHECKS, Case, build  # noqa: E402

DOC = ROOT / "docs" / "families.md"

HEAD = """\
# Model families

Written by `python benchmarks/families.py` with transformers {version}; `tests/models/test_families.py` runs
the same checks (`tests/models/families/checks.py`) on every change.

Each row is a model with random weights, hidden size 32 and two layers, built offline and saved in the format of
the hub, with the family's own model class, processor class and torchvision image processor, and a chat template
in the family's style. It shows that the *code path* is right. It says nothing about how well a trained model of
that family behaves.

| column | what holds |
|---|---|
| gradient | the loss has a finite, non-zero gradient in the raw pixels of a 50 x 70 picture |
| 8-bit exact | given float pixels off the 8-bit grid, the vision tower receives bit by bit the patches that the stock \
processor makes of the 8-bit picture, the same tokens, and each token of the reply has the log-probability that \
`generate` gives it (2e-5) |
| shared prefix | losses (2e-5) and pixel gradient (relative 1e-4) of three questions at once equal those of plain \
passes of transformers' own model; the cell says whether the prefix was shared, or why not |
| batched = single | questions of different lengths about pictures of different sizes: the same replies in one batch, \
one by one, and from transformers alone |
| several pictures | two pictures in one prompt: loss, pixel gradient and reply as from transformers alone |
| system text | *role*: the template has a system role; *folded*: the system text goes into the first user turn |
| left as found | training flags, `requires_grad`, padding side, hooks, attention and generation settings after use \
and after an error |

"""

TAIL = """
## Limits

- **LLaVA-1.5 and VipLLaVA** crop the picture to a square: the pixels cut off have no gradient, and a perturbation
  there has no effect on these models.
- **InstructBLIP** reads the question in its query transformer, so what it says of the picture differs from
  question to question. It and **BLIP-2** take one picture a prompt. Both and **PaliGemma** bring no chat template,
  on the hub either.
- **Gemma 3** and **Aya Vision** share the prefix while no text is longer than their sliding window, **Llama 4** while
  none is longer than its attention chunk; longer ones run as a plain batch, group by group.
- **Mistral 3** (pictures of a single patch) and **LFM2-VL** (aspect ratios such as 17 : 200) fail in transformers
  {version} itself, whatever runs them.
- **Idefics2** drops the rows and columns of pixels that do not fill a whole patch.
- **PaliGemma** lets picture and question look at each other in both directions.
- **SmolVLM**'s processor needs the package `num2words` even for still pictures, and **PerceptionLM**'s tower the
  package `timm`.
- **BLIP-2 and InstructBLIP over Flan-T5** are checked apart (`tests/models/test_encoder_decoder.py`): losses as from
  transformers alone, gradient, replies. An encoder reads their prompt, so that nothing is shared and CroPA does not
  apply.
- **Llama 4**'s image processor computes in bfloat16, whatever the model's own precision is: its pixel gradient has that
  precision, and equals the reference within 5e-3.
- **PerceptionLM** is asked about pictures one by one, because pictures of different sizes have different numbers of
  tiles, which its processor cannot stack.
- **Phi-4-multimodal** is loaded through `AutoModelForMultimodalLM`, not `AutoModelForImageTextToText`.
  Its image processor counts 256 tokens a tile whatever the tile's size, so its tiny model has 32 x 32 patches.
  The processor class of transformers 5.23 loses the chat template on loading; the tokenizer's copy is used.

Not here: models whose code is on the hub only (MiniGPT-4, Qwen-VL-Chat, the original repositories of
Phi-3.5-vision and InternVL), which transformers cannot build without that code. `docs/models.md` shows how to
bring one.
"""


TYPES_HEAD = """
## Every model type

Every type of `AutoModelForImageTextToText` in transformers {version}, from the table `equipoise.models.families`, which
`equipoise doctor` and `load` read too. A type that is newer than the table counts as untested.

"""


def type_table() -> str:
    """The section on all model types, with their verdicts."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as TYPES

    lines = ["| verdict | meaning |", "|---|---|"]
    lines += [f"| {verdict} | {meaning} |" for verdict, meaning in VERDICTS.items()]
    lines += ["", "| type | family | verdict | note |", "|---|---|---|---|"]
    for kind in sorted({*TYPES, *(family.kind for family in ALL_FAMILIES)}):
        rows = families_of(kind) or (ModelFamily(kind, kind, "untested", "newer than the table"),)
        lines += [f"| `{kind}` | {family.title} | {family.verdict} | {family.note} |" for family in rows]
    return TYPES_HEAD.format(version=transformers.__version__) + "\n".join(lines) + "\n"


def row(case: Case) -> tuple[str, list[str]]:
    """The table's row of a family, and what failed."""
    cells, failures = [], []
    for column, check in CHECKS.items():
        try:
            cells.append(check(case))
        except AssertionError as error:
            reason = " ".join(str(error).split())
            cells.append(f"**no**: {reason[:120]}")
            failures.append(f"{case.name}, {column}: {reason}")
    classes = [f"`{type(part).__name__}`" for part in (case.stock.model, case.stock.processor)]
    return " | ".join([f"| **{case.name}**", *classes, *cells]) + " |", failures


def document() -> tuple[str, list[str]]:
    """The whole document, and what failed."""
    columns = ["family", "model class", "processor class", *CHECKS]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in FAMILIES:
            line, failed = row(build(name, Path(folder) / name.replace(" ", "_")))
            lines.append(line)
            failures += failed
            print(line, flush=True)
    tail = TAIL.format(version=transformers.__version__)
    return HEAD.format(version=transformers.__version__) + "\n".join(lines) + "\n" + tail + type_table(), failures


def main() -> int:
    """Write or compare; 1 where a check failed or the document is stale."""
    if "--types" in sys.argv[1:]:
        # The checks take minutes, the table of types none: it is replaced by itself.
        before = DOC.read_text().partition("\n## Every model type")[0]
        DOC.write_text(before + type_table())
        return 0
    text, failures = document()
    print(*failures, sep="\n")
    if "--check" in sys.argv[1:]:
        stale = text != DOC.read_text()
        print(f"{DOC.name} is {'stale; run this without --check' if stale else 'up to date'}")
        return int(bool(failures) or stale)
    DOC.write_text(text)
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main())
