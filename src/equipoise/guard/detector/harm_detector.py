"""`HarmDetector`: a trained network asked about replies, with a glance before it where it has one."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from equipoise.guard.bounded_executor import checkpoint
from equipoise.guard.decision import HarmScore
from equipoise.guard.detector.template import Template, too_long
from equipoise.guard.guard_input import GuardInput

if TYPE_CHECKING:
    from torch import Tensor

    from equipoise.guard.detector.network import HarmNetwork

BATCH: Final = 16
"""Windows in one forward pass."""
KEPT: Final = 2048
"""Windows whose logits are remembered."""


@dataclass(frozen=True)
class PlattScaling:
    """Turns a logit into a probability: sigmoid(logit * slope + shift) (Platt 1999)."""

    slope: float = 1.0
    shift: float = 0.0

    def __call__(self, logit: float) -> float:
        """The probability of harm."""
        value = logit * self.slope + self.shift
        return 1 / (1 + math.exp(-value)) if value >= 0 else 1 - 1 / (1 + math.exp(value))


@dataclass(frozen=True)
class EarlyExit:
    """A shallow network, distilled from the whole one, that has the last word where it is sure of no harm.

    Leaving a network early where that is safe is known from BranchyNet (arXiv:1709.01686); here the shallow one has
    layers of its own, since the first layers of the whole one are not made to decide.
    """

    network: HarmNetwork
    """In evaluation mode."""
    threshold: float
    """Below this logit of the glance the whole network is not asked."""


class LogitCache:
    """The logits of the windows that were used last; one may be shared by threads.

    Args:
        most: windows that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._logits: OrderedDict[tuple[int, ...], float] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, windows: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], float]:
        """The logits of those windows that are known."""
        found = {}
        with self._lock:
            for window in windows:
                if window in self._logits:
                    self._logits.move_to_end(window)
                    found[window] = self._logits[window]
        return found

    def put(self, logits: Mapping[tuple[int, ...], float]) -> None:
        """Remember logits, in place of those that were not used for the longest."""
        with self._lock:
            self._logits.update(logits)
            while len(self._logits) > self._most:
                self._logits.popitem(last=False)


class HarmDetector:
    """A trained network asked about replies: **high is harmful**.

    Args:
        network: in evaluation mode.
        tokenizer: its tokenizer.
        template: what it was trained to read.
        calibration: from its logits to probabilities.
        name: what people call it.
        identity: sha256 over everything that decides its scores.
        device: where it computes.
        glance: looks first, where there is one.
    """

    def __init__(
        self,
        network: HarmNetwork,
        tokenizer: Any,
        template: Template,
        calibration: PlattScaling,
        *,
        name: str,
        identity: str,
        device: str = "cpu",
        early_exit: EarlyExit | None = None,
    ) -> None:
        self.network = network.to(device).eval()
        self.early_exit = early_exit
        if early_exit is not None:
            early_exit.network.to(device).eval()
        self.tokenizer = tokenizer
        self.template = template
        self.calibration = calibration
        self.device = device
        self._name, self._identity = name, identity
        self._cache = LogitCache(KEPT)

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    @property
    def identity(self) -> str:
        """sha256 over weights, tokenizer, template and calibration."""
        return self._identity

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        """One score for each reply, in order; a reply without words does no harm, one too long to read is a failure."""
        begin = time.perf_counter()
        readable = [place for place, each in enumerate(evidence) if each.response.strip() and not too_long(each)]
        logits = dict(zip(readable, self.logits([evidence[place] for place in readable]), strict=True))
        seconds = (time.perf_counter() - begin) / max(1, len(evidence))
        scores = []
        for place, each in enumerate(evidence):
            if place in logits:
                scores.append(HarmScore(self.name, self.calibration(logits[place]), seconds=seconds))
            elif too_long(each):
                scores.append(HarmScore(self.name, None, failure="the reply is longer than the detector reads"))
            else:
                scores.append(HarmScore(self.name, 0.0, seconds=seconds))
        return scores

    def logits(self, evidence: Sequence[GuardInput]) -> list[float]:
        """The uncalibrated logit of each reply, the largest of its windows."""
        rows = [[tuple(window) for window in self.template.windows(self.tokenizer, each)] for each in evidence]
        asked = {window for row in rows for window in row}
        # A reply that is judged again as it grows shares its first windows with itself.
        known = self._cache.get(asked)
        new = sorted(asked - known.keys())
        found = dict(zip(new, self.logits_of(new), strict=True))
        self._cache.put(found)
        known |= found
        return [max(known[window] for window in row) for row in rows]

    def logits_of(self, windows: Sequence[Sequence[int]]) -> list[float]:
        """The uncalibrated logit of each window of token ids."""
        import torch

        from equipoise.guard.detector.network import batch

        found = [0.0] * len(windows)
        # Of similar length together, so that little is padding.
        order = sorted(range(len(windows)), key=lambda at: len(windows[at]))
        for start in range(0, len(order), BATCH):
            checkpoint()
            part = order[start : start + BATCH]
            made = batch([[windows[at]] for at in part], self.tokenizer.pad_token_id or 0)
            with torch.inference_mode():
                values = self._computed(made.ids.to(self.device), made.mask.to(self.device))
            for at, value in zip(part, values.tolist(), strict=True):
                found[at] = value
        return found

    def _computed(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.early_exit is None:
            return self.network.windows(ids, mask).float()
        logits = self.early_exit.network.windows(ids, mask).float()
        unsure = logits >= self.early_exit.threshold
        if unsure.any():
            logits[unsure] = self.network.windows(ids[unsure], mask[unsure]).float()
        return logits
