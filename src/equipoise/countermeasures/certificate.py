"""Robustness certificates of a smoothed model: no small change of a picture turns its answer into a refusal, or back.

Randomised smoothing (Cohen et al. 2019, arXiv:1902.02918, theorem 1 and the algorithm CERTIFY) for the binary class
{refuse, answer}. If the class is given with probability at least p > 1/2 under Gaussian noise of deviation sigma, then
it stays the class of the vote over all noisy copies within the Euclidean radius `sigma * Phi^-1(p)` of the picture.
That p is large enough is known with a confidence only.

The deployed vote is over a few copies and never abstains, so that it may differ from the class of all copies: at the
edge of the radius each copy may give the other class with a probability of almost 1/2. `predict` abstains instead.

This is a measurement on `voting.RandomizedSmoothing`, not a countermeasure itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.stats import binomtest, norm
from torch import Generator

from equipoise.countermeasures.voting import RandomizedSmoothing
from equipoise.errors import UsageError
from equipoise.stats.thresholds import clopper_pearson_lower
from equipoise.types import Prompt

ResponseClass = Literal["refuse", "answer"]


@dataclass(frozen=True)
class Certificate:
    """The certified class of one prompt around its picture."""

    label: ResponseClass | None
    """The class of the vote over all noisy copies; None where the certificate abstains."""
    radius: float
    """Euclidean length, in pixel units over all values of the picture, within which that class cannot change."""
    lower: float
    """Lower bound of the probability of the class under the noise."""
    copies: int
    """Noisy copies behind the bound."""
    hits: int
    """How many of them gave the class."""
    confidence: float
    """With this probability over the noise drawn, the statement is true."""
    max_new_tokens: int = 64
    """Where the replies of the copies were cut off; the statement is about a vote over replies of this length."""

    def linf(self, values: int) -> float:
        """The largest change of any value that the radius covers, for a picture with so many values."""
        return self.radius / float(values) ** 0.5


def certify(
    model: RandomizedSmoothing,
    prompt: Prompt,
    *,
    copies: int = 1000,
    selection: int = 64,
    confidence: float = 0.999,
    seed: int = 0,
    batch: int = 64,
    max_new_tokens: int = 64,
) -> Certificate:
    """Certify the class of a prompt with one picture.

    The class is guessed from `selection` copies and bounded on `copies` others, so that the guess does not bias the
    bound. Copies whose reply cannot be scored count against the class.

    Args:
        model: the smoothed model.
        prompt: the question, with one picture.
        copies: noisy copies for the bound.
        selection: noisy copies for the guess.
        confidence: of the statement, from 0.5 and below 1.
        seed: of the noise.
        batch: copies in one batch.
        max_new_tokens: of a reply, at most; that of the deployed vote, whose judge reads as much.

    Raises:
        UsageError: settings that make no sense, or a prompt without exactly one picture.
    """
    _check_confidence(confidence)
    if copies < 1 or selection < 1:
        raise UsageError(f"expected at least 1 copy, got {copies} and {selection}; try 1000 and 64")
    fewest = fewest_copies(confidence)
    if copies < fewest:
        raise UsageError(
            f"expected at least {fewest} copies for a confidence of {confidence}, got {copies}: fewer certify nothing, "
            "even if all agree; try 1000"
        )
    if sum(len(message.images) for message in prompt.messages) != 1:
        raise UsageError("expected a prompt with one picture, which is what a radius is about, got none or several")
    random = Generator().manual_seed(seed)
    guess = model.votes(prompt, selection, random, batch=batch, max_new_tokens=max_new_tokens)
    label: ResponseClass = "refuse" if guess.refused else "answer"
    # Fresh copies: choosing the class and bounding its probability on the same ones would favour lucky draws.
    votes = model.votes(prompt, copies, random, batch=batch, max_new_tokens=max_new_tokens)
    # Unscored copies are in `copies` and in no class, so they lower the bound: leaving them out would condition on the
    # judge's success, which the noise decides too.
    hits = votes.refuse if label == "refuse" else votes.answer
    # One-sided and exact. A normal approximation would be too optimistic just where it matters, at hits close to
    # copies.
    lower = clopper_pearson_lower(hits, copies, 1 - confidence)
    # Theorem 1 with two classes: the radius is sigma Phi^-1(p) for a lower bound p of the class's probability. At 1/2
    # or less the vote itself is in doubt, and a radius would be negative.
    if lower <= 0.5:
        return Certificate(None, 0.0, lower, copies, hits, confidence, max_new_tokens)
    return Certificate(label, model.sigma * float(norm.ppf(lower)), lower, copies, hits, confidence, max_new_tokens)


def predict(
    model: RandomizedSmoothing,
    prompt: Prompt,
    *,
    copies: int = 100,
    confidence: float = 0.999,
    seed: int = 0,
    batch: int = 64,
    max_new_tokens: int = 64,
) -> ResponseClass | None:
    """The class of the vote (algorithm PREDICT): None where the copies divide too evenly to tell.

    With probability `confidence` over the noise, what is returned is the true class of the smoothed model, or None.

    Raises:
        UsageError: an impossible confidence.
    """
    _check_confidence(confidence)
    random = Generator().manual_seed(seed)
    votes = model.votes(prompt, copies, random, batch=batch, max_new_tokens=max_new_tokens)
    # PREDICT: a two-sided binomial test of "both classes are equally likely"; not rejected, it abstains.
    most = max(votes.refuse, votes.answer)
    if most == 0 or binomtest(most, votes.refuse + votes.answer, 0.5).pvalue > 1 - confidence:
        return None
    return "refuse" if votes.refused else "answer"


def fewest_copies(confidence: float) -> int:
    """The fewest copies with which a certificate is possible: if all agree, the bound is above 1/2."""
    # With n of n hits the lower bound is (1 - confidence)^(1/n).
    return math.floor(math.log2(1 / (1 - confidence))) + 1


def _check_confidence(confidence: float) -> None:
    # Below 1/2 the opposite of the statement may be as likely, and near 0 the bound rounds to 1: an infinite radius.
    if not 0.5 <= confidence < 1:
        raise UsageError(f"expected a confidence from 0.5 and below 1, got {confidence:g}; try 0.999")
