"""Success checks: whether an attack is done, by decoding the replies of its targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from PIL import Image
from torch import Generator, Tensor

from equipoise.attacks.aimed_wordings import Aims
from equipoise.attacks.certain_refusals import certain_refusals
from equipoise.attacks.wordings import OwnRefusals
from equipoise.errors import UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.media.quantize import to_image
from equipoise.models.base import OpenModel
from equipoise.transforms.base import Identity, Transform
from equipoise.types import Exchange, Judge, Prompt, Verdict

OPENING: Final = 24
"""Tokens of a reply that a check during the attack decodes: enough to see a refusal begin."""
CHUNK: Final = 8
"""Questions that a check asks in one batch; it stops as soon as the target is out of reach."""
WHOLE_CHUNK: Final = 32
"""Questions of a batch where all are asked anyway."""
LONG: Final = 20
"""Characters from which the beginning of a reply is compared with a refusal of the model's own."""
FIRST_CHUNK: Final = 3
"""Questions of the first batch: most checks of a young attack end with it."""
BRIEF: Final = 8
"""Questions of a brief check."""
BriefCheck = Callable[[Tensor, float], tuple[float, bool]]
"""Takes pixels and a target rate, returns the lowest rate of a few questions and whether all may reach the target."""


class RefusalRateCheck:
    """A success check: the refusal rate of the model that refuses least, by greedy decoding.

    During the attack a randomised defence counts with the draw under which the fewest questions are refused, so that
    passing a check means passing all draws. Where candidates are compared, it counts with the mean over draws: their
    lowest is mostly 0 for pictures that resist, and says nothing about which of them is best.

    A call during the attack is cheap: the questions are asked in chunks, a small one first, and once the target rate is
    out of reach the rest is left out; the rate is that of the questions until then. Where one forward pass shows that
    the reply must be what the attack aims at, it is not decoded (`certain_refusals`). `in_full` asks everything, so
    that candidates can be compared. Unscored replies count as not refused.

    Args:
        models: every target.
        prompts: the questions; their first picture is replaced.
        target_rate: the rate to reach.
        judges: decide for each target what a refusal is.
        max_new_tokens: where replies are cut off.
        transforms: what the picture must survive: the lowest rate over it and one draw of each transform counts, the
            same draw in every check.
        draws: draws of a randomised defence, the same in every check. They are the attacker's own: the deployed draws
            are not known to anybody.
        aims: what each target is aimed at; without it every reply is decoded.

    Raises:
        UsageError: no draws, which every picture would pass.
    """

    def __init__(
        self,
        models: Sequence[OpenModel],
        prompts: Sequence[Prompt],
        *,
        target_rate: float = 1.0,
        judges: Sequence[Judge],
        max_new_tokens: int = OPENING,
        transforms: Sequence[Transform] = (),
        draws: int = 1,
        aims: Aims | None = None,
    ) -> None:
        if draws < 1:
            raise UsageError(f"expected at least 1 draw, got {draws}; try 4")
        self.prompts = tuple(prompts)
        self.refused: list[list[Exchange]] = [[] for _ in models]
        """Replies of the last check that refuse, for each target."""
        self.unrefused: list[list[Prompt]] = [[] for _ in models]
        """Questions of the last check that were not refused."""
        self._judges = tuple(judges)
        self._aims = aims
        self._max_new_tokens = max_new_tokens
        self._target_rate = target_rate
        self._transforms = (Identity(), *transforms)
        self._targets = [_draws_of(model, draws) for model in models]

    def __call__(self, pixels: Tensor) -> float:
        """The lowest rate of a `3 x H x W` picture, in `[0, 1]`, of as many questions as it takes to see it missed."""
        return self.with_target(pixels, self._target_rate)

    def with_target(self, pixels: Tensor, target_rate: float) -> float:
        """The same for another target rate."""
        return self._lowest(pixels, target_rate)[0]

    @property
    def brief(self) -> BriefCheck | None:
        """A check of the first `BRIEF` questions; None where there are no more."""
        return partial(self._lowest, count=BRIEF) if len(self.prompts) > BRIEF else None

    def in_full(self, pixels: Tensor) -> float:
        """The lowest rate over targets and transforms, the mean over draws, of all questions."""
        return self._lowest(pixels, None)[0]

    def _lowest(self, pixels: Tensor, target_rate: float | None, count: int | None = None) -> tuple[float, bool]:
        prompts = self.prompts[:count]
        self.refused = [[] for _ in self.refused]
        self.unrefused = [[] for _ in self.unrefused]
        lowest, whole = 1.0, target_rate is None
        # In floats 10 * (1 - 0.9) is a little below 1: without the slack, one allowed miss in ten would be one too
        # many. A brief check allows as many as one of all questions: those that no step wins may be its first.
        most_misses = math.inf if target_rate is None else len(self.prompts) * (1 - target_rate) + 1e-9
        # The plain picture comes first (`Identity`), as it fails most often early in an attack: the transforms are then
        # not even computed.
        for transform in self._transforms:
            # Through 8 bits, like the file that will be written. The same seed in every check: with fresh draws two
            # candidates would be compared under different noise, and the luckier one would be kept.
            image = to_image(transform(pixels, Generator().manual_seed(0)))
            for number, drawn_models in enumerate(self._targets):
                rates = []
                for model in drawn_models:
                    refused, replied = self._count(number, model, image, prompts, most_misses, whole=whole)
                    rates.append(refused / replied)
                    if replied - refused > most_misses:
                        return rates[-1], False
                lowest = min(lowest, math.fsum(rates) / len(rates) if whole else min(rates))
        return lowest, True

    def _count(
        self,
        number: int,
        model: OpenModel,
        image: Image.Image,
        prompts: Sequence[Prompt],
        most_misses: float,
        *,
        whole: bool,
    ) -> tuple[int, int]:
        refused = replied = 0
        while replied < len(prompts):
            # A small first chunk: early in an attack nothing is refused, and a few questions are enough to see that. In
            # full, and where one pass may show all, large chunks cost fewer passes.
            several = WHOLE_CHUNK if whole or self._aims is not None else CHUNK
            questions = prompts[replied : replied + (several if replied or whole else FIRST_CHUNK)]
            certain = self._certain(number, model, image, questions)
            unsure = [prompt for prompt, exchange in zip(questions, certain, strict=True) if exchange is None]
            refused += len(questions) - len(unsure)
            replied += len(questions) - len(unsure)
            self.refused[number] += [exchange for exchange in certain if exchange is not None]
            size = WHOLE_CHUNK if whole else CHUNK
            for start in range(0, len(unsure), size):
                part = unsure[start : start + size]
                refused += self._decoded(number, model, image, part)
                replied += len(part)
                if replied - refused > most_misses:
                    return refused, replied
        return refused, replied

    def _certain(
        self, number: int, model: OpenModel, image: Image.Image, prompts: Sequence[Prompt]
    ) -> list[Exchange | None]:
        """The replies that need not be decoded, if the judge calls them refusals."""
        if self._aims is None:
            return [None] * len(prompts)
        exchanges = certain_refusals(model, image, prompts, self._aims[number].wordings)
        verdicts = iter(self._judges[number]([exchange for exchange in exchanges if exchange is not None]))
        return [exchange if exchange is not None and next(verdicts).refused else None for exchange in exchanges]

    def _decoded(self, number: int, model: OpenModel, image: Image.Image, prompts: Sequence[Prompt]) -> int:
        """How many of some prompts are refused, by decoding the replies."""
        pictured = [prompt.with_picture(image) for prompt in prompts]
        exchanges = model.generate(pictured, max_new_tokens=self._max_new_tokens)
        refused = 0
        for prompt, exchange, verdict in zip(prompts, exchanges, self._judges[number](exchanges), strict=True):
            # `is True`: an unscored reply (None) must count as not refused, or a model whose replies nobody can judge
            # would look attacked.
            refused += verdict.refused is True
            if verdict.refused:
                self.refused[number].append(exchange)
            else:
                self.unrefused[number].append(prompt)
        return refused


class AimingCheck:
    """A check after which the attack aims at what the targets say when they refuse.

    Args:
        check: the check.
        aims: the aims of the same targets, in the same order.
        target_rate: at which nothing is changed any more.
    """

    def __init__(self, check: RefusalRateCheck, aims: Aims, target_rate: float = 1.0) -> None:
        self._check = check
        self._aims = aims
        self._target_rate = target_rate

    def __call__(self, pixels: Tensor) -> float:
        """The rate of the check; below the target, the aims are reconsidered."""
        return self.with_target(pixels, self._target_rate)

    def with_target(self, pixels: Tensor, target_rate: float) -> float:
        """The same for another target rate."""
        rate = self._check.with_target(pixels, target_rate)
        if rate < target_rate:
            self._reconsider(pixels)
        return rate

    @property
    def brief(self) -> BriefCheck | None:
        """The brief check, if there is one; where it puts the target out of reach, the aims are reconsidered."""
        few = self._check.brief
        if few is None:
            return None

        def check(pixels: Tensor, target_rate: float) -> tuple[float, bool]:
            rate, is_in_reach = few(pixels, target_rate)
            if not is_in_reach:
                self._reconsider(pixels)
            return rate, is_in_reach

        return check

    def in_full(self, pixels: Tensor) -> float:
        """The rate of all questions; the aims stay."""
        return self._check.in_full(pixels)

    def _reconsider(self, pixels: Tensor) -> None:
        for number, unrefused in enumerate(self._check.unrefused):
            # Only for targets that still answer: changing the aim of one that refuses already would undo what works.
            if unrefused:
                self._aims.reconsider(number, pixels, self._check.refused[number], unrefused)


class MeanRateCheck:
    """The check of a universal change: the mean over pictures of each picture's rate.

    Args:
        checks: one for each picture.
    """

    def __init__(self, checks: Sequence[RefusalRateCheck | AimingCheck]) -> None:
        self._checks = tuple(checks)

    def with_target(self, pictures: Sequence[Tensor], target_rate: float) -> float:
        """The mean rate of perturbed pictures; exact where it reaches the target, else of the questions asked."""
        rates = [check.with_target(pixels, target_rate) for check, pixels in self._pairs(pictures)]
        mean = sum(rates) / len(rates)
        # A picture below the target has not been asked all questions, and the mean may be above it all the same.
        return self.in_full(pictures) if mean >= target_rate and min(rates) < target_rate else mean

    def in_full(self, pictures: Sequence[Tensor]) -> float:
        """The mean rate over all questions about all pictures."""
        return sum(check.in_full(pixels) for check, pixels in self._pairs(pictures)) / len(self._checks)

    def _pairs(self, pictures: Sequence[Tensor]) -> Iterator[tuple[RefusalRateCheck | AimingCheck, Tensor]]:
        return zip(self._checks, pictures, strict=True)


class OwnWordsJudge:
    """A judge that also knows what one model's refusals are word for word, where a structural judge cannot.

    Args:
        judge: decides first.
        own: of the model.
    """

    def __init__(self, judge: Judge, own: OwnRefusals | None) -> None:
        self._judge = judge
        self._echoes = frozenset() if own is None else frozenset(own.echoes)

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """The judge's verdicts, except for replies that are a known refusal of the model."""
        return [
            Verdict("full", reasons=("own words",)) if self._is_echo(exchange) else verdict
            for exchange, verdict in zip(exchanges, self._judge(exchanges), strict=True)
        ]

    def _is_echo(self, exchange: Exchange) -> bool:
        reply = exchange.reply.strip()
        # Checks cut replies off earlier than elicitation does, and measurements later: longer texts are compared as far
        # as both go.
        cut = exchange.finish == "length" and len(reply) >= LONG
        return reply in self._echoes or any(
            (cut and echo.startswith(reply)) or (len(echo) >= LONG and reply.startswith(echo)) for echo in self._echoes
        )


def refusal_rate_check(
    models: Sequence[OpenModel],
    prompts: Sequence[Prompt],
    *,
    target_rate: float = 1.0,
    judge: Judge | None = None,
    max_new_tokens: int = OPENING,
    transforms: Sequence[Transform] = (),
    draws: int = 1,
) -> RefusalRateCheck:
    """A `RefusalRateCheck` with one judge for all targets; None means `PhraseJudge()`."""
    judges = [judge or PhraseJudge()] * len(models)
    return RefusalRateCheck(
        models,
        prompts,
        target_rate=target_rate,
        judges=judges,
        max_new_tokens=max_new_tokens,
        transforms=transforms,
        draws=draws,
    )


def _draws_of(model: OpenModel, draws: int) -> list[OpenModel]:
    """A randomised model with its randomness drawn several times; any other model once, as it is."""
    random = Generator().manual_seed(0)
    return [model.sample_randomness(random) for _ in range(draws)] if model.is_random else [model]
