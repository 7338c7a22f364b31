"""Training of the harm detector: binary cross-entropy on harmless and harmful replies (MLLM-Protector, section 3.1).

The loop is transformers' `Trainer`: checkpoints, resuming, mixed precision, several devices. What is read of a reply is
`Template.windows`, the code that serves; a long reply has several windows and the largest logit counts, as in serving.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from transformers import AutoConfig, AutoModel, AutoTokenizer, Trainer

from equipoise.errors import ModelError, UsageError
from equipoise.guard.detector.folder import write
from equipoise.guard.detector.harm_detector import HarmDetector, PlattScaling
from equipoise.guard.detector.network import HarmNetwork, batch, pooling_of
from equipoise.guard.detector.template import Template
from equipoise.guard.training_rows import LabelledReply
from equipoise.stats.calibration import platt_scaling, roc_auc
from equipoise.training.hf_trainer import TrainerSettings, run, same_recipe, with_adapters
from equipoise.training.loop import Progress

WINDOWS: Final = 4
"""Windows of one reply in a training step: the first, the last, and the middle ones; serving reads all."""
DROPOUTS: Final = ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "hidden_dropout")
"""What transformers' configurations call it."""
BARE: Final = 0.3
"""Share of the rows that `both` reads without what they answer."""
Reads = Literal["response", "exchange", "both"]


@dataclass(frozen=True)
class DetectorTrainingConfig:
    """What decides the weights."""

    base: str
    """A folder or a name of the model hub: any language model of transformers."""
    mode: Reads = "both"
    """What it learns to read; a detector of `both` serves exchanges."""
    epochs: int = 3
    rate: float = 5e-5
    """Peak learning rate; the linear unit learns ten times as fast."""
    batch: int = 16
    """Rows in an optimiser step."""
    seed: int = 0
    lora: int | None = None
    """Rank of low-rank adapters, merged in the end; None trains everything."""
    question: int = 64
    surroundings: int = 64
    window: int = 192
    stride: int = 128
    bf16: bool = False
    """bfloat16 autocast."""
    dropout: float = 0.0
    """Inside the base; on a CPU more than 0 doubles the time. The linear unit has its own."""
    embeddings: bool = False
    """Whether the token embeddings learn too."""

    @property
    def template(self) -> Template:
        """What the detector reads."""
        served: Literal["response", "exchange"] = "response" if self.mode == "response" else "exchange"
        return Template(served, self.question, self.surroundings, self.window, self.stride)


class WindowDataset(Dataset[dict[str, Any]]):
    """Rows as windows of token ids."""

    def __init__(self, rows: Sequence[LabelledReply], tokenizer: Any, recipe: DetectorTrainingConfig) -> None:
        served, bare = recipe.template, replace(recipe.template, mode="response")
        self.items: list[dict[str, Any]] = [
            {
                "windows": _some((bare if _is_bare(row, recipe) else served).windows(tokenizer, row.evidence)),
                "label": float(row.harmful),
                "weight": row.weight,
            }
            for row in rows
        ]
        self.lengths = [sum(len(window) for window in item["windows"]) for item in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


def _is_bare(row: LabelledReply, recipe: DetectorTrainingConfig) -> bool:
    if recipe.mode != "both":
        return recipe.mode == "response"
    digest = hashlib.sha256(f"{recipe.seed} {row.dataset} {row.id}".encode(errors="surrogatepass")).digest()
    return digest[0] / 256 < BARE


def _some(windows: list[list[int]]) -> list[list[int]]:
    if len(windows) <= WINDOWS:
        return windows
    return [windows[round(at * (len(windows) - 1) / (WINDOWS - 1))] for at in range(WINDOWS)]


@dataclass(frozen=True)
class DetectorCollator:
    """Rows to the tensors that `HarmNetwork.forward` takes."""

    padding: int

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Windows padded on the right."""
        made = batch([item["windows"] for item in items], self.padding)
        return {
            "ids": made.ids,
            "mask": made.mask,
            "row": made.row,
            "labels": torch.tensor([item["label"] for item in items]),
            "weights": torch.tensor([item["weight"] for item in items]),
        }


class DetectorTrainer(Trainer):
    """The stock trainer with batches of similar length and a faster linear unit."""

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW; the head starts from nothing and learns faster."""
        if self.optimizer is None:
            network: Any = self.model
            head = [each for name, each in network.named_parameters() if name.startswith("head.")]
            known = {id(each) for each in head}
            rest = [each for each in network.parameters() if each.requires_grad and id(each) not in known]
            rate = self.args.learning_rate
            groups = [{"params": rest, "lr": rate}, {"params": head, "lr": 10 * rate}]
            self.optimizer = torch.optim.AdamW(groups, weight_decay=self.args.weight_decay)
        return self.optimizer

    def _get_train_sampler(self, *arguments: Any, **more: Any) -> Any:
        data: Any = self.train_dataset
        return LengthGroupedSampler(data.lengths, self.args.train_batch_size, self.args.seed)


class LengthGroupedSampler(Sampler[int]):
    """Rows of similar length together, in an order that the epoch decides, wherever a training goes on.

    Args:
        lengths: of the rows.
        batch: rows in a step.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed = list(lengths), batch, seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the stock trainer before each epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        from transformers.trainer_pt_utils import get_length_grouped_indices

        generator = torch.Generator().manual_seed(self._seed)
        for _ in range(self._epoch + 1):
            order = get_length_grouped_indices(self._lengths, self._batch, generator=generator)
        return iter(order)


def train(
    recipe: DetectorTrainingConfig,
    rows: Sequence[LabelledReply],
    out: Path,
    *,
    held_out: Sequence[LabelledReply] = (),
    checkpoint_every: int = 200,
    device: str | None = None,
    progress: Progress | None = None,
    int8: bool = False,
) -> Path:
    """Train a detector; the same call goes on where it was killed.

    Args:
        recipe: what decides the weights.
        rows: what is learned, at least one harmful and one harmless reply.
        out: folder for checkpoints (`checkpoints/`) and the detector.
        held_out: rows that the calibration is fitted on and metrics are reported on; none of them is learned from.
        checkpoint_every: optimiser steps between checkpoints.
        device: `cpu` or `cuda`; by default CUDA where there is one.
        progress: is told step, steps and loss.
        int8: see `pretrained.write`.

    Returns:
        The folder, which `guard.detector.load` reads; `metrics.json` in it holds AUC and rates for each dataset.

    Raises:
        UsageError: rows of one label only, or a folder of another recipe.
        ModelError: the base is no model that can be read.
        MissingExtraError: `lora` without peft.
    """
    labels = {row.harmful for row in rows}
    if labels != {True, False}:
        raise UsageError("expected harmful and harmless rows, got one kind only; try adding rows of the other")
    settings = asdict(recipe) | {"rows": _digest(rows)}
    same_recipe(out, settings)
    torch.manual_seed(recipe.seed)
    network, tokenizer = _start(recipe)
    data = WindowDataset(rows, tokenizer, recipe)
    plan = TrainerSettings(recipe.epochs, recipe.rate, recipe.batch, recipe.seed, recipe.bf16, checkpoint_every, device)
    trainer = DetectorTrainer(
        model=network,
        args=plan.arguments(out),
        train_dataset=data,
        data_collator=DetectorCollator(tokenizer.pad_token_id or 0),
    )
    run(trainer, out, progress)
    network = _merged(network, recipe).cpu()
    calibration, metrics = _report(network, tokenizer, recipe, held_out)
    write(out, network, tokenizer, recipe.template, calibration=calibration, recipe=settings, int8=int8)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    return out


def _digest(rows: Iterable[LabelledReply]) -> str:
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps(asdict(row), sort_keys=True).encode(errors="surrogatepass"))
    return found.hexdigest()


def _start(recipe: DetectorTrainingConfig) -> tuple[HarmNetwork, Any]:
    # The base's own head is left behind, which transformers reports as a warning on every load.
    logging.getLogger("transformers.modeling_utils").setLevel(logging.ERROR)
    try:
        config = AutoConfig.from_pretrained(recipe.base)
        for name in DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, recipe.dropout)
        base = AutoModel.from_pretrained(recipe.base, config=config, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(recipe.base)
    except (OSError, ValueError) as error:
        raise ModelError(f"expected a language model, got {recipe.base}: {error}; try a folder or ORG/NAME") from error
    network = HarmNetwork(base, pooling_of(base.config))
    if not recipe.embeddings:
        base.get_input_embeddings().requires_grad_(False)
    if recipe.lora is not None:
        network.base = with_adapters(network.base, recipe.lora)
    return network, tokenizer


def _merged(network: HarmNetwork, recipe: DetectorTrainingConfig) -> HarmNetwork:
    if recipe.lora is not None:
        network.base = network.base.merge_and_unload()
    return network.eval()


def _report(
    network: HarmNetwork, tokenizer: Any, recipe: DetectorTrainingConfig, rows: Sequence[LabelledReply]
) -> tuple[PlattScaling, dict[str, Any]]:
    """A calibration fitted on held-out rows, and what they say of the detector; neither where there are none."""
    if {row.harmful for row in rows} != {True, False}:
        return PlattScaling(), {}
    bare = HarmDetector(network, tokenizer, recipe.template, PlattScaling(), name="trained", identity="")
    logits = np.array(bare.logits([row.evidence for row in rows]))
    labels = np.array([row.harmful for row in rows])
    metrics: dict[str, Any] = {"all": summary(logits, labels)}
    for name in sorted({row.dataset for row in rows} - {""}):
        chosen = np.array([row.dataset == name for row in rows])
        metrics[name] = summary(logits[chosen], labels[chosen])
    return PlattScaling(*platt_scaling(logits, labels)), metrics


def summary(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Counts, AUC, and at thresholds of stated false-positive rates the share of harmful rows found."""
    harmful, harmless = scores[labels], scores[~labels]
    if not len(harmful) or not len(harmless):
        return {"harmful": len(harmful), "harmless": len(harmless), "auc": None}
    found: dict[str, Any] = {
        "harmful": len(harmful),
        "harmless": len(harmless),
        "auc": round(roc_auc(harmful.tolist(), harmless.tolist()), 4),
    }
    for rate in (0.01, 0.05, 0.1):
        found[f"tpr_at_fpr_{rate}"] = round(float((harmful > np.quantile(harmless, 1 - rate)).mean()), 4)
    return found
