"""Training of the detoxifier: next-token loss on the harmless rewrite alone (MLLM-Protector, section 3.2)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer

from equipoise.errors import ModelError, UsageError
from equipoise.guard.detoxifier.trained_detoxifier import prompt_ids
from equipoise.guard.training_rows import RewrittenReply
from equipoise.judges.phrases import judge_reply
from equipoise.judges.run_judge import digest
from equipoise.training.hf_trainer import TrainerSettings, run, same_recipe, with_adapters
from equipoise.training.loop import Progress

IGNORED = -100
"""The label of tokens that are not learned."""
Form = Callable[[Any, str, str, int], list[int]]


@dataclass(frozen=True)
class DetoxifierTrainingConfig:
    """What decides the weights."""

    base: str
    """A folder or a name of the model hub: any causal language model of transformers."""
    epochs: int = 3
    rate: float = 5e-5
    batch: int = 8
    seed: int = 0
    lora: int | None = None
    """Rank of low-rank adapters, merged in the end; None trains everything."""
    longest: int = 1024
    """Tokens of a row; a longer response is cut in its middle, a longer rewrite leaves the row out."""
    bf16: bool = False


@dataclass(frozen=True)
class RewriteWarnings:
    """What is odd about the rows."""

    same: int
    """Rewrites that equal the reply: nothing to learn."""
    refusals: int
    """Rewrites that refuse: they teach refusing, which is not detoxifying."""
    empty: int


def row_warnings(rows: Sequence[RewrittenReply]) -> RewriteWarnings:
    """Count what makes a detoxifier worse; the trainer leaves the same and the empty ones out."""
    refusals = sum(judge_reply(row.prompt, row.rewrite).refusal == "full" for row in rows if row.rewrite.strip())
    same = sum(row.rewrite.strip() == row.response.strip() for row in rows if row.rewrite.strip())
    return RewriteWarnings(same, refusals, sum(not row.rewrite.strip() for row in rows))


def items(
    rows: Sequence[RewrittenReply], tokenizer: Any, longest: int, form: Form = prompt_ids
) -> list[dict[str, list[int]]]:
    """Rows as token ids with the prompt masked and the end of the rewrite learned.

    Args:
        rows: the same and the empty ones are left out, and those whose rewrite alone is too long.
        tokenizer: of the base.
        longest: tokens of a row.
        form: the prompt that is also served.
    """
    made = []
    for row in rows:
        if not row.rewrite.strip() or row.rewrite.strip() == row.response.strip():
            continue
        text = tokenizer(f" {row.rewrite.strip()}", add_special_tokens=False, verbose=False)["input_ids"]
        said = [*text, tokenizer.eos_token_id]
        if len(said) > longest * 3 // 4:
            continue
        prompt = form(tokenizer, row.prompt, row.response, longest - len(said))
        made.append({"input_ids": [*prompt, *said], "labels": [IGNORED] * len(prompt) + said})
    return made


@dataclass(frozen=True)
class DetoxifierCollator:
    """Rows padded on the right; padding is neither seen nor learned."""

    padding: int

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """The tensors that a causal language model takes."""
        width = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), width), self.padding)
        labels = torch.full((len(rows), width), IGNORED)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for at, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[at, :length] = torch.tensor(row["input_ids"])
            labels[at, :length] = torch.tensor(row["labels"])
            mask[at, :length] = 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def train(
    recipe: DetoxifierTrainingConfig,
    rows: Sequence[RewrittenReply],
    out: Path,
    *,
    checkpoint_every: int = 200,
    device: str | None = None,
    progress: Progress | None = None,
    form: Form = prompt_ids,
) -> Path:
    """Train a detoxifier; the same call goes on where it was killed.

    Args:
        recipe: what decides the weights.
        rows: what is learned.
        out: folder for checkpoints and the model, which `guard.detoxifier.load` reads.
        checkpoint_every: optimiser steps between checkpoints.
        device: `cpu`, or CUDA where there is one.
        progress: is told step, steps and loss.
        form: the prompt that is also served.

    Raises:
        UsageError: no usable row, or a folder of another recipe.
        ModelError: the base is no causal language model.
        MissingExtraError: `lora` without peft.
    """
    same_recipe(out, asdict(recipe) | {"rows": digest([asdict(row) for row in rows])})
    torch.manual_seed(recipe.seed)
    model, tokenizer = _start(recipe.base)
    data = items(rows, tokenizer, recipe.longest, form)
    if not data:
        raise UsageError("expected rows with a rewrite of their own, got none; try rows with prompt, response, rewrite")
    if recipe.lora is not None:
        model = with_adapters(model, recipe.lora)
    plan = TrainerSettings(recipe.epochs, recipe.rate, recipe.batch, recipe.seed, recipe.bf16, checkpoint_every, device)
    collate: Any = DetoxifierCollator(
        tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    )
    stock: Any = Trainer(model=model, args=plan.arguments(out), train_dataset=data, data_collator=collate)
    run(stock, out, progress)
    if recipe.lora is not None:
        model = model.merge_and_unload()
    model.cpu().save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def _start(base: str) -> tuple[Any, Any]:
    logging.getLogger("transformers.modeling_utils").setLevel(logging.ERROR)
    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise ModelError(f"expected a causal language model, got {base}: {error}; try a folder or ORG/NAME") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"expected a tokenizer that can end a reply, got none in {base}; try another base")
    return model, tokenizer
