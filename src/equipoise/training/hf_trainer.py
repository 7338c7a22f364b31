"""What trainings share that run in transformers' own `Trainer`: settings, resuming, adapters, one recipe a folder."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from equipoise.errors import MissingExtraError, OutputError, UsageError
from equipoise.training.loop import Progress

RECIPE: Final = "recipe.json"
CHECKPOINTS: Final = "checkpoints"


@dataclass(frozen=True)
class TrainerSettings:
    """How long and how fast."""

    epochs: int
    rate: float
    """Peak learning rate."""
    batch: int
    """Rows in an optimiser step."""
    seed: int
    bf16: bool
    """bfloat16 autocast."""
    every: int
    """Optimiser steps between checkpoints."""
    device: str | None
    """`cpu` or None, which is CUDA where there is one."""

    def arguments(self, out: Path) -> TrainingArguments:
        """As the stock trainer takes them; it reports to nobody."""
        return TrainingArguments(
            str(out / CHECKPOINTS),
            num_train_epochs=self.epochs,
            learning_rate=self.rate,
            per_device_train_batch_size=self.batch,
            seed=self.seed,
            bf16=self.bf16,
            use_cpu=self.device == "cpu",
            weight_decay=0.01,
            warmup_steps=0.06,
            lr_scheduler_type="linear",
            save_steps=self.every,
            save_total_limit=1,
            logging_steps=20,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            label_names=["labels"],
        )


class _ProgressCallback(TrainerCallback):
    """Passes step and loss on, in place of the stock trainer's prints."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **more: Any) -> None:
        """Called with every line of the log."""
        if logs and "loss" in logs:
            self.progress(state.global_step, state.max_steps, float(logs["loss"]))


def run(trainer: Trainer, out: Path, progress: Progress | None) -> None:
    """Train, from the last checkpoint on where there is one, without a word on stdout.

    Args:
        trainer: with its model and rows.
        out: the folder of the training.
        progress: is told step, steps and loss.
    """
    trainer.remove_callback(PrinterCallback)
    if progress is not None:
        trainer.add_callback(_ProgressCallback(progress))
    trainer.train(resume_from_checkpoint=last_checkpoint(out))


def last_checkpoint(out: Path) -> str | None:
    """Where a killed training goes on."""
    folder = out / CHECKPOINTS
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def same_recipe(out: Path, settings: dict[str, Any]) -> None:
    """A folder holds the training of one recipe.

    Raises:
        UsageError: it holds another.
        OutputError: it cannot be written.
    """
    file = out / RECIPE
    text = json.dumps(settings, indent=1) + "\n"
    try:
        if file.exists() and file.read_text(encoding="utf-8") != text:
            raise UsageError(f"expected the same training, got another recipe in {file}; try another --out")
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"expected to write {out}, got '{error.strerror}'; try another --out") from error


def with_adapters(model: Any, rank: int) -> Any:
    """The model with low-rank adapters on every linear layer (LoRA, arXiv:2106.09685); `merge_and_unload` undoes it.

    Raises:
        MissingExtraError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[lora]'") from error
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules="all-linear")
    # peft asks transformers for something by a name that will go away.
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return get_peft_model(model, config)
