"""Conditional steering: refusal is added only to rows whose prompt looks harmful inside the model (CAST, 2409.05907).

The condition is a signed linear score of the stream at the last token of the prompt, fitted, calibrated and applied at
the same layer input. The official code scores `|cos|` of row 0 alone, with a threshold tuned on its training rows; here
every row has a gate of its own, the threshold has a stated false-positive rate on prompts of several kinds, and the
gate is decided when the prompt is read and kept while the reply is written.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from equipoise.errors import ModelError, UsageError
from equipoise.models.language_tower import StreamEdit, edited_layer_inputs
from equipoise.models.tensor_file import load_with_document, save_with_document
from equipoise.stats.calibration import roc_auc
from equipoise.stats.thresholds import Threshold, calibrate
from equipoise.steering.direction import FORMAT, Direction, require_coefficient
from equipoise.steering.edits import DeviceCopies, capture
from equipoise.steering.prompt_forward import StageProgress, forward_batches, no_progress, run_prompts
from equipoise.steering.prompt_sets import PromptSet
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt

ConditionMethod = Literal["probe", "difference"]
"""`probe`: logistic regression. `difference`: along the difference of the class means, centred between them."""


@dataclass(frozen=True, eq=False)
class HarmCondition:
    """When to refuse: a linear score of the stream, and its threshold."""

    weight: Tensor
    """`width` float32: the score is `x . weight + bias`, high is harmful."""
    bias: float
    """See `weight`."""
    layer: int
    """Input of this layer, at the last token of the prompt."""
    threshold: float
    """Rows above it are steered."""
    method: ConditionMethod
    """How the weight was fitted."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """The threshold with its bound, and the rate of each kind of prompts."""

    def __post_init__(self) -> None:
        """Check every value: a score that is no number is above no threshold, so that nothing would be steered.

        Raises:
            UsageError: a number that is not finite, or a value of another type.
        """
        weight = self.weight.detach().float().cpu()
        numbers = all(isinstance(value, float | int) and math.isfinite(value) for value in (self.bias, self.threshold))
        if weight.ndim != 1 or not bool(torch.isfinite(weight).all()) or not numbers:
            raise UsageError(
                "expected a condition of finite numbers with a vector as its weight, got a weight of shape "
                f"{tuple(weight.shape)}, bias {self.bias} and threshold {self.threshold}; "
                "try `equipoise direction find` again"
            )
        if not isinstance(self.layer, int) or self.layer < 0 or self.method not in get_args(ConditionMethod):
            raise UsageError(
                "expected a condition at a layer of at least 0 by method probe or difference, got layer "
                f"{self.layer!r} and method {self.method!r}; try `equipoise direction find` again"
            )
        object.__setattr__(self, "weight", weight)

    @property
    def digest(self) -> str:
        """sha256 of weight and bias, shortened: two conditions with the same give the same scores."""
        return hashlib.sha256(self.weight.numpy().tobytes() + repr(float(self.bias)).encode()).hexdigest()[:16]

    def scores(self, values: Tensor) -> Tensor:
        """`N` scores of `N x width` values."""
        return values.float() @ self.weight.to(values.device) + self.bias


@dataclass(frozen=True)
class ConditionalAddition:
    """Adds a direction to the rows that meet a condition."""

    condition: HarmCondition
    """When."""
    direction: Direction
    """What is added, at its own layer, which is not below the condition's."""
    coefficient: float = 1.0
    """Times the direction."""

    def __post_init__(self) -> None:
        """Check the coefficient."""
        require_coefficient(self.coefficient)

    @contextmanager
    def applied(self, steerable: Steerable) -> Iterator[RowGates]:
        """The context in which the model is steered; the gates of the last prompts can be read from it."""
        self.direction.check_model(steerable)
        if self.condition.layer > self.direction.layer:
            raise UsageError(
                f"expected a condition at or below layer {self.direction.layer}, got layer {self.condition.layer}; "
                "try another direction"
            )
        if len(self.condition.weight) != steerable.tower.width:
            raise UsageError(
                f"expected a condition of width {steerable.tower.width}, got {len(self.condition.weight)}; "
                "try `equipoise direction find` on this model"
            )
        gates = RowGates()
        layout = steerable.token_layout()

        def decide(stream: Tensor) -> Tensor:
            if layout.starts_prompt:
                column = layout.positions_from_end(1)[:, 0].to(stream.device)
                rows = stream.reshape(len(column), -1, stream.shape[-1])[
                    torch.arange(len(column), device=stream.device), column
                ]
                # Only where a prompt is read. The gate then holds while the reply is written: the stream of a steered
                # reply looks harmful by itself, and deciding again would turn the gate on or off in the middle of a
                # sentence.
                gates.decide(self.condition.scores(rows), self.condition.threshold)
            return stream

        edit = gated_translation(self.direction.vector * self.coefficient, gates)
        tower = steerable.tower
        # The condition's hook is registered first, so that it sees the stream before the addition at the same layer.
        with (
            steerable.steered(plain_batches=True),
            layout.watch(),
            edited_layer_inputs(tower, {self.condition.layer: decide}),
            edited_layer_inputs(tower, {self.direction.layer: edit}),
        ):
            yield gates

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "intervention": "conditional",
            "coefficient": self.coefficient,
            "direction": self.direction.digest,
            "layer": self.direction.layer,
            "condition": self.condition.digest,
            "condition_layer": self.condition.layer,
            "threshold": self.condition.threshold,
            "method": self.condition.method,
        }

    def save(self, path: str | Path) -> Path:
        """Write `path` (safetensors) and its JSON document.

        Raises:
            OutputError: the files cannot be written.
        """
        condition = {key: value for key, value in vars(self.condition).items() if key != "weight"}
        document = {
            **self.direction.to_dict(),
            "format": FORMAT,
            "condition": condition,
            "coefficient": self.coefficient,
        }
        return save_with_document(path, {"vector": self.direction.vector, "weight": self.condition.weight}, document)

    @classmethod
    def load(cls, path: str | Path) -> ConditionalAddition:
        """Read what `save` wrote.

        Raises:
            UsageError: no such file, damaged, or not a condition.
        """
        tensors, document = load_with_document(path, "a direction", "equipoise direction find")
        if "weight" not in tensors or "condition" not in document:
            raise UsageError(f"expected a condition in {path}, got something else; try `equipoise direction find`")
        try:
            condition = HarmCondition(weight=tensors["weight"], **document["condition"])
            coefficient = float(document["coefficient"])
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"expected the values of a condition in {path}, got an error ({error}); try `equipoise direction find`"
            ) from error
        return cls(condition, Direction.load(path), coefficient)


class RowGates:
    """Which rows of the batch at hand are steered."""

    def __init__(self) -> None:
        self.flags: Tensor | None = None
        """`B` bool."""
        self.scores: Tensor | None = None
        """`B` scores of the condition."""
        self.weights: Tensor | None = None
        """`B` float32: 1 where a row is steered, else 0, with the gradient of the scores where they have one."""

    def decide(self, scores: Tensor, threshold: float) -> None:
        """Set the gates of the prompts that are being read.

        A step has no gradient, so that an attack on the model would not see how to open or shut a gate: the defence
        would look robust because it hides its gradient (Athalye et al. 2018, arXiv:1802.00420). The gate is therefore
        a step forwards and the score itself backwards (straight-through).
        """
        self.scores = scores.detach()
        # A score that is no number compares as false with everything: such a row is steered.
        self.flags = ~(self.scores <= threshold)
        self.weights = self.flags.float() + (scores - self.scores if scores.requires_grad else 0.0)

    def current(self) -> Tensor:
        """The flags.

        Raises:
            ModelError: no prompt was read yet.
        """
        if self.flags is None:
            raise ModelError(
                "expected a prompt before its reply, got a step that continues a cache; "
                "try generating inside the context"
            )
        return self.flags


def gated_translation(vector: Tensor, gates: RowGates) -> StreamEdit:
    """`x + g v`, with the gate g of each row; rows that are not steered stay bit for bit.

    Args:
        vector: v, `width` float32.
        gates: of the rows of the batch at hand.
    """
    copies = DeviceCopies(vector)

    def edit(stream: Tensor) -> Tensor:
        rows = len(gates.current())
        weights = gates.weights
        assert weights is not None
        # Some families flatten rows before a layer.
        lines = stream.reshape(rows, -1, stream.shape[-1])
        moved = lines.float() + weights.to(stream.device)[:, None, None] * copies.on(stream.device)
        return moved.to(stream.dtype).reshape(stream.shape)

    return edit


def fit_condition(
    steerable: Steerable,
    direction: Direction,
    harmful: PromptSet,
    harmless: PromptSet,
    calibration: Sequence[PromptSet],
    *,
    false_positives: float = 0.025,
    method: ConditionMethod = "probe",
    seed: int = 0,
    progress: StageProgress = no_progress,
) -> ConditionalAddition:
    """A condition that separates two sets of prompts, at the layer that does it best on the half kept back.

    Args:
        steerable: the model.
        direction: what will be added; the condition stands at or below its layer.
        harmful: half to fit on, half to choose the layer on.
        harmless: likewise; the threshold is set on the second half and on `calibration`. On prompts that the score was
            fitted on it is too low, as there are more dimensions than prompts, and the bound would not hold.
        calibration: further harmless prompts of other kinds (ordinary ones, maths, pictures), none of `harmless`.
        false_positives: share of these that may be steered.
        method: how the score is fitted.
        seed: of the split.
        progress: told how far it is.
    """
    layers = range(direction.layer + 1)
    parts = [part.prompts for source in (harmful, harmless) for part in source.split((0.5, 0.5), seed)]
    streams = []
    for number, part in enumerate([*parts, *(source.prompts for source in calibration)]):
        streams.append(last_token_streams(steerable, part, layers))
        progress("activations for the condition", number + 1, len(parts) + len(calibration))
    bad, bad_kept, good, good_kept = streams[:4]
    best: tuple[float, HarmCondition] | None = None
    for layer in layers:
        if layer not in bad or layer not in good:
            continue
        weight, bias = _fit(bad[layer], good[layer], method)
        condition = HarmCondition(weight, bias, layer, 0.0, method)
        area = roc_auc(condition.scores(bad_kept[layer]).tolist(), condition.scores(good_kept[layer]).tolist())
        # At equal areas the later layer: the direction is then clearer, and the margin larger.
        if best is None or area >= best[0]:
            best = (area, condition)
    if best is None:
        raise ModelError("expected layers that run for every prompt, got none; try prompts with pictures")
    area, condition = best
    clean = {harmless.name: condition.scores(good_kept[condition.layer]).tolist()} | {
        source.name: condition.scores(values[condition.layer]).tolist()
        for source, values in zip(calibration, streams[4:], strict=True)
    }
    pooled = [score for scores in clean.values() for score in scores]
    threshold: Threshold = calibrate(pooled, false_positives)
    rates = {name: sum(score > threshold.value for score in scores) / len(scores) for name, scores in clean.items()}
    caught = (condition.scores(bad_kept[condition.layer]) > threshold.value).float().mean()
    details = {"threshold": threshold.to_dict(), "rates": rates, "auroc": area, "harmful_steered": float(caught)}
    condition = replace(condition, threshold=threshold.value, calibration=details)
    return ConditionalAddition(condition, direction)


def last_token_streams(
    steerable: Steerable, prompts: Sequence[Prompt], layers: Sequence[int] | range
) -> dict[int, Tensor]:
    """Layer to `N x width` float32: the stream at the last token of each prompt, in order."""
    values: dict[int, dict[int, Tensor]] = {layer: {} for layer in layers}
    for indices, inputs in forward_batches(steerable, prompts):
        with capture(steerable, last=1, layers=list(layers)) as captured:
            run_prompts(steerable, inputs)
        for layer in captured.values:
            values[layer].update(zip(indices, captured.layer(layer)[:, 0], strict=True))
    return {
        layer: torch.stack([rows[i] for i in range(len(prompts))])
        for layer, rows in values.items()
        if len(rows) == len(prompts)
    }


def _fit(bad: Tensor, good: Tensor, method: ConditionMethod) -> tuple[Tensor, float]:
    if method == "difference":
        weight = bad.mean(0) - good.mean(0)
        # At the first layer the last token of all prompts is the same: a score of zero, which separates nothing.
        weight = weight / weight.norm().clamp_min(1e-12)
        return weight, -float(weight @ (bad.mean(0) + good.mean(0)) / 2)
    from sklearn.linear_model import LogisticRegression

    rows = torch.cat([bad, good]).double()
    centre, spread = rows.mean(0), rows.std(0).clamp_min(1e-6)
    labels = [1] * len(bad) + [0] * len(good)
    # Strong regularisation: there are more dimensions than prompts.
    model = LogisticRegression(C=0.01, max_iter=1000).fit(((rows - centre) / spread).numpy(), labels)
    # Back to the stream's own units: w . (x - c) / s + b = (w / s) . x + (b - (w / s) . c).
    weight = torch.from_numpy(model.coef_[0]) / spread
    return weight.float(), float(model.intercept_[0] - weight @ centre)
