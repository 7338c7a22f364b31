"""Aims: what each target of an attack shall say, and their change where a check shows the target refusing otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import torch

from equipoise.attacks.refusal_targets import TARGET_REFUSALS
from equipoise.attacks.wordings import OwnRefusals, RefusalWording

if TYPE_CHECKING:
    from torch import Tensor

    from equipoise.models.base import OpenModel
    from equipoise.types import Exchange, Prompt

AimKind = Literal["sentence", "set", "openings"]
"""`sentence`: the likeliest whole sentence. `set`: any of the likeliest ones, by the sum of their probabilities.
`openings`: any of the openings, whatever follows."""
AIM_KINDS: Final[tuple[AimKind, ...]] = ("sentence", "set", "openings")
IN_SET: Final = 3
"""Wordings of a set."""
QUESTIONS: Final = 3
"""Questions on which wordings are compared: a few forward passes, with all wordings in one batch for each."""
GAIN: Final = 0.8
"""An aim is changed where the new one costs less than this share of what the old one costs."""
POOL: Final = 8
"""Wordings that are compared at most."""


@dataclass(frozen=True)
class Aim:
    """What one target shall say: any of these wordings."""

    wordings: tuple[RefusalWording, ...]
    """The likeliest first; a loss over several takes the sum of their probabilities."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The wordings alone."""
        return tuple(wording.text for wording in self.wordings)


class Aims:
    """The aims of all targets of one attack; **they change** while it runs.

    Args:
        models: the targets.
        own: how each of them refuses; None where it was not asked, or refused nothing.
        kind: what is aimed at.
    """

    def __init__(
        self, models: Sequence[OpenModel], own: Sequence[OwnRefusals | None], kind: AimKind = "sentence"
    ) -> None:
        self.models = tuple(models)
        self.kind = kind
        self.changes: list[tuple[int, str]] = []
        """Number of a target and the wording that it was aimed at from then on."""
        self.version = 0
        """Raised by every change: losses of different versions cannot be compared."""
        self.pools = [_pool(refusals, kind) for refusals in own]
        """The wordings that each target can be aimed at."""
        self._current = [Aim(pool[:1]) for pool in self.pools]

    def __getitem__(self, target: int) -> Aim:
        """The aim of a target, by its number."""
        return self._current[target]

    def choose(self, pixels: Tensor, prompts: Sequence[Prompt]) -> None:
        """Aim at the likeliest wordings under a picture.

        Args:
            pixels: `3 x H x W`.
            prompts: some of the shadow questions; all wordings are one batch for each.
        """
        for number, model in enumerate(self.models):
            costs = wording_costs(model, pixels, prompts, self.pools[number])
            self._current[number] = self._likeliest(number, costs)

    def reconsider(
        self, number: int, pixels: Tensor, exchanges: Sequence[Exchange], unrefused: Sequence[Prompt]
    ) -> bool:
        """Change the aim of a target that refuses in other words than it is aimed at; whether it was changed.

        Args:
            number: of the target.
            pixels: the picture of the check.
            exchanges: replies of the check that refuse.
            unrefused: questions that were answered: what the aim must still be reached on.
        """
        wordings = (RefusalWording.of_reply(exchange) for exchange in exchanges)
        heard = Counter(wording for wording in wordings if wording is not None)
        if heard and all(wording.text in self._current[number].texts for wording in heard):
            # The target refuses in the words that it is aimed at: what is missing is not another aim.
            return False
        pool = self.pools[number]
        known = {wording.text for wording in pool}
        new = [wording for wording, _ in heard.most_common(POOL // 2) if wording.text not in known]
        # New words go first, so that the pool's limit drops what nothing speaks for.
        self.pools[number] = pool = tuple(dict.fromkeys((*new, *self._current[number].wordings, *pool)))[:POOL]
        if len(pool) < 2:
            return False
        before = self._current[number]
        costs = wording_costs(self.models[number], pixels, unrefused[:QUESTIONS], pool)
        now = self._likeliest(number, costs)
        cost_of = dict(zip(pool, costs.tolist(), strict=True))
        # By a margin, not at any gain: two wordings of nearly equal cost would be swapped at every check, and each swap
        # makes the losses before and after incomparable.
        lower = cost_of[now.wordings[0]] < GAIN * min(cost_of[wording] for wording in before.wordings)
        if set(now.wordings) == set(before.wordings) or not lower:
            return False
        self._current[number] = now
        self.changes.append((number, now.texts[0]))
        self.version += 1
        return True

    def describe(self) -> dict[str, Any]:
        """As JSON: the last aim of each target, and every change."""
        return {
            "aims": {model.name: list(aim.texts) for model, aim in zip(self.models, self._current, strict=True)},
            "aim_kind": self.kind,
            "aim_changes": [{"target": self.models[number].name, "aim": text} for number, text in self.changes],
        }

    def _likeliest(self, number: int, costs: Tensor) -> Aim:
        count = 1 if self.kind == "sentence" else IN_SET
        order = costs.argsort(stable=True)[:count].tolist()
        return Aim(tuple(self.pools[number][i] for i in order))


def _pool(own: OwnRefusals | None, kind: AimKind) -> tuple[RefusalWording, ...]:
    """What a target can be aimed at: its own wordings where it has any, else ours."""
    learned = () if own is None else own.openings if kind == "openings" and own.openings else own.sentences
    ours = tuple(RefusalWording(text) for text in TARGET_REFUSALS)
    if kind == "openings":
        # A whole sentence without its end: what a model adds to it is its own affair.
        learned, ours = (tuple(replace(w, ends=False) for w in group) for group in (learned, ours))
    return learned[:POOL] or ours


def wording_costs(
    model: OpenModel, pixels: Tensor, prompts: Sequence[Prompt], wordings: Sequence[RefusalWording]
) -> Tensor:
    """The cross-entropy per token of each wording, mean over prompts; the lowest is the likeliest.

    Per token and not in all: what an attack must change are the few tokens at which a reply turns to a refusal, and a
    long sentence is not harder to reach than a short one.
    """
    # One draw for all wordings: under a randomised defence they are otherwise compared on different pictures.
    drawn = model.sample_randomness(torch.Generator().manual_seed(0))
    costs = torch.zeros(len(wordings))
    with torch.no_grad():
        for prompt in prompts:
            for ends in {wording.ends for wording in wordings}:
                indices = [i for i, wording in enumerate(wordings) if wording.ends is ends]
                texts = [wordings[i].text for i in indices]
                log_probs = drawn.log_prob(pixels.to(model.device), [prompt] * len(texts), texts, end=ends)
                costs[indices] -= log_probs.mean.float().cpu() / len(prompts)
    return costs
