"""What a million pictures, a million prompts and a direction of a 70B model cost: operations, utilisation, price.

    python benchmarks/cost_model.py --write

The share of the peak that a step reaches is measured on this project's own steps (docs/performance.md, column "of
matmul rate": 16 to 37 % on a processor); a GPU's peak, its memory's rate and its price are stated assumptions. No step
of a 7B model was measured: these are estimates, for the order of magnitude.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from page import put

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"


@dataclass(frozen=True)
class CostAssumptions:
    """What the estimates rest on."""

    peak: float = 9.9e14
    """Operations a second of the GPU in bfloat16, dense (H100 SXM, data sheet)."""
    bandwidth: float = 3.35e12
    """Bytes a second of its memory (data sheet)."""
    memory: float = 80e9
    """Bytes of its memory."""
    utilisation: float = 0.25
    """Share of the peak in a step: the middle of the 16 to 37 % that docs/performance.md measured."""
    price: float = 2.5
    """Dollars for an hour of the GPU: an assumption."""
    steps: int = 30
    """Steps of a picture: 15 were measured on the testbed (time to refusal); twice that for a larger model."""
    questions: int = 10
    """Questions of a step, and asked afterwards about both pictures."""
    text: int = 25
    """Tokens of a question and its reply in a step (docs/performance.md)."""
    reply: int = 64
    """Tokens of a reply when asking (the default of `--max-new-tokens`)."""


@dataclass(frozen=True)
class ModelSize:
    """A model as far as its cost goes."""

    name: str
    parameters: float
    image_tokens: int

    def gpus(self, given: CostAssumptions) -> int:
        """GPUs that hold its weights in bfloat16, with a third more for activations and caches."""
        return -(-int(2 * self.parameters * 4 / 3) // int(given.memory))


SIZES = (
    ModelSize("2B (256 image tokens)", 2e9, 256),
    ModelSize("7B (LLaVA-1.5: 576)", 6.7e9, 576),
    ModelSize("34B (2,048)", 34e9, 2048),
    ModelSize("70B (2,048)", 70e9, 2048),
)


def decode_seconds(size: ModelSize, tokens: int, batch: int, given: CostAssumptions) -> float:
    """Seconds of GPU for the replies of a batch: each token reads all weights, or computes, whichever takes longer."""
    reads = 2 * size.parameters / given.bandwidth
    computes = 2 * size.parameters * batch / (given.peak * given.utilisation)
    return tokens * max(reads, computes)


def picture_seconds(size: ModelSize, given: CostAssumptions) -> tuple[float, float]:
    """Seconds of GPU for a step, and for a picture with its measurement."""
    # Forward 2 operations a parameter and token; backward as many again, since only the pixels need a gradient. The
    # prefix of the picture is computed once for all questions.
    tokens = size.image_tokens + given.questions * given.text
    step = 4 * size.parameters * tokens / (given.peak * given.utilisation)
    prefill = 2 * 2 * size.parameters * size.image_tokens / (given.peak * given.utilisation)
    asking = prefill + 2 * decode_seconds(size, given.reply, given.questions, given)
    return step, given.steps * step + asking


def prompt_seconds(size: ModelSize, given: CostAssumptions, *, text: int = 60, reply: int = 256) -> float:
    """Seconds of GPU for one prompt of an audit, in batches of 128."""
    prefill = 2 * size.parameters * text / (given.peak * given.utilisation)
    return prefill + decode_seconds(size, reply, 128, given) / 128


def direction_seconds(size: ModelSize, given: CostAssumptions) -> float:
    """Seconds of GPU for a refusal direction: capture over 256 prompts, 400 candidates scored on 3 x 32 prompts."""
    tokens = 60 * (256 + 400 * 3 * 32)
    return 2 * size.parameters * tokens / (given.peak * given.utilisation)


def table(given: CostAssumptions) -> list[str]:
    """The lines of the page."""
    million = 1e6 / 3600
    lines = [
        f"`python benchmarks/cost_model.py --write`; a GPU of {given.peak / 1e12:.0f} Tflop/s and "
        f"{given.bandwidth / 1e12:.2f} TB/s, {100 * given.utilisation:.0f} % of the peak in a step, "
        f"${given.price:.2f} an hour (assumed), {given.steps} steps a picture, {given.questions} questions",
        "",
        "| model | GPUs that hold it | GPU-seconds a step | GPU-seconds a picture | 1 M pictures: GPU-hours | $ "
        "| 1 M prompts: GPU-hours | $ | a direction: GPU-hours | $ |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size in SIZES:
        step, picture = picture_seconds(size, given)
        prompt, direction = prompt_seconds(size, given), direction_seconds(size, given)
        hours = (picture * million, prompt * million, direction / 3600)
        cells = " | ".join(f"{value:,.{0 if value >= 10 else 2}f} | {value * given.price:,.1f}" for value in hours)
        lines.append(f"| {size.name} | {size.gpus(given)} | {step:.2f} | {picture:.1f} | {cells} |")
    return lines


def main() -> None:
    """Print the table, or write it into docs/scale.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="the table into docs/scale.md")
    lines = table(CostAssumptions())
    if parser.parse_args().write:
        put(PAGE, "cost", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
