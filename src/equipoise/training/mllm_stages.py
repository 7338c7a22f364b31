"""The stages of `reference/mllm`: rows, tower, projector, the whole, letters, reading; each goes on after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from equipoise.errors import ModelError
from equipoise.files import folder_hash, read_json_lines, weights_hash, write_json, write_whole
from equipoise.models.parts_over_base import WEIGHTS, save_parts
from equipoise.reference.mllm.architecture import build_model
from equipoise.reference.mllm.words import HELD_OUT_WORDS, TRAIN_WORDS
from equipoise.training.alignment import AlignmentRow, AlignmentTrainingConfig, compose_rows
from equipoise.training.causal_lm import load_base
from equipoise.training.loop import Progress, seeded
from equipoise.training.reference_letters import LettersTrainingConfig, train_letters
from equipoise.training.reference_mllm import MllmTrainingConfig, PictureStudent, train_mllm
from equipoise.training.reference_projector import ProjectorTrainingConfig, patch_words, train_projector
from equipoise.training.reference_tower import PatchNamer, TowerTrainingConfig, train_tower

ROWS: Final = "rows.jsonl"
"""The requests of text with their replies, in the output folder; a file of these lines may be put there before."""
VOCABULARY_WORDS: Final = 9000
"""How many of the base's most frequent words are drawn beside the list's."""
LISTED_TIMES: Final = 10
"""How often a listed word is drawn for each time that a word of the vocabulary is."""

ANSWERING: Final = MllmTrainingConfig(reading_weight=0.2)
"""The stage of all questions. A word that cannot be read yet costs many times what any other answer does, and the model
would learn little else."""
READING: Final = MllmTrainingConfig(
    steps=1000,
    questions=3,
    adapter_rate=8e-4,
    tower_rate=1e-4,
    heads_rate=3e-3,
    warmup=30,
    word_share=0.8,
    naming_rows=8,
    letters_once=True,
    seed=1,
)
"""The last stage: most pictures show a word, and the tower names the letters of further pictures in every step."""

Stage = Callable[[str], Progress | None]
"""Called with the name of a stage before it starts; returns what is called after its steps."""


@dataclass(frozen=True)
class MllmStagesConfig:
    """What decides the weights."""

    base: str
    """Folder of the base model."""
    tower: TowerTrainingConfig = field(default_factory=TowerTrainingConfig)
    """The first stage."""
    projector: ProjectorTrainingConfig = field(default_factory=ProjectorTrainingConfig)
    """Between the two."""
    mllm: MllmTrainingConfig = ANSWERING
    """The second stage."""
    letters: LettersTrainingConfig = field(default_factory=LettersTrainingConfig)
    """Of the tower, before the last stage."""
    reading: MllmTrainingConfig = READING
    """The last stage."""


def drawn_words(tokenizer: Any) -> list[str]:
    """The words that training draws: the list's, and frequent words of the base's vocabulary; none is held out.

    Many more words than the list has make the model read letters instead of remembering words. The vocabulary's tokens
    are in the order of their frequency.
    """
    held_out = set(HELD_OUT_WORDS)
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=lambda token: int(vocabulary[token]))
    # Tokens that begin a word begin with a space, which byte-level tokenizers write as this letter.
    words = [token[1:] for token in tokens if token.startswith("\u0120") and _is_word(token[1:])]
    return [*TRAIN_WORDS] * LISTED_TIMES + [word for word in words if word not in held_out][:VOCABULARY_WORDS]


def _is_word(text: str) -> bool:
    return text.isascii() and text.isalpha() and text.islower() and 3 <= len(text) <= 9


def train(
    config: MllmStagesConfig,
    out: Path,
    *,
    start: Path | None = None,
    checkpoint_every: int = 50,
    stage: Stage = lambda _: None,
) -> Path:
    """Train tower, projector and adapter on the CPU; the same call goes on where it was killed.

    Args:
        config: what decides the weights.
        out: folder for `rows.jsonl`, a folder of each stage, and the result, `model/`.
        start: folder of a trained model; letters and reading alone are trained, from there.
        checkpoint_every: optimiser steps between checkpoints.
        stage: called before each stage.

    Returns:
        The folder with the parts of the model, which `load` takes.

    Raises:
        UsageError: `out` holds a training of another recipe.
        ModelError: the base is no causal language model with a chat template, or `start` holds no model of this size.
        OutputError: the folder cannot be written.
        MissingExtraError: peft is not installed.
    """
    from transformers import AutoTokenizer

    base = Path(config.base)
    # Composing the rows takes long: a wrong folder is an error before that.
    if start is not None and not (start / WEIGHTS).is_file():
        raise ModelError(
            f"expected the parts of a model in {start}, got no {WEIGHTS}; try the folder model of a finished training"
        )
    stage("rows of text")
    rows = _rows(config, out / ROWS)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    words = drawn_words(tokenizer)
    if start is None:
        start = _answering(config, words, rows, tokenizer, out, checkpoint_every, stage)
    progress = stage("letters")
    with seeded(config.letters.seed):
        begun = PictureStudent(base, config.reading, start=start).float()
    namer = PatchNamer(begun.model.model.vision_tower)
    namer.head, projector = begun.head, begun.model.model.multi_modal_projector
    train_letters(
        config.letters,
        namer,
        projector,
        begun.model.get_input_embeddings().weight.detach(),
        patch_words(tokenizer)[2:4],
        words,
        out / "letters",
        origin=folder_hash(start),
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    # The language model was loaded for its embeddings and sizes; the next stage loads its own.
    del begun
    progress = stage("reading")
    student = train_mllm(
        base,
        config.reading,
        namer,
        words,
        rows,
        out / "reading",
        projector=projector.state_dict(),
        start=start,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    folder = out / "model"
    save_parts(student.peft, student.processor, folder)
    write_json(
        folder / "recipe.json", asdict(config) | {"base": base.name, "rows": len(rows), "torch": torch.__version__}
    )
    return folder


def _answering(
    config: MllmStagesConfig,
    words: Sequence[str],
    rows: Sequence[AlignmentRow],
    tokenizer: Any,
    out: Path,
    checkpoint_every: int,
    stage: Stage,
) -> Path:
    """The stages up to `mllm`; returns the folder of the parts."""
    base = Path(config.base)
    progress = stage("tower")
    namer = train_tower(config.tower, words, out / "tower", checkpoint_every=checkpoint_every, progress=progress)
    progress = stage("projector")
    origin = weights_hash(base)
    with seeded(config.projector.seed):
        fresh = build_model(base, config.mllm.tower)
    projector = fresh.model.multi_modal_projector.float()
    # The base's own embeddings: what the projector has to hit is the space in which the language model reads words.
    embeddings = fresh.get_input_embeddings().weight.detach()
    train_projector(
        config.projector,
        namer,
        projector,
        embeddings,
        tokenizer,
        words,
        out / "projector",
        origin=origin,
        progress=progress,
    )
    del fresh
    progress = stage("pictures and text")
    student = train_mllm(
        base,
        config.mllm,
        namer,
        words,
        rows,
        out / "mllm",
        projector=projector.state_dict(),
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    folder = out / "mllm" / "parts"
    save_parts(student.peft, student.processor, folder)
    return folder


def _rows(config: MllmStagesConfig, path: Path) -> list[AlignmentRow]:
    """Rows that stand in the folder, or composed ones, which are then kept."""
    if path.is_file():
        return [AlignmentRow(**document) for document in read_json_lines(path) if "prompt" in document]
    model, tokenizer = load_base(config.base, dtype=torch.bfloat16)
    rows = compose_rows(model, tokenizer, AlignmentTrainingConfig(config.base, seed=config.mllm.seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(asdict(row)) + "\n" for row in rows))
    return rows
