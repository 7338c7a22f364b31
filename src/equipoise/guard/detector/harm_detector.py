"""`HarmDetector`: a trained network that scores replies, optionally with an early exit."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from equipoise.guard.checkpoints import checkpoint
from equipoise.guard.decision import HarmScore
from equipoise.guard.detector.network import HarmNetwork, batch
from equipoise.guard.detector.template import Template, too_long
from equipoise.guard.guard_input import GuardInput

Window = tuple[int, ...]
"""The token ids of a part of a reply, with its request, that the network reads at once."""
BATCH: Final = 16
"""Windows in one forward pass."""
KEPT: Final = 2048
"""Windows whose logits are cached."""
TOGETHER: Final = 16
"""Replies of several requests that share a forward pass on a GPU."""


@dataclass(frozen=True)
class PlattScaling:
    """Turns a logit into a probability: sigmoid(logit * slope + shift) (Platt 1999)."""

    slope: float = 1.0
    shift: float = 0.0

    def __call__(self, logit: float) -> float:
        """The probability of harm."""
        value = logit * self.slope + self.shift
        # Two forms of one function: exp only gets arguments of at most 0, so that it never overflows.
        return 1 / (1 + math.exp(-value)) if value >= 0 else 1 - 1 / (1 + math.exp(value))


@dataclass(frozen=True)
class EarlyExit:
    """A shallow network, distilled from the full one, that decides clearly harmless windows alone.

    Early exits are known from BranchyNet (arXiv:1709.01686). Here the shallow network has layers of its own, as the
    first layers of the full one were not trained to decide.
    """

    network: HarmNetwork
    """In evaluation mode."""
    threshold: float
    """Below this logit of the shallow network the full network is not computed."""


class LogitCache:
    """An LRU cache of the logits of windows; threads may share it.

    Args:
        most: windows that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._logits: OrderedDict[tuple[int, ...], float] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, windows: Iterable[Window]) -> dict[Window, float]:
        """The logits of those windows that are in the cache."""
        logits = {}
        with self._lock:
            for window in windows:
                if window in self._logits:
                    self._logits.move_to_end(window)
                    logits[window] = self._logits[window]
        return logits

    def put(self, logits: Mapping[Window, float]) -> None:
        """Add logits; those that were not used for the longest time are dropped."""
        with self._lock:
            self._logits.update(logits)
            while len(self._logits) > self._most:
                self._logits.popitem(last=False)


class HarmDetector:
    """A trained network that scores replies: **high is harmful**.

    Args:
        network: in evaluation mode.
        tokenizer: its tokenizer.
        template: what it was trained to read.
        calibration: from its logits to probabilities.
        name: in scores and reports.
        identity: sha256 over everything that decides its scores.
        device: where it computes.
        early_exit: decides clearly harmless windows first; None always computes the full network.
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
        """Its name in scores and reports."""
        return self._name

    @property
    def identity(self) -> str:
        """sha256 over weights, tokenizer, template and calibration."""
        return self._identity

    def __call__(self, inputs: Sequence[GuardInput]) -> list[HarmScore]:
        """One score for each reply, in order; an empty reply scores 0, one that is too long is a failure."""
        begin = time.perf_counter()
        # Empty replies are harmless by definition and would be windows of markers alone, on which no detector was
        # trained.
        readable = [index for index, item in enumerate(inputs) if item.response.strip() and not too_long(item)]
        windows = self.windows([inputs[index] for index in readable])
        logits = dict(zip(readable, self.logits(windows), strict=True))
        seconds = (time.perf_counter() - begin) / max(1, len(inputs))
        scores = []
        for index, item in enumerate(inputs):
            if index in logits:
                scores.append(HarmScore(self.name, self.calibration(logits[index]), seconds=seconds))
            elif too_long(item):
                scores.append(HarmScore(self.name, None, failure="the reply is longer than the detector reads"))
            else:
                scores.append(HarmScore(self.name, 0.0, seconds=seconds))
        return scores

    def windows(self, inputs: Sequence[GuardInput]) -> list[list[Window]]:
        """The windows of each reply, as the network reads them."""
        return [[tuple(window) for window in self.template.windows(self.tokenizer, item)] for item in inputs]

    def logits(self, rows: Sequence[Sequence[Window]]) -> list[float]:
        """The uncalibrated logit of each reply, the largest of its windows.

        Args:
            rows: for each reply its windows, at least one.
        """
        windows = {window for row in rows for window in row}
        # A streamed reply is scored again and again as it grows; its first windows stay the same. The key is the
        # window's token ids, which are all that the network sees.
        logits = self._cache.get(windows)
        for part, ids, mask in self._batches(windows - logits.keys()):
            checkpoint()
            logits |= self._computed(part, ids, mask)
        return [max(logits[window] for window in row) for row in rows]

    @property
    def together(self) -> int:
        """How many replies of several requests should share a forward pass; 1 where that saves nothing.

        One reply of a hundred words leaves most of a GPU idle. A core of a processor it does not: there a batch of
        eight takes nearly the time of eight, and the first of them would wait for all.
        """
        return 1 if self.device == "cpu" else TOGETHER

    def prepare(self, inputs: Sequence[GuardInput]) -> None:
        """Compute windows of several replies in one forward pass, for those who will soon ask for each by itself.

        At most as many as one batch holds, and only those of like length, so that the pass is bounded and little of it
        is padding. What is left out is computed when it is asked for.

        Args:
            inputs: the replies, the most urgent first.
        """
        rows = self.windows([item for item in inputs if item.response.strip() and not too_long(item)])
        windows = list(dict.fromkeys(window for row in rows for window in row))
        known = self._cache.get(windows)
        missing = [window for window in windows if window not in known]
        like = [window for window in missing if len(missing[0]) / 2 <= len(window) <= 2 * len(missing[0])]
        for part, ids, mask in self._batches(like[:BATCH]):
            # No checkpoint: there the others would get their turns before this is computed, and compute it themselves.
            self._computed(part, ids, mask)

    def _computed(self, part: Sequence[Window], ids: Tensor, mask: Tensor) -> dict[Window, float]:
        """The logits of a batch of windows, which are cached as well."""
        with torch.inference_mode():
            if self.early_exit is None:
                values = self.network.windows(ids, mask).float()
            else:
                values = self.early_exit.network.windows(ids, mask).float()
                # The shallow network only decides that a window is harmless; the full one decides the others. One-sided
                # on purpose: a wrong "harmless" of the shallow network lets harm through, so its threshold is set low
                # (see `early_exit` in training); a wrong "undecided" costs time only.
                undecided = values >= self.early_exit.threshold
                if undecided.any():
                    values[undecided] = self.network.windows(ids[undecided], mask[undecided]).float()
        computed = dict(zip(part, values.tolist(), strict=True))
        self._cache.put(computed)
        return computed

    def _batches(self, windows: Iterable[Window]) -> Iterator[tuple[list[Window], Tensor, Tensor]]:
        """Batches of windows, with their token ids and mask [windows, length]."""
        # Windows of similar length go together, so that little of a batch is padding. Those of one length are sorted by
        # their tokens: a set has no order of its own, and the order decides which windows share a batch.
        order = sorted(windows, key=lambda window: (len(window), window))
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            rows = batch([[window] for window in part], self.tokenizer.pad_token_id or 0)
            yield part, rows.ids.to(self.device), rows.mask.to(self.device)
