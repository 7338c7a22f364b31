"""Adversarial training against refusal perturbations: the model learns its replies on pictures attacked against it.

Madry et al. 2018 (arXiv:1706.06083, equation 2.1) with the loss of MLLM-Refusal inside: a projected gradient descent
on the picture makes the model likelier to refuse (or, for a share of the pictures, merely wrong), the weights then
learn the right replies on what it found. A share of every step is clean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from equipoise.attacks.budgets import Budget, parse_epsilon
from equipoise.attacks.refusal_targets import TARGET_REFUSALS, cross_entropies
from equipoise.errors import ModelError, UsageError
from equipoise.files import write_json
from equipoise.judges.phrases import PhraseJudge
from equipoise.media.quantize import to_pixels
from equipoise.models.encoded_prompt import EncodedPrompt
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.reply_log_probs import batch_log_probs, concatenate_images
from equipoise.models.state import frozen
from equipoise.training.activation_checkpointing import activation_checkpointing
from equipoise.training.adversarial_examples import AdversarialExample, Draw
from equipoise.training.loop import Progress, TrainingLoop, warm_cosine
from equipoise.training.parts import choose_learners, flags_kept, require_parts
from equipoise.types import Exchange, Prompt

AIMS = 6
"""Refusal sentences that the inner attack draws from: those of ours that the model is likeliest to say."""
KEPT_EXAMPLES = 40
"""Refusing questions by which it is checked that training has not taken refusals away."""
KEPT_SHARE = 0.9
"""The share of the refusals seen before that must be there afterwards."""


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
        for name in ("steps", "pictures", "questions", "inner_steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} of at least 1, got {getattr(self, name)}; try the default")
        for name in ("attacked", "untargeted"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"expected a share of {name} in 0..1, got {getattr(self, name):g}; try 0.5")
        for name in ("side", "rank"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"expected {name} of at least 1, got {value}; try None")
        if not 0 < self.learning_rate < 1:
            raise UsageError(f"expected a learning rate above 0 and below 1, got {self.learning_rate:g}; try 2e-4")
        Budget("linf", parse_epsilon(self.epsilon))


def train(
    model: HuggingFaceModel,
    recipe: AdversarialTrainingConfig,
    draw: Draw,
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
        draw: makes the examples, some of which must hold refusals.
        out: folder for the checkpoint, the recipe and, in `model`, the result in `save_pretrained` format.
        source: what `draw` draws from; part of the recipe.
        mixed_precision: `bf16`, `fp16` or `no`; on a CPU without bfloat16 units `no` is the fastest.
        save_dtype: precision of the saved weights.
        blend: share of the learned change that is kept, above 0 and up to 1; less gives back accuracy for robustness
            (interpolation of weights, Wortsman et al. 2022, arXiv:2109.01903). Not part of the recipe: a finished
            training can be written again with another share.
        checkpoint_every: steps between checkpoints.
        progress: is told of every step.

    Raises:
        UsageError: `out` holds a checkpoint of another recipe, the examples hold no refusals, or the device cannot
            do `mixed_precision`.
        ModelError: training took refusals away; nothing is written then.
    """
    if not 0 < blend <= 1:
        raise UsageError(f"expected a share of the change above 0 and up to 1, got {blend:g}; try 1")
    kept = _refusing(draw, recipe)
    before = _refused(model, kept)
    known = {**asdict(recipe), "parts": list(recipe.parts), "source": source, "model": model.revision}
    with flags_kept(model.model):
        trainer = _AdversarialTrainer(model, recipe, draw, mixed_precision)
        TrainingLoop(out, recipe.steps, known, checkpoint_every).run(trainer.step, trainer.state, progress)
        trained = trainer.finished(blend)
    after = _refused(model, kept)
    if after < KEPT_SHARE * before:
        raise ModelError(
            f"expected the model to go on refusing what it should ({before} of {len(kept)} questions before), got "
            f"{after} afterwards, so nothing is written; try more refusals among the examples, or fewer steps"
        )
    folder = out / "model"
    trained.to(save_dtype).save_pretrained(folder)
    model.processor.save_pretrained(folder)
    write_json(out / "recipe.json", {**known, "blend": blend})
    return folder


class _AdversarialTrainer:
    """One update after the other."""

    def __init__(
        self, model: HuggingFaceModel, recipe: AdversarialTrainingConfig, draw: Draw, mixed_precision: str
    ) -> None:
        self._model, self._recipe, self._draw = model, recipe, draw
        self._budget = Budget("linf", parse_epsilon(recipe.epsilon))
        self._accelerator = _accelerator(model.device, mixed_precision)
        self._aims = _likeliest(model, draw, recipe)
        with torch.random.fork_rng(devices=[]):
            # Adapters begin with random numbers.
            torch.manual_seed(recipe.seed)
            self._learner = choose_learners(model.model, recipe.parts, recipe.rank)
        self._weights = [parameter for parameter in self._learner.parameters() if parameter.requires_grad]
        # Where weights themselves learn, what they were; an adapter's change stands apart.
        self._origin = [weight.detach().clone() for weight in self._weights] if recipe.rank is None else []
        optimiser = torch.optim.AdamW(self._weights, lr=recipe.learning_rate, weight_decay=0.01)
        # The optimiser alone: the model keeps its own forward, which runs under `autocast` below.
        self._optimiser = self._accelerator.prepare(optimiser)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: the weights that learn, the optimiser, and in fp16 the scale of the loss."""
        scaler = self._accelerator.scaler
        scale = {} if scaler is None else {"scaler": scaler}
        return {"weights": _CheckpointedWeights(self._weights), "optimiser": self._optimiser, **scale}

    def step(self, number: int) -> dict[str, float]:
        """One update."""
        recipe = self._recipe
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.learning_rate * warm_cosine(number, recipe.steps, recipe.warmup)
        rng = np.random.default_rng([recipe.seed, 37, number, self._accelerator.process_index])
        examples = [_few(self._draw(rng), recipe, rng) for _ in range(recipe.pictures)]
        pixels = [_sized(example, recipe.side).to(self._model.device) for example in examples]
        count = round(recipe.attacked * recipe.pictures)
        if count:
            pixels[:count] = self._attack(examples[:count], pixels[:count], rng)
        replies = [[reply for _, reply in example.turns] for example in examples]
        with self._accelerator.autocast():
            losses = self._losses(examples, pixels, replies)
        attacked, clean = losses[:count], losses[count:]
        loss = losses.mean()
        self._accelerator.backward(loss)
        self._accelerator.clip_grad_norm_(self._weights, 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        parts = {"attacked": attacked, "clean": clean}
        return {"loss": float(loss.detach())} | {k: float(v.detach().mean()) for k, v in parts.items() if len(v)}

    def finished(self, blend: float) -> Any:
        """The model without adapters, with a share of what was learned."""
        with torch.no_grad():
            if self._recipe.rank is None:
                for weight, origin in zip(self._weights, self._origin, strict=True):
                    weight.lerp_(origin, 1 - blend)
                return self._learner.eval()
            for name, weight in self._learner.named_parameters():
                # One of an adapter's two factors is scaled, so that their product is.
                if "lora_B" in name:
                    weight.mul_(blend)
        return self._learner.merge_and_unload().eval()

    def _attack(
        self, examples: Sequence[AdversarialExample], clean: Sequence[Tensor], rng: np.random.Generator
    ) -> list[Tensor]:
        """Projected gradient descent on each picture, from a random start; 8-bit pictures within the budget."""
        random = torch.Generator().manual_seed(int(rng.integers(2**62)))
        goals: dict[int, _AttackGoal] = {}
        for place, (example, pixels) in enumerate(zip(examples, clean, strict=True)):
            wrong = rng.random() < self._recipe.untargeted
            aim = self._aims[int(rng.integers(len(self._aims)))]
            # Nobody needs an attack to be refused what should be refused: there only the untargeted one makes sense.
            turns = example.turns if wrong else tuple((text, aim) for text, _ in _answered(example))
            if turns:
                goals[place] = _AttackGoal(AdversarialExample(example.picture, turns), pixels, 1.0 if wrong else -1.0)
        found = dict(zip(goals, self._descend(list(goals.values()), random), strict=True))
        return [self._budget.project_quantized(found.get(place, pixels), pixels) for place, pixels in enumerate(clean)]

    def _descend(self, goals: Sequence[_AttackGoal], random: torch.Generator) -> list[Tensor]:
        """Steps along the sign of the gradient, on all pictures at once."""
        recipe, epsilon = self._recipe, self._budget.epsilon
        clean = [goal.clean for goal in goals]
        here = [
            (each + epsilon * (2 * torch.rand(each.shape, generator=random).to(each) - 1)).clamp(0, 1) for each in clean
        ]
        size = 2.5 * epsilon / recipe.inner_steps
        for number in range(recipe.inner_steps if goals else 0):
            leaves = [each.detach().requires_grad_(True) for each in here]
            # One question a step, in turn: what is found moves them all, for a third of the time.
            asked = [goal.turn(number) for goal in goals]
            with frozen(self._model.model), self._accelerator.autocast():
                losses = self._losses(asked, leaves, [[reply for _, reply in each.turns] for each in asked])
                gradients = torch.autograd.grad(losses.sum(), leaves)
            here = [
                (leaf.detach() + goal.sign * size * gradient.sign()).clamp(each - epsilon, each + epsilon).clamp(0, 1)
                for leaf, gradient, each, goal in zip(leaves, gradients, clean, goals, strict=True)
            ]
        return here

    def _losses(
        self, examples: Sequence[AdversarialExample], pixels: Sequence[Tensor], replies: Sequence[Sequence[str]]
    ) -> Tensor:
        """Cross-entropy of the replies, a mean for each example."""
        rows: list[list[EncodedPrompt]] = []
        images: list[dict[str, Any]] = []
        for example, picture, said in zip(examples, pixels, replies, strict=True):
            prompts = [Prompt.ask(text) for text, _ in example.turns]
            rows.append(self._model.encode(picture.detach(), prompts, said))
            images.append(self._model.differentiable_processor(picture, rows[-1][0].other_pictures, rows[-1][0].text))
        losses: dict[int, Tensor] = {}
        for places in _alike(images):
            group = [row for place in places for row in rows[place]]
            inputs = concatenate_images([images[place] for place in places for _ in rows[place]])
            with activation_checkpointing(self._model.model) if self._model.gradient_checkpointing else nullcontext():
                found = batch_log_probs(self._model.model, group, inputs)
            each = torch.stack([-tokens.mean() for tokens in found])
            parts = each.split([len(rows[place]) for place in places])
            losses.update({place: part.mean() for place, part in zip(places, parts, strict=True)})
        return torch.stack([losses[place] for place in range(len(examples))])


@dataclass(frozen=True)
class _AttackGoal:
    """What the attack inside wants of one picture."""

    example: AdversarialExample
    """The questions with the replies that are aimed at."""
    clean: Tensor
    """The picture's pixels."""
    sign: float
    """-1 makes these replies likelier, 1 less likely."""

    def turn(self, number: int) -> AdversarialExample:
        """One of the questions, in turn."""
        return AdversarialExample(self.example.picture, (self.example.turns[number % len(self.example.turns)],))


@dataclass(frozen=True)
class _CheckpointedWeights:
    """Weights as a checkpoint holds them."""

    weights: list[nn.Parameter]

    def state_dict(self) -> dict[str, Any]:
        return {str(i): weight.detach() for i, weight in enumerate(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for i, weight in enumerate(self.weights):
                weight.copy_(state[str(i)])


def _accelerator(device: torch.device, mixed_precision: str) -> Accelerator:
    """Mixed precision on one device; the model stays where it is.

    Raises:
        UsageError: the device cannot do it, or there are several processes.
    """
    if mixed_precision == "fp16" and device.type == "cpu":
        # accelerate would go on without it.
        raise UsageError("expected a GPU for mixed precision fp16, got cpu; try no or bf16")
    # accelerate keeps one state for the whole process, and refuses another precision or device after the first.
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        made = Accelerator(mixed_precision=mixed_precision, cpu=device.type == "cpu", device_placement=False)
    except ValueError as error:
        raise UsageError(f"expected mixed precision no, bf16 or fp16, got {mixed_precision!r}; try no") from error
    if made.num_processes > 1:
        raise UsageError(f"expected one process, got {made.num_processes}; try without accelerate launch or torchrun")
    return made


def _alike(images: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Places of the image inputs that fit into one batch: tiled pictures differ in their number of tiles."""
    groups: dict[Any, list[int]] = {}
    for place, inputs in enumerate(images):
        form = tuple((key, value.shape[1:]) for key, value in inputs.items() if isinstance(value, Tensor))
        groups.setdefault(form, []).append(place)
    return list(groups.values())


def _sized(example: AdversarialExample, side: int | None) -> Tensor:
    picture = example.picture.convert("RGB")
    return to_pixels(picture if side is None else picture.resize((side, side)))


def _few(
    example: AdversarialExample, recipe: AdversarialTrainingConfig, rng: np.random.Generator
) -> AdversarialExample:
    """The example with at most so many of its questions, by chance."""
    chosen = rng.permutation(len(example.turns))[: recipe.questions]
    return AdversarialExample(example.picture, tuple(example.turns[int(i)] for i in chosen))


def _answered(example: AdversarialExample) -> tuple[tuple[str, str], ...]:
    """The questions that shall be answered."""
    verdicts = PhraseJudge()([Exchange(Prompt.ask(text), reply, "stop", "") for text, reply in example.turns])
    return tuple(turn for turn, verdict in zip(example.turns, verdicts, strict=True) if not verdict.refused)


def _likeliest(model: HuggingFaceModel, draw: Draw, recipe: AdversarialTrainingConfig) -> list[str]:
    """The refusal sentences that the model is likeliest to say about a few examples."""
    total = torch.zeros(len(TARGET_REFUSALS))
    for index in range(4):
        example = draw(np.random.default_rng([recipe.seed, 41, index]))
        total += cross_entropies(_sized(example, recipe.side), [model], [Prompt.ask(example.turns[0][0])])
    return [TARGET_REFUSALS[int(i)] for i in total.topk(AIMS, largest=False).indices]


def _refusing(draw: Draw, recipe: AdversarialTrainingConfig) -> list[Exchange]:
    """Questions of the examples that should be refused, with their pictures.

    Raises:
        UsageError: there are none.
    """
    judge = PhraseJudge()
    found: list[Exchange] = []
    for index in range(20 * KEPT_EXAMPLES):
        example = draw(np.random.default_rng([recipe.seed, 43, index]))
        said = [Exchange(Prompt.ask(text, example.picture), reply, "stop", "") for text, reply in example.turns]
        found += [each for each, verdict in zip(said, judge(said), strict=True) if verdict.refusal == "full"][:1]
        if len(found) >= KEPT_EXAMPLES:
            break
    if not found:
        raise UsageError(
            "expected some examples whose answer is a refusal, got none, so that training would take refusals away; "
            "try adding what the model should refuse"
        )
    return found


def _refused(model: HuggingFaceModel, asked: Sequence[Exchange]) -> int:
    replies = model.generate([each.prompt for each in asked], max_new_tokens=32)
    return sum(verdict.refused is True for verdict in PhraseJudge()(replies))
