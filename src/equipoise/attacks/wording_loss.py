"""The loss of a set of wordings: minus the log of the sum of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.attacks.wordings import RefusalWording
from equipoise.models.base import OpenModel
from equipoise.types import Prompt


def any_wording_loss(
    model: OpenModel, pixels: Tensor, prompts: Sequence[Prompt], wordings: Sequence[RefusalWording], *, end: bool = True
) -> tuple[float, Tensor]:
    """How unlikely it is that replies are any of some wordings, and the gradient.

    For one question with wordings of log-probabilities `l_i` and `n_i` tokens the loss is `-log sum exp(l_i)`, divided
    by the mean of `n_i` under the weights `w = softmax(l)`, so that it is in nats per token as that of a single reply.
    The gradient is that of the numerator: `-sum w_i grad l_i` over the same mean.

    Args:
        model: a model without randomness.
        pixels: `3 x H x W`.
        prompts: the questions.
        wordings: the set.
        end: whether replies should end after a wording that ends.

    Returns:
        The mean over the questions, and its `3 x H x W` gradient on the device of the pixels.
    """
    leaf = pixels.detach().to(model.device).requires_grad_(True)
    scores, lengths = [], []
    with torch.enable_grad():
        for ends in (True, False):
            texts = [wording.text for wording in wordings if (wording.ends and end) is ends]
            if texts:
                # Prompt by prompt, each with every text, so that `view` below makes one line of scores for each prompt.
                rows = [prompt for prompt in prompts for _ in texts]
                log_probs = model.log_prob(leaf, rows, texts * len(prompts), end=ends)
                scores.append(log_probs.total.view(len(prompts), -1))
                lengths.append(log_probs.mask.sum(1).view(len(prompts), -1))
        together = torch.cat(scores, 1)
        # Detached: the mean length only scales the loss. A gradient through it would lower the loss by moving weight to
        # longer wordings, whatever their probabilities.
        weights = together.detach().softmax(1)
        losses = -together.logsumexp(1) / (weights * torch.cat(lengths, 1)).sum(1)
        (gradient,) = torch.autograd.grad(losses.mean(), leaf)
    return float(losses.detach().mean()), gradient.to(pixels)
