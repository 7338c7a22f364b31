"""The loss of DeRTa: refusals and answers are learned, openers wanted in one answer and unwanted in the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from equipoise.models.state import prompt_lengths
from equipoise.training.causal_lm import IGNORED, logits_at
from equipoise.training.derta.collator import FORMS, DertaBatch
from equipoise.training.derta.labels import UNWANTED, WANTED
from equipoise.training.processes import shared_mean
from equipoise.training.supervised_training import LossParts

_SURE = 1e-6
"""Least probability of anything but an opener that the logarithm sees, so that its gradient stays finite."""


@dataclass(frozen=True)
class DertaLoss:
    """The weighted sum of four means over the tokens of a step.

        mean over the tokens of refusals of                         -log P(token)
        + mean over the tokens of harmless answers of               -log P(token)
        + rto_weight      * mean over harmful answers' tokens of    -log sum_{v in R} P(v)
        + negative_weight * mean over harmless answers' tokens of   -log (1 - sum_{v in R} P(v))

    Each has a mean of its own: in the official code all tokens share one, so that long answers outweigh everything
    else. Refusals are short: in one mean with the answers they are learned last, and until a model can go on after an
    opener, wanting openers everywhere makes it repeat one ("No No No"). Where the harmless answer's own next token is
    an opener, it is not counted.
    """

    openers: tuple[int, ...]
    """Token ids of `R`."""
    rto_weight: float = 1.0
    """Of the second mean."""
    negative_weight: float = 1.0
    """Of the third mean."""

    def __call__(self, model: Any, batches: Mapping[str, DertaBatch]) -> LossParts:
        """`loss`, and its parts: `mle_safe` (refusals), `mle_help` (answers), `rto` and `negative`.

        A part of which the step has no token is 0.

        Args:
            model: any model of transformers that writes text, or adapters around one.
            batches: as `DertaCollator` makes them.
        """
        losses = [self.token_losses(model, batch) for batch in batches.values()]
        safe, helpful, wanted, unwanted = (torch.cat(parts) for parts in zip(*losses, strict=True))
        rto, negative = shared_mean(wanted), shared_mean(unwanted)
        refusals, answers = shared_mean(safe), shared_mean(helpful)
        return {
            "loss": refusals + answers + self.rto_weight * rto + self.negative_weight * negative,
            "mle_safe": refusals,
            "mle_help": answers,
            "rto": rto,
            "negative": negative,
        }

    def token_losses(self, model: Any, batch: DertaBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The loss of every token that counts: of refusals, of answers, of wanted and of unwanted openers."""
        # What is predicted at position t stands at t + 1.
        labels = pad(batch.labels[:, 1:], (0, 1), value=IGNORED)
        openers = pad(batch.openers[:, 1:], (0, 1), value=0)
        following = pad(batch.inputs["input_ids"][:, 1:], (0, 1), value=0)
        known = torch.tensor(self.openers, device=labels.device)
        openers = torch.where((openers == UNWANTED) & torch.isin(following, known), 0, openers)
        # Without a weight the positions would cost logits and change nothing.
        wanted = (openers == WANTED) if self.rto_weight else torch.zeros_like(openers, dtype=torch.bool)
        unwanted = (openers == UNWANTED) if self.negative_weight else torch.zeros_like(openers, dtype=torch.bool)
        learned = labels != IGNORED
        chosen = learned | wanted | unwanted
        with prompt_lengths(batch.prompt_lengths.tolist()):
            # `N x V`, N chosen positions of all rows. Everything below is indexed by the same positions, in the same
            # order.
            logits = logits_at(model, batch.inputs, chosen)
        forms = batch.forms[:, None].expand_as(labels)[chosen]
        targets, is_learned = labels[chosen], learned[chosen]
        answers = forms == FORMS.index("answer")
        token_loss = cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
        opener = opener_log_prob(logits, self.openers)
        # -log(1 - p) from log p: `1 - exp(log p)` loses all digits where p is near 0, which is where nearly every token
        # of a harmless answer is. `expm1` keeps them.
        unwanted_loss = -torch.log((-torch.expm1(opener)).clamp_min(_SURE))
        return (
            token_loss[is_learned & ~answers],
            token_loss[is_learned & answers],
            -opener[wanted[chosen]],
            unwanted_loss[unwanted[chosen]],
        )


def opener_log_prob(logits: Tensor, openers: Sequence[int]) -> Tensor:
    """`log sum_{v in R} P(v)` of each row of `N x V` logits."""
    return logits[:, list(openers)].logsumexp(-1) - logits.logsumexp(-1)
