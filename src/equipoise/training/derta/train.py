"""The training of DeRTa: an adapter of low rank on the language tower of a chat model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch

from equipoise.data.refusal_rows import RefusalRow, raise_problems, rows_hash
from equipoise.errors import ModelError, UsageError
from equipoise.files import write_json
from equipoise.judges.phrases import judge_reply
from equipoise.models.adapter import TrainedBase
from equipoise.models.load import find_device, load
from equipoise.models.transformers_model import TransformersModel
from equipoise.training.checkpointing import Checkpoint
from equipoise.training.derta.collator import DertaCollator, DertaItem
from equipoise.training.derta.labels import DertaLabels, LabelSettings, RowUse, label_use, row_uses
from equipoise.training.derta.loss import DertaLoss
from equipoise.training.derta.openers import OpenerTokens, learn_opener_tokens
from equipoise.training.loop import Progress, seeded
from equipoise.training.lora import save_adapter
from equipoise.training.processes import TrainingProcesses
from equipoise.training.supervised_training import SupervisedSettings, fit, require_rate
from equipoise.training.trainable_parts import choose_learners
from equipoise.types import Prompt

HARMFUL_PER_BOUNDARY: Final = 15
"""Harmful rows for which one boundary row must be there: the paper has 200 rows for 3,000 questions."""


@dataclass(frozen=True)
class DertaTrainingConfig:
    """What decides the weights, beside the rows."""

    model: str
    """Any model that `load` takes."""
    epochs: int = 2
    """Times over the rows; each cuts the harmful answers anew."""
    steps: int | None = None
    """Optimiser steps in place of `epochs`."""
    rate: float = 1e-4
    """Peak learning rate."""
    batch: int = 8
    """Rows in an optimiser step."""
    rank: int = 8
    """Of the adapter."""
    seed: int = 0
    """Of adapter, order, cuts and kept positions."""
    prefix: bool = True
    """Learn refusals after the beginning of a harmful answer."""
    rto_weight: float = 1.0
    """Weight of the refusal transition; 0 leaves it out."""
    negative_weight: float = 1.0
    """Weight of the openers that are unwanted in harmless answers."""
    keep_fraction: float = 1.0
    """Share of an answer's tokens at which openers are wanted or unwanted."""
    cut: Literal["word", "token"] = "word"
    """Where harmful answers are cut."""
    boundary_mix: bool = True
    """Learn the boundary rows and unwanted openers; without them the model refuses more harmless prompts."""
    openers: tuple[str, ...] = ()
    """Beginnings of refusals in place of those of the rows."""
    longest: int = 1024
    """Tokens of a row at most."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the frozen weights; the adapter learns in float32."""
    compiled: bool = False
    """Whether the layers are compiled for the training, which needs a C++ compiler; the weights differ by rounding."""

    def __post_init__(self) -> None:
        require_rate(self.rate)
        if not all(opener.strip() for opener in self.openers):
            raise UsageError("expected words for --opener, got an empty text; try --opener Sorry")
        if not 0 < self.keep_fraction <= 1:
            raise UsageError(f"expected a keep fraction in (0, 1], got {self.keep_fraction}; try 1 or 0.05")
        for name in ("rto_weight", "negative_weight"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise UsageError(f"expected a weight of at least 0 for {name}, got {value}; try 1")

    @property
    def label_settings(self) -> LabelSettings:
        """What decides the labels."""
        return LabelSettings(prefix=self.prefix, cut=self.cut, keep_fraction=self.keep_fraction)


@dataclass(frozen=True)
class DertaRowWarnings:
    """Counts of rows that teach something else than they should."""

    refusals: int
    """`refusal` texts that do not refuse, as the structural judge reads them."""
    harmful_answers: int
    """Harmful answers that refuse: at their tokens a refusal has begun already."""
    answers: int
    """Answers to harmless prompts that refuse."""
    repeated: int
    """Rows that stand in the file before, with the same prompt and texts."""
    contrary: int
    """Prompts that are harmful in one row and harmless in another."""


def row_warnings(rows: Sequence[RefusalRow]) -> DertaRowWarnings:
    """Count rows whose texts are not what their name says."""
    harmful = [row for row in rows if row.kind == "harmful"]
    harmless = {json.dumps(row.prompt_parts()) for row in rows if row.kind != "harmful"}
    return DertaRowWarnings(
        refusals=sum(judge_reply(row.text, row.refusal).refusal == "none" for row in harmful),
        harmful_answers=sum(judge_reply(row.text, row.answer).refusal == "full" for row in harmful),
        answers=sum(judge_reply(row.text, row.answer).refusal == "full" for row in rows if row.kind != "harmful"),
        repeated=len(rows) - len({json.dumps(row.fingerprint()) for row in rows}),
        contrary=len(harmless & {json.dumps(row.prompt_parts()) for row in harmful}),
    )


def chosen_rows(rows: Sequence[RefusalRow], boundary_mix: bool) -> list[RefusalRow]:
    """The rows that are learned.

    Raises:
        UsageError: no harmful or no harmless rows, or too few boundary rows for a training with them.
    """
    counts = {kind: sum(row.kind == kind for row in rows) for kind in ("harmful", "boundary", "ordinary")}
    needed = -(-counts["harmful"] // HARMFUL_PER_BOUNDARY)
    if not counts["harmful"]:
        raise UsageError("expected rows of kind harmful, got none; try adding prompts with refusal and harmful_answer")
    if boundary_mix and counts["boundary"] < needed:
        raise UsageError(
            f"expected at least {needed} rows of kind boundary for {counts['harmful']} harmful ones, got "
            f"{counts['boundary']}; try adding harmless prompts that look harmful, or --no-boundary-mix"
        )
    learned = [row for row in rows if boundary_mix or row.kind != "boundary"]
    if all(row.kind == "harmful" for row in learned):
        raise UsageError("expected rows with harmless prompts, got none; try adding rows of kind ordinary")
    return learned


def train(
    config: DertaTrainingConfig,
    rows: Sequence[RefusalRow],
    out: Path,
    *,
    checkpoint_every: int = 100,
    device: str | None = None,
    progress: Progress | None = None,
) -> tuple[Path, OpenerTokens]:
    """Train an adapter; the same call goes on where it was killed.

    Args:
        config: what decides the weights.
        rows: what is learned, as `read_refusal_rows` gives them.
        out: folder of the adapter, which `MODEL+OUT` loads; also for the checkpoint and `training.jsonl`.
        checkpoint_every: optimiser steps between checkpoints.
        device: `cpu` or `cuda`; by default CUDA where there is one.
        progress: called after every step.

    Returns:
        The folder of the adapter, and the openers that were wanted.

    Raises:
        UsageError: rows that cannot be learned, a model without a tower to adapt, or a folder of another recipe.
        ModelError: no model that reads the rows.
        MissingExtraError: peft is not installed.
    """
    learned = chosen_rows(rows, config.boundary_mix)
    base = TrainedBase.of(config.model)
    recipe = _recipe(config, learned, base)
    processes = TrainingProcesses.join(device)
    Checkpoint(out, recipe).require_same_recipe()
    # A model that is sharded may not fit on one device: it is read into the machine's memory.
    model = load(config.model, device=device if processes.sharding is None else "cpu", dtype=config.dtype)
    compute = model.device if processes.sharding is None else find_device(device)
    if not isinstance(model, TransformersModel):
        raise ModelError(f"expected a model of transformers, got {config.model}; try a chat model's folder")
    if processes.sharding is not None and len({len(row.pictures) for row in learned}) > 1:
        # Rows of other numbers of pictures are other forward passes, and a sharded model runs those of all processes
        # at once.
        raise UsageError(
            "expected rows with the same number of pictures for FSDP, got several; try torchrun without FSDP, or a "
            "file of rows for each number"
        )
    uses = _uses(learned, config)
    items = _items(model, learned, uses, config)
    openers = learn_opener_tokens(model, learned, config.openers)
    negative = config.negative_weight if config.boundary_mix else 0.0
    loss = DertaLoss(openers.ids, config.rto_weight, negative)
    with seeded(config.seed):
        # Adapters on the language tower alone: refusing is decided there, and a frozen tower keeps what the model sees.
        adapted = choose_learners(model.model, ("language",), config.rank)
    if compute.type == "cpu" and not model.reads_pictures:
        # At these lengths torch's fused attention has the slower backward pass on a CPU.
        model.model.set_attn_implementation("eager")
    settings = SupervisedSettings(
        1,
        config.rate,
        config.batch,
        config.seed,
        checkpoint_every=checkpoint_every,
        device=str(compute),
        compiled=config.compiled,
    )
    # Rows are not grouped by length: each use of a row has its own typical length, so that a group would be of one use,
    # and steps of openers alone would undo those of refusals and answers.
    fit(
        adapted,
        items,
        DertaCollator(model, one_batch=processes.sharding is not None),
        settings,
        out,
        recipe,
        loss=loss,
        progress=progress,
    )
    full_recipe = recipe | {"openers_learned": openers.to_dict(), "base": Path(config.model).name}
    processes.on_first(lambda: _write(adapted, out, base, full_recipe))
    return out, openers


def _write(adapted: Any, out: Path, base: TrainedBase, recipe: dict[str, Any]) -> None:
    """Write the adapter, with the name of its base where that is a model without adapters, and the recipe."""
    if base.has_adapters:
        adapted.to(torch.bfloat16).save_pretrained(out)
    else:
        save_adapter(adapted, out, base)
    write_json(out / "recipe.json", recipe)


def _recipe(config: DertaTrainingConfig, rows: Sequence[RefusalRow], base: TrainedBase) -> dict[str, Any]:
    """What decides the weights, in values that a checkpoint can hold."""
    more = {"openers": list(config.openers), "rows": rows_hash(rows), "base_weights": base.weights}
    return asdict(config) | more


def _uses(rows: Sequence[RefusalRow], config: DertaTrainingConfig) -> list[RowUse]:
    """Every use of the rows in the training; with `steps`, as many as fill them.

    All passes are laid out before the training, each with cuts of its own, so that a step needs no state but its
    number: a resumed training takes the same ones.
    """
    turns = config.rto_weight > 0
    if config.steps is None:
        return row_uses(rows, config.seed, config.epochs, turns=turns)
    wanted = config.steps * config.batch
    # Ceiling division: enough passes to have at least `wanted` uses, of which a seeded choice is kept.
    passes = -(-wanted // len(row_uses(rows, config.seed, 1, turns=turns)))
    uses = row_uses(rows, config.seed, passes, turns=turns)
    kept = np.random.default_rng([config.seed, 67]).permutation(len(uses))[:wanted]
    return [uses[index] for index in sorted(kept)]


def _items(
    model: TransformersModel, rows: Sequence[RefusalRow], uses: Sequence[RowUse], config: DertaTrainingConfig
) -> list[DertaItem]:
    """All uses as tokens, checked before the first step.

    Raises:
        UsageError: rows that the model cannot take, by line; nothing has been trained then.
    """
    context = getattr(model.model.config.get_text_config(), "max_position_embeddings", None) or config.longest
    longest = min(config.longest, context)
    items: list[DertaItem] = []
    problems: dict[int, str] = {}
    opened: tuple[int, Prompt] | None = None
    # Rows that few steps leave out are read as well: a file is good or bad, whatever is drawn from it.
    drawn = {use.row for use in uses}
    left_out = [use for use in row_uses(rows, config.seed, 1, turns=True) if use.row not in drawn]
    for use in [*uses, *left_out]:
        row = rows[use.row]
        if opened is None or opened[0] != use.row:
            opened = (use.row, row.prompt)
        try:
            labels = label_use(model, row, opened[1], use, config.label_settings)
        except (UsageError, ModelError) as error:
            problems.setdefault(row.line, str(error))
            continue
        if len(labels) > longest:
            problems.setdefault(row.line, f"expected at most {longest} tokens, got {len(labels)}")
        if use.row in drawn:
            items.append(DertaItem(_without_pictures(labels), partial(_prompt_of, row), len(row.pictures)))
    raise_problems("the file of rows", sorted(problems.items()))
    return items


def _prompt_of(row: RefusalRow) -> Prompt:
    return row.prompt


def _without_pictures(labels: DertaLabels) -> DertaLabels:
    """The labels without the opened pictures, which would all stay in memory."""
    return replace(labels, encoded=replace(labels.encoded, other_pictures=()))
