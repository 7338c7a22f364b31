"""Training of the harm detector: binary cross-entropy on harmless and harmful replies (MLLM-Protector, section 3.1).

A reply is cut into windows of token ids by `Template.windows`, the code that also serves. A long reply has several
windows and the largest logit counts, as in serving.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from equipoise.errors import ModelError, UsageError
from equipoise.files import write_json
from equipoise.guard.detector.folder import ADAPTER, write
from equipoise.guard.detector.harm_detector import HarmDetector, PlattScaling
from equipoise.guard.detector.network import HarmNetwork, batch, pooling_of
from equipoise.guard.detector.template import Template
from equipoise.guard.training_rows import LabelledReply
from equipoise.models.adapter import TrainedBase
from equipoise.models.model_location import locate
from equipoise.models.model_parts import gguf_option, weight_options
from equipoise.models.unreadable import UNREADABLE, raised
from equipoise.stats.calibration import platt_scaling, roc_auc
from equipoise.training.checkpointing import Checkpoint
from equipoise.training.loop import Progress, seeded
from equipoise.training.lora import add_adapters, merge_adapters, save_adapter
from equipoise.training.processes import TrainingProcesses
from equipoise.training.supervised_training import fit
from equipoise.training.tuning_config import FineTuningConfig

DROPOUTS: Final = ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "hidden_dropout")
"""Names of dropout rates in transformers' configurations."""
REPLY_ONLY_SHARE: Final = 0.3
"""Share of the rows that a detector of `both` reads without what they answer."""
HEAD_RATE: Final = 10.0
"""Learning rate of the linear unit, which starts from random weights, as a multiple of the base's."""
DetectorMode = Literal["response", "exchange", "both"]


@dataclass(frozen=True)
class DetectorTrainingConfig(FineTuningConfig):
    """What decides the weights. The linear unit learns ten times as fast as the base."""

    mode: DetectorMode = "both"
    """What it learns to read; a detector of `both` serves exchanges."""
    question: int = 64
    surroundings: int = 64
    window: int = 192
    stride: int = 128
    dropout: float = 0.0
    """Inside the base; on a CPU more than 0 doubles the time. The linear unit has its own."""
    embeddings: bool = False
    """Whether the token embeddings learn too."""
    windows: int = 4
    """Most windows of one reply in a training step: the first, the last, and middle ones; serving reads all."""

    @property
    def template(self) -> Template:
        """What the detector reads."""
        served: Literal["response", "exchange"] = "response" if self.mode == "response" else "exchange"
        return Template(served, self.question, self.surroundings, self.window, self.stride)


def window_rows(rows: Sequence[LabelledReply], tokenizer: Any, recipe: DetectorTrainingConfig) -> list[dict[str, Any]]:
    """Rows as windows of token ids, with label and weight."""
    served, reply_only = recipe.template, replace(recipe.template, mode="response")
    return [
        {
            "windows": _some(
                (reply_only if _reads_reply_only(row, recipe) else served).windows(tokenizer, row.evidence),
                recipe.windows,
            ),
            "label": float(row.harmful),
            "weight": row.weight,
        }
        for row in rows
    ]


def _reads_reply_only(row: LabelledReply, recipe: DetectorTrainingConfig) -> bool:
    if recipe.mode != "both":
        return recipe.mode == "response"
    # By a hash of the row, so that adding or leaving out rows changes nothing for the others.
    digest = hashlib.sha256(f"{recipe.seed} {row.dataset} {row.id}".encode(errors="surrogatepass")).digest()
    return digest[0] / 256 < REPLY_ONLY_SHARE


def _some(windows: list[list[int]], most: int) -> list[list[int]]:
    """At most so many of the windows, evenly spaced, from the first to the last; of one, the first."""
    if len(windows) <= most:
        return windows
    return [windows[round(number * (len(windows) - 1) / max(most - 1, 1))] for number in range(most)]


@dataclass(frozen=True)
class DetectorCollator:
    """Rows to the tensors that `HarmNetwork.forward` takes."""

    padding: int
    """The id that fills up."""

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Windows padded on the right, with the row that each belongs to."""
        windows = batch([item["windows"] for item in items], self.padding)
        return {
            "ids": windows.ids,
            "mask": windows.mask,
            "row": windows.row,
            "labels": torch.tensor([item["label"] for item in items]),
            "weights": torch.tensor([item["weight"] for item in items]),
        }


def head_groups(network: HarmNetwork, rate: float) -> list[dict[str, Any]]:
    """Parameter groups of what learns in a network: the base at `rate`, the linear unit faster.

    Args:
        network: whose weights that require gradients learn.
        rate: peak learning rate of the base.
    """
    base = [weight for weight in network.base.parameters() if weight.requires_grad]
    return [{"params": base, "lr": rate}, {"params": list(network.head.parameters()), "lr": HEAD_RATE * rate}]


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
        out: folder for the checkpoint and the detector.
        held_out: rows that the calibration is fitted on and metrics are reported on; none of them is learned from.
        checkpoint_every: optimiser steps between checkpoints.
        device: `cpu` or `cuda`; by default CUDA where there is one.
        progress: called after every step.
        int8: see `guard.detector.folder.write`.

    Returns:
        The folder, which `guard.detector.load` reads; `metrics.json` in it holds AUC and rates for each dataset.

    Raises:
        UsageError: rows of one label only, or a folder of another recipe.
        ModelError: the base is no model that can be read.
        MissingExtraError: `lora` without peft.
    """
    recipe.require_adapters()
    labels = {row.harmful for row in rows}
    if labels != {True, False}:
        raise UsageError("expected harmful and harmless rows, got one kind only; try adding rows of the other")
    base = TrainedBase.of(recipe.base)
    full_recipe = asdict(recipe) | {"rows": rows_digest(rows), "base_weights": base.weights}
    processes = TrainingProcesses.join(device)
    Checkpoint(out, full_recipe).require_same_recipe()
    with seeded(recipe.seed):
        network, tokenizer = _start(recipe)
    data = window_rows(rows, tokenizer, recipe)
    fit(
        network,
        data,
        DetectorCollator(tokenizer.pad_token_id or 0),
        recipe.supervised(checkpoint_every, device),
        out,
        full_recipe,
        groups=head_groups(network, recipe.rate),
        lengths=[sum(len(window) for window in row["windows"]) for row in data],
        progress=progress,
    )
    processes.on_first(lambda: _write(out, network, tokenizer, base, recipe, full_recipe, held_out, int8=int8))
    return out


def _write(
    out: Path,
    network: HarmNetwork,
    tokenizer: Any,
    base: TrainedBase,
    recipe: DetectorTrainingConfig,
    full_recipe: dict[str, Any],
    held_out: Sequence[LabelledReply],
    *,
    int8: bool,
) -> None:
    """Calibrate a trained network and write the detector."""
    if recipe.adapter_only:
        inner = network.base.get_base_model()
        save_adapter(network.base, out / ADAPTER, base, prefix=inner.base_model_prefix)
    if recipe.lora is not None:
        # After they were written: merging uses the adapters up.
        network.base = merge_adapters(network.base)
    network = network.eval().cpu()
    calibration, metrics = _evaluate(network, tokenizer, recipe, held_out)
    write(out, network, tokenizer, recipe.template, calibration=calibration, recipe=full_recipe, int8=int8)
    write_json(out / "metrics.json", metrics)


def rows_digest(rows: Iterable[LabelledReply]) -> str:
    """sha256 over everything that the rows hold, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(asdict(row), sort_keys=True).encode(errors="surrogatepass"))
    return digest.hexdigest()


def _start(recipe: DetectorTrainingConfig) -> tuple[HarmNetwork, Any]:
    # The base's own head is left behind, which transformers reports as a warning on every load.
    logging.getLogger("transformers.modeling_utils").setLevel(logging.ERROR)
    source = locate(recipe.base)
    if source.adapters:
        raise ModelError(f"expected a base without an adapter, got {recipe.base}; try a folder with merged weights")
    file = {"revision": source.commit, **gguf_option(source)}
    try:
        config = AutoConfig.from_pretrained(source.where, trust_remote_code=False, **file)
        for name in DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, recipe.dropout)
        dtype = torch.bfloat16 if recipe.frozen_bf16 else torch.float32
        # At the lengths of windows torch's fused attention has the slower backward pass on a CPU.
        attention = {"attn_implementation": "eager"} if recipe.frozen_bf16 else {}
        weights = {"config": config, "dtype": dtype, **attention, **file, **weight_options(source)}
        base = AutoModel.from_pretrained(source.where, trust_remote_code=False, **weights)
        tokenizer = AutoTokenizer.from_pretrained(source.where, trust_remote_code=False, **file)
    except UNREADABLE as error:
        raise ModelError(
            f"expected a language model, got {recipe.base}: {raised(error)}; try a folder or ORG/NAME"
        ) from error
    network = HarmNetwork(base, pooling_of(base.config))
    if not recipe.embeddings:
        base.get_input_embeddings().requires_grad_(False)
    if recipe.lora is not None:
        # Without dropout: drawing its numbers takes a fifth of a step on a CPU.
        network.base = add_adapters(network.base, recipe.lora)
    return network, tokenizer


def _evaluate(
    network: HarmNetwork, tokenizer: Any, recipe: DetectorTrainingConfig, rows: Sequence[LabelledReply]
) -> tuple[PlattScaling, dict[str, Any]]:
    """A calibration fitted on held-out rows, and metrics on them; neither unless both labels are among them."""
    if {row.harmful for row in rows} != {True, False}:
        return PlattScaling(), {}
    uncalibrated = HarmDetector(network, tokenizer, recipe.template, PlattScaling(), name="trained", identity="")
    logits = np.array(uncalibrated.logits(uncalibrated.windows([row.evidence for row in rows])))
    labels = np.array([row.harmful for row in rows])
    metrics: dict[str, Any] = {"all": detection_metrics(logits, labels)}
    for name in sorted({row.dataset for row in rows} - {""}):
        chosen = np.array([row.dataset == name for row in rows])
        metrics[name] = detection_metrics(logits[chosen], labels[chosen])
    return PlattScaling(*platt_scaling(logits, labels)), metrics


def detection_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Counts, AUC, and the true-positive rate at thresholds of stated false-positive rates."""
    harmful, harmless = scores[labels], scores[~labels]
    if not len(harmful) or not len(harmless):
        return {"harmful": len(harmful), "harmless": len(harmless), "auc": None}
    metrics: dict[str, Any] = {
        "harmful": len(harmful),
        "harmless": len(harmless),
        "auc": round(roc_auc(harmful.tolist(), harmless.tolist()), 4),
    }
    for rate in (0.01, 0.05, 0.1):
        # The threshold is a quantile of these very rows: for a report; the one that serves is chosen by
        # `guard.calibration`.
        metrics[f"tpr_at_fpr_{rate}"] = round(float((harmful > np.quantile(harmless, 1 - rate)).mean()), 4)
    return metrics
