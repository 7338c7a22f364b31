"""The self-test of steering: on the model itself, do the edits do what they are defined as?

Users of steering code complain most of hooks that are present but not applied, of off-by-one layers and of edits that
reach the wrong row. All of these still give fluent text, so nothing but a measurement finds them. Differences are
relative to the effect of the edit: an edit without effect cannot pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.errors import first_line
from equipoise.models.language_tower import StreamEdit, edited_layer_inputs, projected_stream
from equipoise.models.stream_trace import stream_input
from equipoise.steering.edits import ablate, add, capture, projection

if TYPE_CHECKING:
    from equipoise.steering.steerable import Steerable

TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.2}
"""Largest allowed difference relative to the effect, by number format: the rest is rounding."""
ROUNDING_SHARE = 4.0
"""In half precision a difference may be so many times the rounding that is measured on the model itself."""
HALF_PRECISION_LIMIT = 0.5
"""And never more than this share of the effect: a missing hook is as large as the effect."""
FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class SelfTest:
    """What the self-test measured."""

    ablation_difference: float
    """Ablation at the read sites against the projected stream: distance of the logits over the effect of ablation."""
    leak: float
    """How far the logits move under ablation when the direction is added at every layer, over how far they move
    without ablation: 0 where no reader sees the direction."""
    residue: float
    """Largest share, over the read sites, of the direction that is still there under ablation."""
    cosine: float
    """Mean cosine of what the read sites see with and without ablation: 1 means that no hook moved anything."""
    addition_difference: float
    """Input of a layer after addition against the sum, relative to what was added."""
    row_difference: float
    """How far rows and earlier layers moved that should not, relative to what was added."""
    capture_difference: float
    """Captured values against those that a hook of the test itself saw, relative."""
    rounding: float = 0.0
    """Ablation applied twice against once, over the effect of ablation: the same by definition, so that the difference
    is rounding alone."""
    reason: str | None = None
    """Why steering is refused; None where the test passed."""

    @property
    def passed(self) -> bool:
        """Whether the model may be steered."""
        return self.reason is None


def run_self_test(steerable: Steerable, inputs: Mapping[str, Any]) -> SelfTest:
    """Test ablation, addition, rows and capture on one small batch.

    Args:
        steerable: the model, its tower known; in eval mode.
        inputs: keyword arguments of a forward pass over at least two rows.
    """
    try:
        return _with_reason(_measure(steerable, inputs), next(steerable.model.parameters()).dtype)
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        worst = float("inf")
        reason = f"{type(error).__name__} in the self-test ({first_line(error, 120)})"
        return SelfTest(worst, worst, worst, worst, worst, worst, worst, worst, reason)


def _measure(steerable: Steerable, inputs: Mapping[str, Any]) -> SelfTest:
    tower = steerable.tower
    depth = len(tower.layers)
    middle = depth // 2
    streams = _layer_inputs(steerable, inputs, nullcontext())
    plain = _logits(steerable, inputs, nullcontext())
    # A direction that the stream is full of, so that its ablation has an effect far above rounding.
    vector = streams[middle][:, -1].float().mean(0)
    vector = vector / vector.norm().clamp_min(1e-12) + 0.1 * _noise(tower.width, 1).to(vector.device)
    unit = vector / vector.norm()
    # The median: the first token of many models is a thousand times longer than the others.
    length = streams[middle].float().norm(dim=-1).median()

    # Three ways to remove one direction. By hooks on the readers (what is used), by hooks twice (equal by definition,
    # so the difference is rounding), and by projecting the stream after every write (the definition, followed operation
    # by operation). The first and the last must agree.
    ablated = _logits(steerable, inputs, ablate(steerable, unit))
    with ablate(steerable, unit):
        twice = _logits(steerable, inputs, ablate(steerable, unit))
    projected = _logits(steerable, inputs, projected_stream(tower, projection(unit)))
    residue, cosine = _site_changes(steerable, inputs, unit)
    # Not along the stream: a model without its strongest direction is so far from its usual state that rounding shows.
    other = _noise(tower.width, 3).to(unit.device)
    held = _logits(steerable, inputs, ablate(steerable, other))
    # Half the stream's own length at each layer: more would drown the rest of it in rounding.
    lengths = {layer: 0.5 * float(stream.float().norm(dim=-1).median()) for layer, stream in streams.items()}
    leak = _leak(steerable, inputs, other, lengths, (plain, held))

    shift = length * _noise(tower.width, 2).to(unit.device)
    rows = [index == 1 for index in range(len(plain))]
    # Added to row 1 at the middle layer alone. Row 0 and all layers below must not move at all: that finds hooks at the
    # wrong layer and flags that reach the wrong row.
    moved = _layer_inputs(steerable, inputs, add(steerable, shift, layers=[middle], rows=rows))
    expected = streams[middle][1].float() + shift
    size = float(shift.norm()) * expected.shape[0] ** 0.5
    others = [(moved[middle][:1] - streams[middle][:1], "row")]
    others += [(moved[layer] - streams[layer], "layer") for layer in streams if layer < middle]
    with capture(steerable, last=1, layers=[middle]) as captured:
        _logits(steerable, inputs, nullcontext())
    last = _last_column(steerable, inputs, streams[middle])
    return SelfTest(
        ablation_difference=_ratio(ablated - projected, plain - projected),
        leak=leak,
        residue=residue,
        cosine=cosine,
        addition_difference=float((moved[middle][1].float() - expected).norm()) / size,
        row_difference=max(float(difference.float().norm()) / size for difference, _ in others),
        capture_difference=_ratio(captured.layer(middle)[:, 0].to(last) - last, last),
        rounding=_ratio(twice - ablated, plain - projected),
    )


def _with_reason(test: SelfTest, dtype: torch.dtype) -> SelfTest:
    from dataclasses import replace

    tolerance = TOLERANCES.get(dtype, 0.2)
    if dtype in (torch.float16, torch.bfloat16):
        # Some models round more than others: one whose logits hang on small differences of large activations.
        tolerance = max(tolerance, min(ROUNDING_SHARE * test.rounding, HALF_PRECISION_LIMIT))
    limits: tuple[tuple[str, float, float], ...] = (
        (
            "ablation that differs from the projected stream by {:.2g} of its effect",
            test.ablation_difference,
            tolerance,
        ),
        ("a module that still reads the ablated direction (leak {:.2g})", test.leak, tolerance),
        ("a read site with {:.2g} of the ablated direction", test.residue, tolerance),
        ("hooks that moved nothing (mean cosine {:.6f})", test.cosine, 0.9999),
        ("addition that is off by {:.2g} of what was added", test.addition_difference, tolerance / 4),
        ("addition that reached another row or layer ({:.2g})", test.row_difference, tolerance / 100),
        ("captured values that are off by {:.2g}", test.capture_difference, 1e-5),
    )
    # Written so that what is not a number fails.
    broken = [text.format(value) for text, value, limit in limits if not value <= limit]
    return replace(test, reason="; ".join(broken) or None)


def _leak(
    steerable: Steerable,
    inputs: Mapping[str, Any],
    unit: Tensor,
    lengths: Mapping[int, float],
    logits: tuple[Tensor, Tensor],
) -> float:
    """Movement of the logits under a shift along the direction everywhere: ablated over plain.

    Args:
        steerable: the model.
        inputs: of the forward pass.
        unit: `width`, the direction.
        lengths: of the shift at the input of each layer that runs.
        logits: without the shift, plain and under ablation.
    """

    @contextmanager
    def shifted() -> Iterator[None]:
        def move(length: float) -> StreamEdit:
            return lambda stream: stream + length * unit.to(stream)

        embeddings = steerable.model.get_input_embeddings()  # type: ignore[operator]
        handle = embeddings.register_forward_hook(lambda _module, _inputs, output: move(lengths[0])(output))
        # There and back from layer to layer, so that the shifts do not add up.
        moves = {layer: move((-1) ** layer * length) for layer, length in lengths.items() if layer > 0}
        try:
            # Before the ablation's own hooks, as whatever writes to the stream comes before who reads it.
            with edited_layer_inputs(steerable.tower, moves):
                yield
        finally:
            handle.remove()

    plain, ablated = logits
    free = _logits(steerable, inputs, shifted())
    with shifted():
        held = _logits(steerable, inputs, ablate(steerable, unit))
    return _ratio(held - ablated, free - plain)


def _site_changes(steerable: Steerable, inputs: Mapping[str, Any], unit: Tensor) -> tuple[float, float]:
    """Largest share of the direction left at a read site under ablation, and the mean cosine before and after."""
    before = _site_inputs(steerable, inputs, nullcontext())
    after = _site_inputs(steerable, inputs, ablate(steerable, unit))
    residues, cosines = [], []
    for name, value in before.items():
        plain, edited = value.float(), after[name].float()
        residues.append(_ratio(edited @ unit.to(edited.device), plain @ unit.to(plain.device)))
        cosines.append(float(functional.cosine_similarity(plain, edited, dim=-1).mean()))
    return max(residues), sum(cosines) / len(cosines)


def _site_inputs(
    steerable: Steerable, inputs: Mapping[str, Any], context: AbstractContextManager[Any]
) -> dict[str, Tensor]:
    """What every read site sees."""
    site_values: dict[str, Tensor] = {}

    def watch(name: str, keys: tuple[int | str, ...]) -> Callable[..., None]:
        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            key = keys[0]
            site_values[name] = (args[key] if isinstance(key, int) else kwargs[key]).detach()

        return hook

    with context:
        # Registered after the edit's hooks, so that the edited value is what is watched.
        handles = [
            site.module.register_forward_pre_hook(watch(site.name, site.arguments), with_kwargs=True)
            for site in steerable.tower.read_sites
        ]
        try:
            steerable.model(**inputs)
        finally:
            for handle in handles:
                handle.remove()
    return site_values


def _layer_inputs(
    steerable: Steerable, inputs: Mapping[str, Any], context: AbstractContextManager[Any]
) -> dict[int, Tensor]:
    """The stream at the input of every layer that runs, by hooks of the test itself."""
    streams: dict[int, Tensor] = {}

    def watch(layer: int) -> Callable[..., None]:
        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            streams[layer] = stream_input(args, kwargs).detach()

        return hook

    with context:
        handles = [
            layer.register_forward_pre_hook(watch(index), with_kwargs=True)
            for index, layer in enumerate(steerable.tower.layers)
        ]
        try:
            steerable.model(**inputs)
        finally:
            for handle in handles:
                handle.remove()
    return streams


def _logits(steerable: Steerable, inputs: Mapping[str, Any], context: AbstractContextManager[Any]) -> Tensor:
    with context:
        logits: Tensor = steerable.model(**inputs).logits
    return logits.detach().float()


def _last_column(steerable: Steerable, inputs: Mapping[str, Any], stream: Tensor) -> Tensor:
    """`B x width` at the last token that is no padding."""
    mask = inputs.get("attention_mask")
    if mask is None:
        return stream[:, -1].float()
    length = stream.shape[1]
    last = length - 1 - mask[:, -length:].flip(1).int().argmax(1)
    return stream[torch.arange(len(stream), device=stream.device), last.to(stream.device)].float()


def _noise(width: int, seed: int) -> Tensor:
    """A unit vector."""
    vector = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    return vector / vector.norm()


def _ratio(difference: Tensor, effect: Tensor) -> float:
    return float(difference.float().norm() / effect.float().norm().clamp_min(1e-30))
