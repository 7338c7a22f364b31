"""The attack inside adversarial training: projected gradient descent on the pictures of one step, all at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from equipoise.attacks.budgets import Budget
from equipoise.attacks.refusal_targets import TARGET_REFUSALS, cross_entropies
from equipoise.judges.phrases import PhraseJudge
from equipoise.media.quantize import to_pixels
from equipoise.models.encoded_prompt import EncodedPrompt
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.reply_log_probs import batch_log_probs, concatenate_images, same_shape
from equipoise.models.state import frozen, recomputed_activations
from equipoise.training.adversarial_examples import AdversarialExample, SampleExample
from equipoise.types import Exchange, Prompt, Verdict

TARGETS = 6
"""Refusal sentences that the attack chooses from: those of ours that the model is likeliest to say."""


@dataclass(frozen=True)
class InnerAttack:
    """A refusal attack on the pictures of a training step."""

    model: HuggingFaceModel
    """The model that is trained, with its weights of the moment."""
    budget: Budget
    """Largest change of a pixel."""
    steps: int
    """Gradient steps, from a random start."""
    untargeted: float
    """Share of the pictures on which the attack only makes the right replies less likely."""
    targets: Sequence[str]
    """Refusal sentences that the other attacks make likelier."""
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Context of the forward pass, for mixed precision."""

    def __call__(
        self,
        examples: Sequence[AdversarialExample],
        clean: Sequence[Tensor],
        rng: np.random.Generator,
        chosen: Collection[int] | None = None,
    ) -> list[Tensor]:
        """Perturbed pictures, 8-bit and within the budget.

        Args:
            examples: with the questions that share a picture's perturbation.
            clean: their pictures, `3 x H x W` in [0, 1] of any size.
            rng: the only source of randomness.
            chosen: indices of the pictures that are attacked; the others stay clean, but draw their numbers all the
                same, so that several processes make the pictures of one. None is all.
        """
        random = torch.Generator().manual_seed(int(rng.integers(2**62)))
        goals: dict[int, _AttackGoal] = {}
        for index, (example, pixels) in enumerate(zip(examples, clean, strict=True)):
            untargeted = rng.random() < self.untargeted
            target = self.targets[int(rng.integers(len(self.targets)))]
            # A question that should be refused needs no attack to be refused: it is attacked untargeted or not at all.
            turns = example.turns if untargeted else tuple((text, target) for text, _ in answered(example))
            if turns:
                sign = 1.0 if untargeted else -1.0
                goals[index] = _AttackGoal(AdversarialExample(example.picture, turns), pixels, sign)
        starts = self._random_starts(list(goals.values()), random)
        own = {index: start for index, start in zip(goals, starts, strict=True) if chosen is None or index in chosen}
        descended = self._descend([goals[index] for index in own], list(own.values()))
        perturbed = dict(zip(own, descended, strict=True))
        return [
            self.budget.project_quantized(perturbed.get(index, pixels), pixels) for index, pixels in enumerate(clean)
        ]

    def _random_starts(self, goals: Sequence[_AttackGoal], random: torch.Generator) -> list[Tensor]:
        """A random point within the budget of each picture."""
        epsilon = self.budget.epsilon
        return [
            (goal.clean + epsilon * (2 * torch.rand(goal.clean.shape, generator=random).to(goal.clean) - 1)).clamp(0, 1)
            for goal in goals
        ]

    def _descend(self, goals: Sequence[_AttackGoal], candidates: list[Tensor]) -> list[Tensor]:
        """Steps along the sign of the gradient, on all pictures at once."""
        epsilon = self.budget.epsilon
        clean = [goal.clean for goal in goals]
        # Madry et al.: 2.5 epsilon over all steps lets the attack cross the budget from any start.
        size = 2.5 * epsilon / self.steps
        for number in range(self.steps if goals else 0):
            leaves = [pixels.detach().requires_grad_(True) for pixels in candidates]
            # One question a step, in turn: the perturbation works for all of them, for a third of the time.
            examples = [goal.turn(number) for goal in goals]
            replies = [[reply for _, reply in example.turns] for example in examples]
            # Frozen: the attack needs gradients for the pixels alone, and must leave none on the weights that learn.
            with frozen(self.model.model), self.autocast():
                losses = reply_losses(self.model, examples, leaves, replies)
                # Pictures do not meet in the forward pass, so that the gradient of the sum holds the gradient of each
                # loss.
                gradients = torch.autograd.grad(losses.sum(), leaves)
            candidates = [
                # In floats; `__call__` rounds once at the end. Rounded after each step, a step below half a level would
                # be lost.
                (leaf.detach() + goal.sign * size * gradient.sign())
                .clamp(pixels - epsilon, pixels + epsilon)
                .clamp(0, 1)
                for leaf, gradient, pixels, goal in zip(leaves, gradients, clean, goals, strict=True)
            ]
        return candidates


@dataclass(frozen=True)
class _AttackGoal:
    """What the attack does to one picture."""

    example: AdversarialExample
    """The questions with the replies whose likelihood changes."""
    clean: Tensor
    """The picture's pixels."""
    sign: float
    """-1 makes these replies likelier, 1 less likely."""

    def turn(self, number: int) -> AdversarialExample:
        """One of the questions, in turn."""
        return AdversarialExample(self.example.picture, (self.example.turns[number % len(self.example.turns)],))


def reply_losses(
    model: HuggingFaceModel,
    examples: Sequence[AdversarialExample],
    pixels: Sequence[Tensor],
    replies: Sequence[Sequence[str]],
) -> Tensor:
    """Cross-entropy of the replies, differentiable in pixels and weights.

    Args:
        model: whose `gradient_checkpointing` holds here, too.
        examples: questions.
        pixels: the pictures, `3 x H x W` in [0, 1] of any size.
        replies: one for each question of an example.

    Returns:
        For each example the mean over its questions of the mean over the reply's tokens, in nats [examples].
    """
    rows: list[list[EncodedPrompt]] = []
    images: list[dict[str, Any]] = []
    for example, picture, own_replies in zip(examples, pixels, replies, strict=True):
        prompts = [Prompt.ask(text) for text, _ in example.turns]
        rows.append(model.encode(picture.detach(), prompts, own_replies))
        # The picture is processed once for all questions about it, so that they share its gradient.
        images.append(model.differentiable_processor(picture, rows[-1][0].other_pictures, rows[-1][0].text))
    # Pictures of one shape share a forward pass; the losses go back to their examples by index.
    losses: dict[int, Tensor] = {}
    for indices in same_shape(images):
        group = [row for index in indices for row in rows[index]]
        inputs = concatenate_images([images[index] for index in indices for _ in rows[index]])
        with recomputed_activations(model.model, learning=True) if model.gradient_checkpointing else nullcontext():
            log_probs = batch_log_probs(model.model, group, inputs)
        row_losses = torch.stack([-tokens.mean() for tokens in log_probs])
        parts = row_losses.split([len(rows[index]) for index in indices])
        losses.update({index: part.mean() for index, part in zip(indices, parts, strict=True)})
    return torch.stack([losses[index] for index in range(len(examples))])


def sized_pixels(picture: Image.Image, side: int | None) -> Tensor:
    """Pixels `3 x H x W` in [0, 1], resized to a square of `side` unless that is None."""
    picture = picture.convert("RGB")
    return to_pixels(picture if side is None else picture.resize((side, side)))


def answered(example: AdversarialExample) -> tuple[tuple[str, str], ...]:
    """The turns whose reply is no refusal."""
    return _turns(example, lambda verdict: not verdict.refused)


def refused_turns(example: AdversarialExample) -> tuple[tuple[str, str], ...]:
    """The turns whose reply is a full refusal."""
    return _turns(example, lambda verdict: verdict.refusal == "full")


def _turns(example: AdversarialExample, wanted: Callable[[Verdict], bool]) -> tuple[tuple[str, str], ...]:
    verdicts = PhraseJudge()([Exchange(Prompt.ask(text), reply, "stop", "") for text, reply in example.turns])
    return tuple(turn for turn, verdict in zip(example.turns, verdicts, strict=True) if wanted(verdict))


def most_likely_refusals(
    model: HuggingFaceModel, sample_example: SampleExample, seed: int, side: int | None
) -> list[str]:
    """The `TARGETS` refusal sentences that the model is likeliest to say about a few examples."""
    total = torch.zeros(len(TARGET_REFUSALS))
    for index in range(4):
        example = sample_example(np.random.default_rng([seed, 41, index]))
        total += cross_entropies(sized_pixels(example.picture, side), [model], [Prompt.ask(example.turns[0][0])])
    return [TARGET_REFUSALS[int(i)] for i in total.topk(TARGETS, largest=False).indices]
