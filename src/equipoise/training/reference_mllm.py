"""Second stage of `reference/mllm`: tower, projector and an adapter on the frozen base learn to answer about pictures.

A step packs several questions about each picture, and rows of text alone: refusals of harmful requests and the base's
own replies to ordinary ones, as `reference/lm` learns them. Such requests are also asked beside pictures. Everything
computes in bfloat16; what learns has float32 masters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.files import folder_hash, weights_hash
from equipoise.models.learned_turn import LearnedTurn
from equipoise.models.packed_turns import TurnBatch, TurnPacker, TurnsOfPicture, additive_mask
from equipoise.models.parts_over_base import load_parts
from equipoise.reference.mllm.architecture import RANK, TowerSize, build_model, build_processor
from equipoise.reference.mllm.scenes import PATCH_CLASSES, DrawnScene, sample_drawn_scene, sample_turns
from equipoise.training.alignment import AlignmentRow
from equipoise.training.checkpointing import Stateful
from equipoise.training.compiled_layers import compiled_layers
from equipoise.training.loop import LearningRate, Progress, TrainingLoop, seeded
from equipoise.training.lora import add_adapters
from equipoise.training.master_weights import MasterWeights
from equipoise.training.reference_projector import centred_labels
from equipoise.training.reference_tower import (
    PatchNamer,
    label_batch,
    letter_accuracy,
    patch_losses,
    pixel_batch,
    sample_tower_scene,
)

PATCH_WEIGHT: Final = 0.3
"""Weight of the patch losses beside the replies'."""
TEXT_WEIGHT: Final = 0.5
"""Weight of the replies without a picture beside those about pictures."""


@dataclass(frozen=True)
class MllmTrainingConfig:
    """Everything that decides the weights, beside the tower and the rows of text."""

    steps: int = 700
    """Optimiser steps."""
    pictures: int = 6
    """Per step."""
    questions: int = 6
    """About each picture, at most."""
    text_rows: int = 1
    """Rows without a picture per step, of three requests each."""
    adapter_rate: float = 8e-4
    """Peak learning rate of the adapter."""
    projector_rate: float = 3e-4
    """Of the projector."""
    tower_rate: float = 2e-4
    """Of the tower."""
    warmup: int = 40
    """Steps."""
    rank: int = RANK
    """Of the adapter."""
    watermarks_from: int = 0
    """Step from which emblems may be as faint as watermarks."""
    refused_share: float = 0.35
    """Share of harmful requests among the requests of text."""
    word_share: float = 0.55
    """Share of the pictures with an English word."""
    reading_weight: float = 1.0
    """Of a read word in the loss of the replies."""
    naming_rows: int = 0
    """Further pictures per step that the tower alone sees: it names their patches, as in the first stage."""
    letters_once: bool = False
    """Whether the heads name a letter at its centre alone, as after the stage of letters."""
    heads_rate: float = 3e-4
    """Peak learning rate of the heads that name patches."""
    reply_tokens: int = 24
    """Longest reply to a request of text that is learned, in words; a longer one is cut and learned without its end."""
    seed: int = 0
    """Of everything."""
    width: int = 192
    """Of the tower's hidden states."""
    layers: int = 6
    """Of the tower."""
    heads: int = 6
    """Of the tower."""
    compiled: bool = False
    """Compile the language model's layers: more steps a second after a slow first one; needs a C++ compiler."""

    @property
    def tower(self) -> TowerSize:
        """Size of the tower."""
        return TowerSize(self.width, self.layers, self.heads)


class PictureStudent(nn.Module):
    """The assembled model with its adapter and the heads that name patches.

    Args:
        base: folder of the base model.
        recipe: how it is trained.
        namer: the tower of the first stage with its heads; fresh ones without.
        projector: weights of a fitted projector; fresh ones without.
        start: folder of the parts of a trained model to go on from; `namer` and `projector` take the place of its own.

    Raises:
        ModelError: `start` holds no parts, or some of another size.
    """

    def __init__(
        self,
        base: Path,
        recipe: MllmTrainingConfig,
        namer: PatchNamer | None = None,
        projector: dict[str, Tensor] | None = None,
        start: Path | None = None,
    ) -> None:
        super().__init__()
        self.processor = build_processor(base)
        # The fused attention's backward pass is the slower one on CPUs at these lengths.
        model = build_model(base, recipe.tower, attention="eager")
        model.requires_grad_(False)
        # By their full names: the tower has layers q_proj and v_proj, too.
        layers = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and name.startswith("model.language_model.")
        ]
        self.peft = add_adapters(model, recipe.rank, layers=layers)
        if start is not None:
            load_parts(self.peft, start)
        if namer is not None:
            model.model.vision_tower.load_state_dict(namer.tower.state_dict())
        if projector is not None:
            model.model.multi_modal_projector.load_state_dict(projector)
        self.model = self.peft.base_model.model
        self.head = nn.Linear(recipe.width, sum(PATCH_CLASSES))
        if namer is not None:
            self.head.load_state_dict(namer.head.state_dict())
        self.to(torch.bfloat16)
        self.model.model.vision_tower.requires_grad_(True)
        # The last layer's output is read before this norm.
        self.model.model.vision_tower.post_layernorm.requires_grad_(False)
        self.model.model.multi_modal_projector.requires_grad_(True)
        self._tower_output: list[Tensor] = []
        self.model.model.multi_modal_projector.register_forward_pre_hook(self._keep_features)

    def _keep_features(self, module: nn.Module, inputs: Any) -> None:
        self._tower_output.append(inputs[0])

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The weights that learn: `adapter`, `projector`, `heads`, `tower`."""
        named = [(name, weight) for name, weight in self.named_parameters() if weight.requires_grad]
        return {
            "adapter": [weight for name, weight in named if "lora_" in name],
            "projector": [weight for name, weight in named if "projector" in name],
            "heads": [weight for name, weight in named if name.startswith("head.")],
            "tower": [weight for name, weight in named if "vision_tower" in name],
        }

    def forward(self, batch: TurnBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of the replies about pictures, loss of the other replies, and logits of the patches."""
        self._tower_output.clear()
        dtype = torch.bfloat16
        # Hidden states of the packed row, `B x T x width`. The mask `attends` lets each question see its picture and
        # itself.
        hidden = self.model.model(
            input_ids=batch.input_ids,
            pixel_values=None if batch.pixels is None else batch.pixels.to(dtype),
            attention_mask=additive_mask(batch.attends, dtype),
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        answered = batch.targets >= 0
        # Logits of the replies alone: most positions of a packed row are picture and questions.
        logits = self.model.lm_head(hidden[answered]).float()
        losses = functional.cross_entropy(logits, batch.targets[answered], reduction="none")
        pictured = batch.with_picture[:, None].expand_as(answered)[answered]
        nothing = losses.new_zeros(())
        weights = batch.weights[answered]
        about_picture = (losses * weights)[pictured].sum() / weights[pictured].sum() if pictured.any() else nothing
        other = losses[~pictured].mean() if not pictured.all() else nothing
        return about_picture, other, self.head(self._tower_output[0])

    def named_patches(self, pixels: Tensor) -> Tensor:
        """Logits of the heads for pictures that the language model does not see: `B x 100 x classes`."""
        states = self.model.model.vision_tower(pixels.to(torch.bfloat16), output_hidden_states=True).hidden_states[-1]
        logits: Tensor = self.head(states)
        return logits


def request_turn(random: np.random.Generator, rows: Sequence[AlignmentRow], recipe: MllmTrainingConfig) -> LearnedTurn:
    """A request of text with its reply, cut where it is long."""
    kind = "refuse" if random.random() < recipe.refused_share else "answer"
    options = [row for row in rows if row.kind == kind] or list(rows)
    row = options[random.integers(len(options))]
    words = row.reply.split(" ")
    cut = len(words) > recipe.reply_tokens
    return LearnedTurn(row.prompt, " ".join(words[: recipe.reply_tokens]), ends=row.finished and not cut)


def sample_row(
    random: np.random.Generator,
    words: Sequence[str],
    rows: Sequence[AlignmentRow],
    recipe: MllmTrainingConfig,
    *,
    watermarks: bool,
) -> tuple[DrawnScene, TurnsOfPicture]:
    """A picture with questions about it and, often, a request that has nothing to do with it."""
    emblem = str(random.choice(["none", "emblem", "decoy"], p=[0.7, 0.17, 0.13]))
    drawn = sample_drawn_scene(random, words, emblem=emblem, word_share=recipe.word_share, watermarks=watermarks)  # type: ignore[arg-type]
    # A forbidden picture teaches one decision, the others many.
    count = 3 if drawn.scene.is_forbidden else recipe.questions
    turns = sample_turns(random, drawn, count, reading_weight=recipe.reading_weight)
    if rows and not drawn.scene.is_forbidden and random.random() < 0.4:
        turns.append(request_turn(random, rows, recipe))
    return drawn, TurnsOfPicture(drawn.picture, tuple(turns))


def train_mllm(
    base: Path,
    recipe: MllmTrainingConfig,
    namer: PatchNamer | None,
    words: Sequence[str],
    rows: Sequence[AlignmentRow],
    out: Path,
    *,
    projector: dict[str, Tensor] | None = None,
    start: Path | None = None,
    checkpoint_every: int = 50,
    progress: Progress | None = None,
) -> PictureStudent:
    """Train on the CPU; a second call after a kill goes on from the last checkpoint.

    Args:
        base: folder of the base model.
        recipe: how.
        namer: the tower of the first stage.
        words: that are drawn; held-out words are not among them.
        rows: requests of text with their replies.
        out: folder for the checkpoint and the trace.
        projector: weights of the fitted projector.
        start: folder of a trained model to go on from; `namer` and `projector` take the place of its own.
        checkpoint_every: steps between checkpoints.
        progress: called after every step with the loss of the replies about pictures.

    Raises:
        UsageError: `out` holds a checkpoint of another recipe.
        ModelError: `start` holds no parts, or some of another size.
        OutputError: the folder cannot be written.
        MissingExtraError: peft is not installed.
    """
    base_weights = weights_hash(base)
    with seeded(recipe.seed):
        student = PictureStudent(base, recipe, namer, projector, start).train()
    parts = student.parts()
    masters = MasterWeights([weight for weights in parts.values() for weight in weights])
    optimiser = torch.optim.AdamW(_groups(parts, masters, recipe), betas=(0.9, 0.98), weight_decay=0.0)
    rate = LearningRate([optimiser], recipe.steps, recipe.warmup)
    packer = TurnPacker(student.processor)

    def step(number: int) -> dict[str, float]:
        rate.set(number)
        # One generator for each row, named by seed, step and row: any row can be drawn again without the others.
        randoms = [np.random.default_rng([recipe.seed, 67, number, row]) for row in range(recipe.pictures)]
        watermarks = number >= recipe.watermarks_from
        drawn = [sample_row(random, words, rows, recipe, watermarks=watermarks) for random in randoms]
        texts = [_text_row(number, row, rows, recipe) for row in range(recipe.text_rows if rows else 0)]
        about_picture, other, patches = student(packer([row for _, row in drawn] + texts))
        further = _further_scenes(number, words, recipe, watermarks=watermarks)
        if further:
            patches = torch.cat([patches, student.named_patches(pixel_batch(further))])
        shown = [scene for scene, _ in drawn] + further
        labels = centred_labels(shown) if recipe.letters_once else label_batch(shown)
        named = patch_losses(patches, labels)
        (about_picture + TEXT_WEIGHT * other + PATCH_WEIGHT * torch.stack(list(named.values())).sum()).backward()
        # Gradients in bfloat16 move to float32 masters, the optimiser updates those, and `publish` rounds them back.
        # Updated in bfloat16 itself, a step of 1e-4 of a weight near 1 would round to no change.
        masters.take_gradients(1.0)
        optimiser.step()
        masters.publish()
        values = {"reply": about_picture.item(), "text": other.item(), "letters": named["letters"].item()}
        return values | {"letter_accuracy": letter_accuracy(patches.detach(), labels)}

    state: dict[str, Stateful] = {"masters": masters, "optimiser": optimiser}
    full_recipe = asdict(recipe) | {"words": len(words), "rows": len(rows), "base_weights": base_weights}
    full_recipe |= {} if start is None else {"start": folder_hash(start)}
    with compiled_layers(student.model, recipe.compiled):
        TrainingLoop(out, recipe.steps, full_recipe, checkpoint_every).run(step, state, progress)
    return student.eval()


def _groups(
    parts: dict[str, list[nn.Parameter]], masters: MasterWeights, recipe: MllmTrainingConfig
) -> list[dict[str, Any]]:
    """The masters of each part with its rate."""
    rates = {"adapter": recipe.adapter_rate, "projector": recipe.projector_rate}
    rates |= {"heads": recipe.heads_rate, "tower": recipe.tower_rate}
    # `masters` holds the weights of all parts one after the other, in the order of `parts`.
    groups, start = [], 0
    for name, weights in parts.items():
        groups.append({"params": masters.masters[start : start + len(weights)], "lr": rates[name]})
        start += len(weights)
    return groups


def _further_scenes(
    step: int, words: Sequence[str], recipe: MllmTrainingConfig, *, watermarks: bool
) -> list[DrawnScene]:
    """Pictures whose patches the tower names, without questions."""
    randoms = [np.random.default_rng([recipe.seed, 79, step, row]) for row in range(recipe.naming_rows)]
    return [sample_tower_scene(random, words, watermarks=watermarks) for random in randoms]


def _text_row(step: int, row: int, rows: Sequence[AlignmentRow], recipe: MllmTrainingConfig) -> TurnsOfPicture:
    random = np.random.default_rng([recipe.seed, 71, step, row])
    return TurnsOfPicture(None, tuple(request_turn(random, rows, recipe) for _ in range(3)))
