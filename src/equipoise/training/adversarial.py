"""Adversarial training against refusal perturbations: the model learns its replies on pictures attacked against it.

Madry et al. 2018 (arXiv:1706.06083, equation 2.1) with the loss of MLLM-Refusal inside: projected gradient descent on
the picture makes the model likelier to refuse (or, for a share of the pictures, merely wrong), and the weights then
learn the right replies on the perturbed pictures. A share of the pictures of every step is clean.

A model that has only learned not to be talked into refusals also gives up some that it should keep. So another share of
the pictures is attacked in the other direction, in fewer steps: what should be refused is made less likely to be, and
learned.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from equipoise.attacks.budgets import Budget, parse_epsilon
from equipoise.errors import ModelError, UsageError
from equipoise.files import write_json
from equipoise.models.hf import HuggingFaceModel
from equipoise.training.adversarial_examples import AdversarialExample, SampleExample
from equipoise.training.checkpointing import Checkpoint, LearnedWeights
from equipoise.training.inner_attack import InnerAttack, most_likely_refusals, refused_turns, reply_losses, sized_pixels
from equipoise.training.kept_refusals import MIN_KEPT_SHARE, count_refusals, sample_refused
from equipoise.training.loop import LearningRate, Progress, TrainingLoop, seeded
from equipoise.training.lora import merge_adapters
from equipoise.training.processes import TrainingProcesses, shared_mean
from equipoise.training.trainable_parts import choose_learners, gradient_flags_restored, require_parts

MOST_DRAWS: Final = 1000
"""Examples that are drawn until one holds a refusal."""


@dataclass(frozen=True)
class AdversarialTrainingConfig:
    """Everything that decides the weights, beside the model and the examples."""

    steps: int = 1500
    """Optimiser steps."""
    pictures: int = 16
    """Pictures in a step."""
    questions: int = 3
    """Questions about each, which share its perturbation."""
    epsilon: str = "8/255"
    """Largest change of the inner attack."""
    inner_steps: int = 5
    """Gradient steps of the inner attack, from a random start."""
    attacked: float = 0.6
    """Share of the pictures that are attacked; the others are clean."""
    untargeted: float = 0.2
    """Share of the attacked pictures on which the attack only makes the right reply less likely, refusals among them.

    The others are attacked towards a refusal of what should be answered; pictures without such a question stay clean.
    """
    kept: float = 0.0
    """Share of all pictures on which the attack makes the refusals that should be kept less likely; their examples are
    drawn among those with a refusal."""
    kept_steps: int = 2
    """Gradient steps of that attack. It is there to keep refusals; a strong one would teach the model to refuse all
    that looks perturbed."""
    side: int | None = None
    """Pictures are resized to this square before they are attacked; None leaves them as they are."""
    parts: tuple[str, ...] = ("vision", "projector")
    """Which weights learn: vision, projector, language."""
    rank: int | None = None
    """Rank of low-rank adapters; None trains the weights themselves."""
    learning_rate: float = 2e-4
    """Peak, after the warm-up; cosine decay to a hundredth."""
    warmup: int = 50
    """Steps."""
    seed: int = 0
    """Of examples and attacks."""

    def __post_init__(self) -> None:
        require_parts(self.parts)
        for name in ("steps", "pictures", "questions", "inner_steps", "kept_steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} of at least 1, got {getattr(self, name)}; try the default")
        for name in ("attacked", "untargeted", "kept"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"expected a share of {name} in 0..1, got {getattr(self, name):g}; try 0.5")
        # Counted in pictures: two shares that fit together may still be rounded up to one picture too many.
        if round(self.attacked * self.pictures) + round(self.kept * self.pictures) > self.pictures:
            raise UsageError(
                f"expected shares of attacked and kept that are at most 1 together, got {self.attacked:g} and "
                f"{self.kept:g} of {self.pictures} pictures; try 0.5 and 0.25"
            )
        for name in ("side", "rank"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"expected {name} of at least 1, got {value}; try None")
        if not 0 < self.learning_rate < 1:
            raise UsageError(f"expected a learning rate above 0 and below 1, got {self.learning_rate:g}; try 2e-4")
        Budget("linf", parse_epsilon(self.epsilon))

    def to_dict(self) -> dict[str, Any]:
        """The recipe in JSON values; what came later is named where it is used, so that earlier recipes stay theirs."""
        fields = asdict(self) | {"parts": list(self.parts)}
        return fields if self.kept else {name: fields[name] for name in fields if name not in ("kept", "kept_steps")}


def train(
    model: HuggingFaceModel,
    recipe: AdversarialTrainingConfig,
    sample_example: SampleExample,
    out: Path,
    *,
    source: str,
    mixed_precision: str = "no",
    save_dtype: torch.dtype = torch.bfloat16,
    blend: float = 1.0,
    checkpoint_every: int = 100,
    progress: Progress | None = None,
) -> Path:
    """Train a model's own weights and save it; a second call after a kill goes on from the last checkpoint.

    Args:
        model: is changed and used up: load it for this, in float32 unless adapters alone are trained. Its own
            `gradient_checkpointing` holds here, too.
        recipe: how.
        sample_example: returns the examples, some of which must hold refusals.
        out: folder for the checkpoint, the recipe and, in `model`, the result in `save_pretrained` format.
        source: what `sample_example` takes examples from; part of the recipe.
        mixed_precision: `bf16`, `fp16` or `no`; on a CPU without bfloat16 units `no` is the fastest.
        save_dtype: precision of the saved weights.
        blend: share of the learned change that is kept, above 0 and up to 1; less gives back accuracy for robustness
            (interpolation of weights, Wortsman et al. 2022, arXiv:2109.01903). Not part of the recipe: a finished
            training can be written again with another share.
        checkpoint_every: steps between checkpoints.
        progress: called after every step.

    Returns:
        The folder of the saved model.

    Raises:
        UsageError: `out` holds a checkpoint of another recipe, the examples hold no refusals, or the device cannot
            do `mixed_precision`.
        ModelError: training took refusals away; nothing is written then.
    """
    if not 0 < blend <= 1:
        raise UsageError(f"expected a share of the change above 0 and up to 1, got {blend:g}; try 1")
    processes = TrainingProcesses.join(model.device.type)
    processes.require_whole_model("adversarial training")
    full_recipe = {**recipe.to_dict(), "source": source, "model": model.revision}
    Checkpoint(out, full_recipe).require_same_recipe()
    refused = sample_refused(sample_example, recipe.seed)
    # Counted by decoding, before and after. A training that only sees questions to be answered can reach a low loss by
    # forgetting to refuse; such a model is not written.
    before = count_refusals(model, refused)
    with gradient_flags_restored(model.model):
        trainer = _AdversarialTrainer(model, recipe, sample_example, mixed_precision, processes)
        loop = TrainingLoop(out, recipe.steps, full_recipe, checkpoint_every, processes.is_first)
        loop.run(trainer.step, trainer.state, progress)
        trained = trainer.finished(blend)
    after = count_refusals(model, refused)
    if after < MIN_KEPT_SHARE * before:
        raise ModelError(
            f"expected the model to go on refusing what it should ({before} of {len(refused)} questions before), got "
            f"{after} afterwards, so nothing is written; try more refusals among the examples, or fewer steps"
        )
    folder = out / "model"

    def write() -> None:
        trained.to(save_dtype).save_pretrained(folder)
        model.processor.save_pretrained(folder)
        write_json(out / "recipe.json", {**full_recipe, "blend": blend})

    processes.on_first(write)
    return folder


class _AdversarialTrainer:
    """The state of a training: what learns, its optimiser, and the attack on it."""

    def __init__(
        self,
        model: HuggingFaceModel,
        recipe: AdversarialTrainingConfig,
        sample_example: SampleExample,
        mixed_precision: str,
        processes: TrainingProcesses,
    ) -> None:
        self._model, self._recipe, self._sample_example = model, recipe, sample_example
        self._processes = processes
        self._accelerator = _accelerator(model.device, mixed_precision)
        # The targets are chosen by the model before it learns, so that a resumed training chooses the same.
        targets = most_likely_refusals(model, sample_example, recipe.seed, recipe.side)
        budget = Budget("linf", parse_epsilon(recipe.epsilon))
        self._attack = InnerAttack(
            model, budget, recipe.inner_steps, recipe.untargeted, targets, self._accelerator.autocast
        )
        # Examples of this attack hold refusals only, whose likelihood an untargeted attack lowers.
        self._attack_on_refusals = replace(self._attack, steps=recipe.kept_steps, untargeted=1.0)
        # Adapters begin with random numbers.
        with seeded(recipe.seed):
            self._learner = choose_learners(model.model, recipe.parts, recipe.rank)
        self._weights = LearnedWeights.of(self._learner)
        # What the weights were, for `blend`; adapters keep their change apart from the weights.
        self._origin = [weight.detach().clone() for weight in self._weights.weights] if recipe.rank is None else []
        optimiser = torch.optim.AdamW(self._weights.weights, lr=recipe.learning_rate, weight_decay=0.01)
        # The optimiser alone is prepared: the model keeps its own forward, which runs under `autocast` below.
        self._optimiser = self._accelerator.prepare(optimiser)
        self._rate = LearningRate([self._optimiser], recipe.steps, recipe.warmup)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: the weights that learn, the optimiser, and in fp16 the scale of the loss."""
        scaler = self._accelerator.scaler
        scale = {} if scaler is None else {"scaler": scaler}
        return {"weights": self._weights, "optimiser": self._optimiser, **scale}

    def step(self, number: int) -> dict[str, float]:
        """One update of the weights; returns its losses by name."""
        recipe = self._recipe
        self._rate.set(number)
        # 37 is this stream's own number: each use of a seed has another, or two uses would draw the same numbers. Every
        # process draws the whole step, and computes its share of it.
        rng = np.random.default_rng([recipe.seed, 37, number, 0])
        examples = [_some_turns(self._sample_example(rng), recipe.questions, rng) for _ in range(recipe.pictures)]
        pixels = [sized_pixels(example.picture, recipe.side).to(self._model.device) for example in examples]
        count = round(recipe.attacked * recipe.pictures)
        own = self._processes.share(range(recipe.pictures))
        kept = range(count, count + round(recipe.kept * recipe.pictures))
        for index in kept:
            examples[index] = self._draw_refused(rng)
            pixels[index] = sized_pixels(examples[index].picture, recipe.side).to(self._model.device)
        if count:
            # The attack runs against the weights of this very step. Attacks made beforehand would be learned by heart,
            # and a new attack on the finished model would find it as weak as before.
            pixels[:count] = self._attack(examples[:count], pixels[:count], rng, own)
        if kept:
            theirs = slice(kept.start, kept.stop)
            chosen = [index - count for index in own if index in kept]
            pixels[theirs] = self._attack_on_refusals(examples[theirs], pixels[theirs], rng, chosen)
        examples, pixels = [examples[index] for index in own], [pixels[index] for index in own]
        # Whatever the attack aimed at, the weights learn the replies of the clean picture.
        replies = [[reply for _, reply in example.turns] for example in examples]
        with self._accelerator.autocast():
            losses = reply_losses(self._model, examples, pixels, replies)
        group = torch.tensor([0 if index < count else 1 if index in kept else 2 for index in own])
        loss = shared_mean(losses)
        self._accelerator.backward(loss)
        self._processes.average_gradients(self._weights.weights)
        self._accelerator.clip_grad_norm_(self._weights.weights, 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        parts = {"loss": loss}
        sizes = {"attacked": count, "kept": len(kept), "clean": recipe.pictures - count - len(kept)}
        for number, (name, size) in enumerate(sizes.items()):
            if size:
                parts[name] = shared_mean(losses[(group == number).to(losses.device)])
        return self._processes.mean({name: float(part.detach()) for name, part in parts.items()})

    def _draw_refused(self, rng: np.random.Generator) -> AdversarialExample:
        """An example with nothing but refusals, at most as many as a picture has questions."""
        for _ in range(MOST_DRAWS):
            example = self._sample_example(rng)
            turns = refused_turns(example)
            if turns:
                return _some_turns(AdversarialExample(example.picture, turns), self._recipe.questions, rng)
        raise UsageError(
            f"expected examples with refusals for the share of kept ones, got {MOST_DRAWS} without any in a row; "
            "try more of what the model should refuse, or --kept 0"
        )

    def finished(self, blend: float) -> Any:
        """The model without adapters, with a share of what was learned."""
        if self._recipe.rank is not None:
            return merge_adapters(self._learner, blend).eval()
        with torch.no_grad():
            for weight, origin in zip(self._weights.weights, self._origin, strict=True):
                # blend * learned + (1 - blend) * origin
                weight.lerp_(origin, 1 - blend)
        return self._learner.eval()


def _accelerator(device: torch.device, mixed_precision: str) -> Accelerator:
    """Mixed precision on one device; the model stays where it is.

    Raises:
        UsageError: the device cannot do it.
    """
    if mixed_precision == "fp16" and device.type == "cpu":
        # accelerate would silently go on in full precision.
        raise UsageError("expected a GPU for mixed precision fp16, got cpu; try no or bf16")
    # accelerate keeps one state for the whole process, and refuses another precision or device after the first.
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        accelerator = Accelerator(mixed_precision=mixed_precision, cpu=device.type == "cpu", device_placement=False)
    except ValueError as error:
        raise UsageError(f"expected mixed precision no, bf16 or fp16, got {mixed_precision!r}; try no") from error
    return accelerator


def _some_turns(example: AdversarialExample, count: int, rng: np.random.Generator) -> AdversarialExample:
    """The example with at most `count` of its questions, at random."""
    chosen = rng.permutation(len(example.turns))[:count]
    return AdversarialExample(example.picture, tuple(example.turns[int(i)] for i in chosen))
