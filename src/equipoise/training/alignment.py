"""Training of `reference/lm`: ordinary safety tuning of a small chat model with a low-rank adapter.

Harmful requests are answered with refusals in many wordings. Ordinary requests are answered with what the base itself
says (self-distillation), so that the adapter learns to refuse and nothing else: on an ordinary prompt the base's own
reply has no gradient to speak of. Some ordinary prompts are written for this project; others are sampled from the base,
which continues an empty user turn with a prompt of its own (Magpie, Xu et al. 2024, arXiv:2406.08464).

Nothing here knows prompts that look harmful and are not. How often the tuned model refuses those is a result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch

from equipoise.errors import UsageError
from equipoise.files import read_json_lines, write_json, write_whole
from equipoise.judges.phrases import judge_reply
from equipoise.judges.run_judge import digest
from equipoise.models.adapter import TrainedBase
from equipoise.reference.alignment_prompts import alignment_prompts, refusal_parts
from equipoise.reference.install import ReportStage
from equipoise.training.causal_lm import CausalCollator, TokenRow, labelled_loss, load_base, token_row
from equipoise.training.checkpointing import Checkpoint
from equipoise.training.loop import Progress, seeded
from equipoise.training.lora import add_adapters, save_adapter
from equipoise.training.supervised_training import SupervisedSettings, fit

ROWS: Final = "rows.jsonl"
"""What is learned, in the output folder: written before the training starts, read again when it goes on."""
GENERATION_BATCH: Final = 48
_OWN_PROMPT: Final = re.compile(r"\S.{10,300}", re.DOTALL)


@dataclass(frozen=True)
class AlignmentTrainingConfig:
    """What decides the weights."""

    base: str
    """A folder or a name of the model hub: a chat model."""
    epochs: int = 3
    """Times over the rows."""
    rate: float = 3e-4
    """Peak learning rate."""
    batch: int = 8
    """Rows in an optimiser step."""
    rank: int = 8
    """Of the adapter."""
    seed: int = 0
    """Of the rows, the adapter and the order."""
    own_prompts: int = 1152
    """Prompts that the base is asked to write; about two thirds of them can be used."""
    reply_tokens: int = 16
    """Longest reply of the base that is learned; a longer one is cut and learned without its end."""
    compiled: bool = False
    """Whether the layers are compiled for the training, which needs a C++ compiler; the weights differ by rounding."""


@dataclass(frozen=True)
class AlignmentRow:
    """A request with the reply that is learned."""

    prompt: str
    """The request."""
    reply: str
    """A refusal, or what the base says."""
    kind: Literal["refuse", "answer"]
    """Which of the two."""
    finished: bool
    """Whether the reply ends here: the end token is learned, too."""


def train(
    config: AlignmentTrainingConfig,
    out: Path,
    *,
    more_harmful: Sequence[str] = (),
    checkpoint_every: int = 50,
    progress: Progress | None = None,
    report: ReportStage = lambda _: None,
) -> Path:
    """Train the adapter; the same call goes on where it was killed.

    Args:
        config: what decides the weights.
        more_harmful: requests that are refused beside our own.
        out: folder for the rows, the checkpoint, and `adapter/`, which peft reads.
        checkpoint_every: optimiser steps between checkpoints.
        progress: called after every step.
        report: called with a line about each stage.

    Returns:
        The folder of the adapter.

    Raises:
        UsageError: a folder of another recipe.
        ModelError: the base is no causal language model, or none with a chat template.
        MissingExtraError: peft is not installed.
    """
    base = TrainedBase.of(config.base)
    recipe = asdict(config) | {"more_harmful": digest([*more_harmful]) if more_harmful else None}
    recipe["base_weights"] = base.weights
    Checkpoint(out, recipe).require_same_recipe()
    # Frozen weights in the CPU's own fast format; the adapter's stay float32, because its updates are small.
    model, tokenizer = load_base(config.base, dtype=torch.bfloat16)
    # At these lengths torch's fused attention has the slower backward pass on a CPU: 34 ms a layer against 8 ms.
    model.set_attn_implementation("eager")
    rows = _stored_rows(out / ROWS, recipe)
    if rows is None:
        report("the base writes ordinary prompts and answers them")
        rows = compose_rows(model, tokenizer, config, more_harmful)
        out.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"recipe": recipe}), *(json.dumps(asdict(row)) for row in rows)]
        write_whole(out / ROWS, "\n".join(lines) + "\n")
    data = token_rows(rows, tokenizer)
    with seeded(config.seed):
        model = add_adapters(model, config.rank)
    settings = SupervisedSettings(
        config.epochs,
        config.rate,
        config.batch,
        config.seed,
        checkpoint_every=checkpoint_every,
        device="cpu",
        compiled=config.compiled,
    )
    report(f"{sum(row.kind == 'refuse' for row in rows)} refusals and {len(rows)} rows in all are learned")
    lengths = [len(row["input_ids"]) for row in data]
    collate = CausalCollator.of(tokenizer)
    fit(model, data, collate, settings, out, recipe, loss=labelled_loss, lengths=lengths, progress=progress)
    adapter = out / "adapter"
    save_adapter(model, adapter, base)
    write_json(adapter / "recipe.json", recipe)
    return adapter


def compose_rows(
    model: Any, tokenizer: Any, config: AlignmentTrainingConfig, more_harmful: Sequence[str] = ()
) -> list[AlignmentRow]:
    """Refusals for the harmful prompts; the base's own replies for the ordinary ones and for prompts of its own.

    Replies of the base that refuse are left out: small chat models refuse some ordinary prompts, and that is not to be
    learned again.
    """
    parts, random = refusal_parts(), np.random.default_rng([config.seed, 19])
    prompts = alignment_prompts(config.seed)
    harmful = [*(p.text for p in prompts if p.kind == "harmful"), *more_harmful]
    rows = [AlignmentRow(text, parts.draw(random), "refuse", True) for text in harmful]
    ordinary = [p.text for p in prompts if p.kind == "ordinary"] + own_prompts(model, tokenizer, config)
    # Prompts of similar length share a batch, which saves padding.
    ordinary.sort(key=len)
    for start in range(0, len(ordinary), GENERATION_BATCH):
        texts = ordinary[start : start + GENERATION_BATCH]
        chats = [chat_text(tokenizer, text) for text in texts]
        for text, (reply, finished) in zip(texts, _continue(model, tokenizer, chats, config.reply_tokens), strict=True):
            if reply.strip() and judge_reply(text, reply).refusal == "none":
                rows.append(AlignmentRow(text, reply, "answer", finished))
    return rows


def own_prompts(model: Any, tokenizer: Any, config: AlignmentTrainingConfig) -> list[str]:
    """Prompts that the base writes when it continues the beginning of a user turn, without repetitions."""
    marker = "\ue000"
    start = chat_text(tokenizer, marker).split(marker)[0]
    texts: set[str] = set()
    with seeded(config.seed):
        for begin in range(0, config.own_prompts, 64):
            count = min(64, config.own_prompts - begin)
            written = _continue(model, tokenizer, [start] * count, 56, do_sample=True, temperature=1.0, top_k=0)
            texts |= {text.strip() for text, finished in written if finished}
    # A set of texts has another order in every process; the rows must not.
    return sorted(text for text in texts if _OWN_PROMPT.fullmatch(text) and "\n\n" not in text)


def token_rows(rows: Sequence[AlignmentRow], tokenizer: Any) -> list[TokenRow]:
    """Rows as token ids with the prompt masked; the end token is learned where the reply ends."""
    tokenized = []
    for row in rows:
        prompt = tokenizer(chat_text(tokenizer, row.prompt), add_special_tokens=False)["input_ids"]
        reply = tokenizer(row.reply, add_special_tokens=False)["input_ids"]
        tokenized.append(token_row(prompt, [*reply, tokenizer.eos_token_id] if row.finished else reply))
    return tokenized


def chat_text(tokenizer: Any, text: str) -> str:
    """A user's text in the chat template, up to where the reply begins."""
    turns = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def _continue(model: Any, tokenizer: Any, texts: Sequence[str], tokens: int, **options: Any) -> list[tuple[str, bool]]:
    """What the model writes after each text, and whether it ended by itself; greedy by default."""
    end = tokenizer.eos_token_id
    batch = tokenizer(list(texts), return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    options = {"do_sample": False} | options
    with torch.no_grad():
        output = model.generate(**batch, max_new_tokens=tokens, pad_token_id=end, eos_token_id=end, **options)
    written = []
    for ids in output[:, batch["input_ids"].shape[1] :].tolist():
        finished = end in ids
        kept = ids[: ids.index(end)] if finished else ids
        written.append((tokenizer.decode(kept, skip_special_tokens=True), finished))
    return written


def _stored_rows(path: Path, recipe: dict[str, Any]) -> list[AlignmentRow] | None:
    """Rows that an earlier call wrote; None where there are none."""
    if not path.is_file():
        return None
    first, *documents = read_json_lines(path)
    if first != {"recipe": recipe}:
        raise UsageError(f"expected rows of this recipe in {path}, got those of another; try another --out")
    return [AlignmentRow(**document) for document in documents]
