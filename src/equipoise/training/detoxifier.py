"""Training of the detoxifier: next-token loss on the harmless rewrite alone (MLLM-Protector, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from equipoise.errors import UsageError
from equipoise.files import write_json
from equipoise.guard.detoxifier.trained_detoxifier import prompt_ids
from equipoise.guard.training_rows import RewrittenReply
from equipoise.judges.phrases import judge_reply
from equipoise.judges.run_judge import digest
from equipoise.models.adapter import TrainedBase
from equipoise.training.causal_lm import CausalCollator, TokenRow, labelled_loss, load_base, token_row
from equipoise.training.checkpointing import Checkpoint
from equipoise.training.loop import Progress, seeded
from equipoise.training.lora import add_adapters, merge_adapters, save_adapter
from equipoise.training.processes import TrainingProcesses
from equipoise.training.supervised_training import fit
from equipoise.training.tuning_config import FineTuningConfig

LORA_DROPOUT = 0.05
"""Of what goes into an adapter."""


@dataclass(frozen=True)
class DetoxifierTrainingConfig(FineTuningConfig):
    """What decides the weights, beside the rows."""

    batch: int = 8
    longest: int = 1024
    """Tokens of a row; a longer response is cut in its middle, a longer rewrite leaves the row out."""


@dataclass(frozen=True)
class RewriteWarnings:
    """Counts of rows that make a detoxifier worse."""

    same: int
    """Rewrites that equal the reply: nothing to learn."""
    refusals: int
    """Rewrites that refuse: they teach refusing, which is not detoxifying."""
    empty: int
    """Rewrites without words."""


def row_warnings(rows: Sequence[RewrittenReply]) -> RewriteWarnings:
    """Count what makes a detoxifier worse; the training leaves the same and the empty ones out."""
    refusals = sum(judge_reply(row.prompt, row.rewrite).refusal == "full" for row in rows if row.rewrite.strip())
    same = sum(row.rewrite.strip() == row.response.strip() for row in rows if row.rewrite.strip())
    return RewriteWarnings(same, refusals, sum(not row.rewrite.strip() for row in rows))


def token_rows(rows: Sequence[RewrittenReply], tokenizer: Any, longest: int) -> list[TokenRow]:
    """Rows as token ids with the prompt masked and the end of the rewrite learned.

    Args:
        rows: the same and the empty ones are left out, and those whose rewrite alone is too long.
        tokenizer: of the base.
        longest: tokens of a row.
    """
    tokenized = []
    for row in rows:
        if not row.rewrite.strip() or row.rewrite.strip() == row.response.strip():
            continue
        # With the space that a model writes after the colon of the prompt.
        text = tokenizer(f" {row.rewrite.strip()}", add_special_tokens=False, verbose=False)["input_ids"]
        rewrite = [*text, tokenizer.eos_token_id]
        # A quarter of the row is the least in which question and reply can still be told.
        if len(rewrite) > longest * 3 // 4:
            continue
        prompt = prompt_ids(tokenizer, row.prompt, row.response, longest - len(rewrite))
        tokenized.append(token_row(prompt, rewrite))
    return tokenized


def train(
    recipe: DetoxifierTrainingConfig,
    rows: Sequence[RewrittenReply],
    out: Path,
    *,
    checkpoint_every: int = 200,
    device: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a detoxifier; the same call goes on where it was killed.

    Args:
        recipe: what decides the weights.
        rows: what is learned.
        out: folder for the checkpoint, the recipe and the model, which `guard.detoxifier.load` reads.
        checkpoint_every: optimiser steps between checkpoints.
        device: `cpu` or `cuda`; by default CUDA where there is one.
        progress: called after every step.

    Raises:
        UsageError: no usable row, a folder of another recipe, or settings of adapters without adapters.
        ModelError: the base is no causal language model.
        MissingExtraError: `lora` without peft.
    """
    recipe.require_adapters()
    settings = recipe.supervised(checkpoint_every, device)
    base = TrainedBase.of(recipe.base)
    full_recipe = asdict(recipe) | {"rows": digest([asdict(row) for row in rows]), "base_weights": base.weights}
    processes = TrainingProcesses.join(device)
    Checkpoint(out, full_recipe).require_same_recipe()
    model, tokenizer = load_base(recipe.base, dtype=torch.bfloat16 if recipe.frozen_bf16 else torch.float32)
    if recipe.frozen_bf16:
        # At these lengths torch's fused attention has the slower backward pass on a CPU.
        model.set_attn_implementation("eager")
    data = token_rows(rows, tokenizer, recipe.longest)
    if not data:
        raise UsageError("expected rows with a rewrite of their own, got none; try rows with prompt, response, rewrite")
    if recipe.lora is not None:
        with seeded(recipe.seed):
            model = add_adapters(model, recipe.lora, dropout=LORA_DROPOUT)
    lengths = [len(row["input_ids"]) for row in data]
    collate = CausalCollator.of(tokenizer)
    fit(model, data, collate, settings, out, full_recipe, loss=labelled_loss, lengths=lengths, progress=progress)
    processes.on_first(lambda: _write(out, model, tokenizer, base, recipe, full_recipe))
    return out


def _write(
    out: Path,
    model: Any,
    tokenizer: Any,
    base: TrainedBase,
    recipe: DetoxifierTrainingConfig,
    full_recipe: dict[str, Any],
) -> None:
    """Write what was trained: the adapter, or the whole model."""
    if recipe.adapter_only:
        save_adapter(model, out, base)
    else:
        model = merge_adapters(model) if recipe.lora is not None else model
        model.cpu().save_pretrained(out)
        tokenizer.save_pretrained(out)
    write_json(out / "recipe.json", full_recipe)
