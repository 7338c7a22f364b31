"""Adversarial training against refusal perturbations: the model learns its replies on pictures attacked against it.

Madry et al. 2018 (arXiv:1706.06083, equation 2.1) with the loss of MLLM-Refusal inside: a projected gradient descent
on the picture makes the model likelier to refuse (or, for a share of the pictures, merely wrong), the weights then
learn the right replies on what it found. A share of every step is clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from equipoise.attacks.budgets import parse_epsilon, snap
from equipoise.attacks.refusals import REFUSALS
from equipoise.data.pictures import to_pixels
from equipoise.errors import ModelError, UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.scoring import batch_log_probs, joined
from equipoise.models.state import frozen
from equipoise.training.examples import Draw, Example
from equipoise.training.loop import Loop, Progress, warm_cosine
from equipoise.training.parts import choose_learners, require_parts
from equipoise.types import Exchange, Prompt

AIMS = 6
"""Refusal sentences that the inner attack draws from: those of ours that the model is likeliest to say."""
KEPT_EXAMPLES = 40
"""Refusing questions by which it is checked that training has not taken refusals away."""
KEPT_SHARE = 0.9
"""The share of the refusals seen before that must be there afterwards."""


@dataclass(frozen=True)
class Recipe:
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
    """Share of the attacked pictures on which the attack only makes the right reply less likely."""
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
        if not 0 < parse_epsilon(self.epsilon) <= 1:
            raise UsageError(f"expected epsilon above 0 and up to 1, got {self.epsilon}; try 8/255")


def train(
    model: HuggingFaceModel,
    recipe: Recipe,
    draw: Draw,
    out: Path,
    *,
    source: str,
    mixed_precision: str = "no",
    save_dtype: torch.dtype = torch.bfloat16,
    checkpoint_every: int = 100,
    progress: Progress | None = None,
) -> Path:
    """Train a model's own weights and save it; a second call after a kill goes on from the last checkpoint.

    Args:
        model: is changed; load it for this, in float32 unless adapters alone are trained.
        recipe: how.
        draw: makes the examples, some of which must hold refusals.
        out: folder for the checkpoint and, in `model`, the result in `save_pretrained` format.
        source: what `draw` draws from; part of the recipe.
        mixed_precision: `bf16`, `fp16` or `no`; on a CPU without bfloat16 units `no` is the fastest.
        save_dtype: precision of the saved weights.
        checkpoint_every: steps between checkpoints.
        progress: is told of every step.

    Raises:
        UsageError: `out` holds a checkpoint of another recipe, or the examples hold no refusals.
        ModelError: training took refusals away; nothing is written then.
    """
    kept = _refusing(draw, recipe)
    before = _refused(model, kept)
    trainer = _Trainer(model, recipe, draw, mixed_precision)
    known = {**asdict(recipe), "parts": list(recipe.parts), "source": source, "model": model.revision}
    Loop(out, recipe.steps, known, checkpoint_every).run(trainer.step, trainer.state, progress)
    trained = trainer.finished()
    after = _refused(model, kept)
    if after < KEPT_SHARE * before:
        raise ModelError(
            f"expected the model to go on refusing what it should ({before} of {len(kept)} questions before), got "
            f"{after} afterwards, so nothing is written; try more refusals among the examples, or fewer steps"
        )
    folder = out / "model"
    trained.to(save_dtype).save_pretrained(folder)
    model.processor.save_pretrained(folder)
    return folder


class _Trainer:
    """One update after the other."""

    def __init__(self, model: HuggingFaceModel, recipe: Recipe, draw: Draw, mixed_precision: str) -> None:
        self._model, self._recipe, self._draw = model, recipe, draw
        self._epsilon = parse_epsilon(recipe.epsilon)
        self._accelerator = Accelerator(mixed_precision=mixed_precision, cpu=model.device.type == "cpu")
        self._aims = _likeliest(model, draw, recipe)
        learner = choose_learners(model.model, recipe.parts, recipe.rank)
        self._weights = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(self._weights, lr=recipe.learning_rate, weight_decay=0.01)
        self._learner, self._optimiser = self._accelerator.prepare(learner, optimiser)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: the weights that learn, and the optimiser."""
        return {"weights": _Weights(self._weights), "optimiser": self._optimiser}

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

    def finished(self) -> Any:
        """The model without adapters or wrappers."""
        whole = self._accelerator.unwrap_model(self._learner, keep_fp32_wrapper=False)
        return (whole if self._recipe.rank is None else whole.merge_and_unload()).eval()

    def _attack(self, examples: Sequence[Example], clean: Sequence[Tensor], rng: np.random.Generator) -> list[Tensor]:
        """Projected gradient descent on each picture, from a random start; 8-bit pictures within the budget."""
        recipe, epsilon = self._recipe, self._epsilon
        random = torch.Generator().manual_seed(int(rng.integers(2**62)))
        judge = PhraseJudge()
        goals, signs = [], []
        for example in examples:
            verdicts = judge([Exchange(Prompt.ask(text), reply, "stop", "") for text, reply in example.turns])
            wrong = rng.random() < recipe.untargeted or any(verdict.refused for verdict in verdicts)
            aim = self._aims[int(rng.integers(len(self._aims)))]
            goals.append([reply for _, reply in example.turns] if wrong else [aim] * len(example.turns))
            signs.append(1.0 if wrong else -1.0)
        here = [
            (each + epsilon * (2 * torch.rand(each.shape, generator=random).to(each) - 1)).clamp(0, 1) for each in clean
        ]
        size = 2.5 * epsilon / recipe.inner_steps
        for number in range(recipe.inner_steps):
            leaves = [each.detach().requires_grad_(True) for each in here]
            # One question a step, in turn: what is found moves them all, for a third of the time.
            asked = [_turn(example, said, number) for example, said in zip(examples, goals, strict=True)]
            with frozen(self._model.model), self._accelerator.autocast():
                losses = self._losses([one for one, _ in asked], leaves, [said for _, said in asked])
                gradients = torch.autograd.grad(losses.sum(), leaves)
            here = [
                (leaf.detach() + sign * size * gradient.sign()).clamp(each - epsilon, each + epsilon).clamp(0, 1)
                for leaf, gradient, each, sign in zip(leaves, gradients, clean, signs, strict=True)
            ]
        return [snap(each) for each in here]

    def _losses(
        self, examples: Sequence[Example], pixels: Sequence[Tensor], replies: Sequence[Sequence[str]]
    ) -> Tensor:
        """Cross-entropy of the replies, a mean for each example."""
        rows, images, counts = [], [], []
        for example, picture, said in zip(examples, pixels, replies, strict=True):
            prompts = [Prompt.ask(text) for text, _ in example.turns]
            own = self._model.rows(picture.detach(), prompts, said)
            inputs = self._model.pixel_path(picture, own[0].others, own[0].text)
            rows += own
            images += [inputs] * len(own)
            counts.append(len(own))
        found = batch_log_probs(self._model.model, rows, joined(images))
        losses = torch.stack([-tokens.mean() for tokens in found])
        return torch.stack([part.mean() for part in losses.split(counts)])


@dataclass(frozen=True)
class _Weights:
    """Weights as a checkpoint holds them."""

    weights: list[nn.Parameter]

    def state_dict(self) -> dict[str, Any]:
        return {str(i): weight.detach() for i, weight in enumerate(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for i, weight in enumerate(self.weights):
                weight.copy_(state[str(i)])


def _sized(example: Example, side: int | None) -> Tensor:
    picture = example.picture.convert("RGB")
    return to_pixels(picture if side is None else picture.resize((side, side)))


def _few(example: Example, recipe: Recipe, rng: np.random.Generator) -> Example:
    """The example with at most so many of its questions, by chance."""
    chosen = rng.permutation(len(example.turns))[: recipe.questions]
    return Example(example.picture, tuple(example.turns[int(i)] for i in chosen))


def _turn(example: Example, said: Sequence[str], number: int) -> tuple[Example, list[str]]:
    """One of the questions, with the reply that is aimed at."""
    chosen = number % len(example.turns)
    return Example(example.picture, (example.turns[chosen],)), [said[chosen]]


def _likeliest(model: HuggingFaceModel, draw: Draw, recipe: Recipe) -> list[str]:
    """The refusal sentences that the model is likeliest to say about a few examples."""
    total = torch.zeros(len(REFUSALS))
    for index in range(4):
        example = draw(np.random.default_rng([recipe.seed, 41, index]))
        prompt = Prompt.ask(example.turns[0][0])
        with torch.no_grad():
            found = model.log_prob(_sized(example, recipe.side).to(model.device), [prompt] * len(REFUSALS), REFUSALS)
        total += found.mean.float().cpu()
    return [REFUSALS[int(i)] for i in total.topk(AIMS).indices]


def _refusing(draw: Draw, recipe: Recipe) -> list[Exchange]:
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
