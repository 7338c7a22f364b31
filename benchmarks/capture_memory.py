"""Memory of a capture at LLaVA-1.5-7B's geometry: what is kept does not grow with the length of the prompts.

    python benchmarks/capture_memory.py [--layers 2] [--rows 2]    # measure, then the table; 3 GB and a minute or two
    python benchmarks/capture_memory.py --page                      # only the table

Random weights in bfloat16, pictures of 336 x 336 (576 tokens) and a question. The width and the vision tower are those
of LLaVA-1.5-7B; of its 32 language layers only a few, as every layer keeps as much as every other. Bytes are those of
tensors, as torch's profiler counts its allocations on the processor.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

import geometries
from equipoise.steering.activation_sums import ActivationSums
from equipoise.steering.edits import capture
from equipoise.steering.prompt_forward import prompt_inputs, run_prompts
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt
from page import put

RESULTS: Final = Path(__file__).parent / "results" / "capture_memory.json"
PAGE: Final = Path(__file__).parents[1] / "docs" / "steering.md"
POSITIONS: Final = 5
"""Tokens behind the instruction that a search captures, as of LLaVA-1.5's template."""
DEPTH: Final = 32
"""Language layers of LLaVA-1.5-7B."""
QUESTION: Final = "What is the colour of the largest thing in the picture and why is it there"


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    if not arguments.page:
        document = measure(arguments.layers, arguments.rows)
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    render(json.loads(RESULTS.read_text(encoding="utf-8")))


def measure(layers: int, rows: int) -> dict[str, Any]:
    """Peaks and kept bytes of a plain pass, a capture and a pass that returns all hidden states."""
    full = geometries.GEOMETRIES["llava-7b"]
    width, inner, _, heads = full.text
    geometries.GEOMETRIES["llava-7b-few"] = replace(full, text=(width, inner, layers, heads))
    model = geometries.build("llava-7b-few", [QUESTION], device=torch.device("cpu"), dtype=torch.bfloat16)
    # The self-test takes some twenty passes and is about numbers; memory is the same without it.
    steerable = steerable_untested(model)
    inputs = prompt_inputs(steerable, [Prompt.ask(QUESTION, Image.new("RGB", (336, 336)))] * rows)
    sums = ActivationSums.empty(layers, POSITIONS, width)

    def captured() -> None:
        with capture(steerable, last=POSITIONS, layers=range(layers), sink=sums.append):
            run_prompts(steerable, inputs)

    def everything() -> Any:
        with torch.no_grad():
            return model.model(**inputs, output_hidden_states=True, logits_to_keep=1).hidden_states

    document: dict[str, Any] = {"layers": layers, "rows": rows, "tokens": inputs["input_ids"].shape[1]}
    document["weights_gb"] = round(sum(p.numel() * p.element_size() for p in model.model.parameters()) / 2**30, 2)
    for name, work in (("plain", lambda: run_prompts(steerable, inputs)), ("capture", captured), ("all", everything)):
        document[name] = peak(work)
        print(name, document[name], flush=True)
    assert int(sums.counts.min()) == rows, "a layer was not captured"
    document["sums_bytes"] = sums.sums.numel() * sums.sums.element_size()
    return document


def steerable_untested(model: Any) -> Steerable:
    """The tower of a model whose numbers do not matter."""
    from equipoise.models.language_tower import LanguageTower

    steerable = Steerable.__new__(Steerable)
    steerable.model, steerable.name, steerable.revision = model.model, model.name, model.revision
    steerable.picture_tokens, steerable.open_model = frozenset(model.picture_tokens), model
    steerable.tower = LanguageTower.of(
        model.model, prompt_inputs(steerable, [Prompt.ask("What", Image.new("RGB", (336, 336)))])
    )
    return steerable


def peak(work: Callable[[], object]) -> int:
    """Bytes of tensors alive at the worst moment of some work, above those before it."""
    gc.collect()
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        kept = work()
    del kept
    now = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def render(document: dict[str, Any]) -> None:
    """The table of the page."""
    rows, tokens = document["rows"], document["tokens"]
    width = geometries.GEOMETRIES["llava-7b"].text[0]
    kept = {
        "plain": 0,
        "capture": (DEPTH * POSITIONS * width) * 8,
        "all": (DEPTH + 1) * rows * tokens * width * 2,
    }
    titles = ("forward pass", f"peak above the weights, {document['layers']} layers", "kept at 32 layers (computed)")
    lines = [f"| {' | '.join(titles)} |", "|---|---|---|"]
    names = {"plain": "plain", "capture": "capture into running sums", "all": "all hidden states"}
    for name, title in names.items():
        lines.append(f"| {title} | {document[name] / 2**20:.0f} MiB | {kept[name] / 2**20:.0f} MiB |")
    lines += ["", f"{rows} rows of {tokens} tokens; weights {document['weights_gb']} GiB."]
    put(PAGE, "capture-memory", lines)


if __name__ == "__main__":
    main()
