"""`add`, `ablate` and `capture`: context managers that edit or read the residual stream of a model.

Everything is a hook in memory: weights are never changed, hooks are removed also after exceptions, and the model cannot
be saved while any is in place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equipoise.errors import ModelError, UsageError
from equipoise.models.language_tower import StreamEdit, edited_layer_inputs, edited_reads
from equipoise.steering.token_positions import PositionKind, Positions, Span, TokenLayout

if TYPE_CHECKING:
    from equipoise.steering.steerable import Steerable

AnyPositions = Positions | PositionKind | Sequence[Span]
RowChoice = Sequence[bool] | Tensor | Callable[[], Tensor] | None
"""Which rows of a batch: one flag a row, or what returns the flags when they are needed; None is all rows."""


class DeviceCopies:
    """One tensor in float32 on every device that asks: layers of a model may lie on several.

    Args:
        value: any tensor; no gradient flows back to it.
    """

    def __init__(self, value: Tensor) -> None:
        self._value = value.detach().float()
        self._copies: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> Tensor:
        """The tensor on a device."""
        if device not in self._copies:
            self._copies[device] = self._value.to(device)
        return self._copies[device]


def orthonormal(vectors: Tensor) -> Tensor:
    """An orthonormal basis, `K x width`, of the space that the rows of `vectors` (`K x width` or `width`) span.

    Raises:
        UsageError: the rows are dependent, or one is zero.
    """
    rows = vectors.detach().double().reshape(-1, vectors.shape[-1])
    basis, triangle = torch.linalg.qr(rows.T)
    # The diagonal of R holds the length of each row's part that the rows before it do not span: 0 where it depends on
    # them. Float64, as two nearly parallel directions leave little more than rounding error in float32.
    diagonal = triangle.diagonal().abs()
    if not bool((diagonal > 1e-9 * rows.norm(dim=1).max()).all()) or not bool(torch.isfinite(rows).all()):
        raise UsageError("expected independent directions that are not zero, got others; try one direction")
    return basis.T.float()


def projection(vectors: Tensor, coefficient: float = 1.0) -> StreamEdit:
    """`x - c R^T R x` for an orthonormal basis R of `vectors`; the dot product is in float32."""
    basis = DeviceCopies(orthonormal(vectors))

    def edit(stream: Tensor) -> Tensor:
        rows = basis.on(stream.device)
        wide = stream.float()
        # Two thin products; the `width x width` matrix `R^T R` is never built.
        return (wide - coefficient * (wide @ rows.T) @ rows).to(stream.dtype)

    return edit


def translation(vector: Tensor, coefficient: float = 1.0) -> StreamEdit:
    """`x + c r`."""
    shift = DeviceCopies(vector * coefficient)

    def edit(stream: Tensor) -> Tensor:
        return (stream.float() + shift.on(stream.device)).to(stream.dtype)

    return edit


def masked(edit: StreamEdit, layout: TokenLayout, positions: Positions, rows: RowChoice) -> StreamEdit:
    """The edit at the chosen tokens of the chosen rows; elsewhere the stream stays bit for bit."""

    def edit_chosen(stream: Tensor) -> Tensor:
        mask = layout.mask(positions)
        if rows is not None:
            # Called at every edit: a gate may be decided by the same forward pass, in a lower layer.
            flags = torch.as_tensor(rows() if callable(rows) else rows, device=stream.device).bool()
            lines = stream.shape[0]
            if mask is None and stream.ndim == 3:
                mask = torch.ones(stream.shape[:2], dtype=torch.bool, device=stream.device)
            if mask is None or len(flags) != len(mask):
                raise UsageError(
                    f"expected a flag for each of {lines if mask is None else len(mask)} rows, got {len(flags)}; "
                    "try the rows of one batch"
                )
            mask = mask.to(stream.device) & flags[:, None]
        if mask is None:
            return edit(stream)
        if mask.numel() != stream[..., 0].numel():
            raise ModelError(
                f"expected a stream of {mask.numel()} tokens, got {stream[..., 0].numel()}; try positions='all'"
            )
        # Some families flatten rows before a norm.
        return torch.where(mask.to(stream.device).reshape(*stream.shape[:-1], 1), edit(stream), stream)

    return edit_chosen


@contextmanager
def ablate(
    steerable: Steerable,
    vectors: Tensor,
    *,
    coefficient: float = 1.0,
    positions: AnyPositions = "all",
    rows: RowChoice = None,
    first_layer: int = -1,
) -> Iterator[None]:
    """Directional ablation: every reader of the stream sees `x - c R^T R x`.

    Args:
        steerable: the model.
        vectors: `width` or `K x width`; their lengths do not matter.
        coefficient: 1 removes the directions, less removes a part.
        positions: which tokens.
        rows: which rows of the batch; None is all.
        first_layer: reads in earlier layers stay as they are; -1 edits all.
    """
    _check_width(steerable, vectors)
    chosen = Positions.of(positions)
    layout = steerable.token_layout()
    edit = masked(projection(vectors, coefficient), layout, chosen, rows)
    # A shared prefix packs all questions into one row: no row is a prompt there, so a choice of rows or of a prompt's
    # last token has no meaning, and the plain batch is used. Edits of all tokens work with both.
    plain = chosen.depends_on_rows or rows is not None
    with (
        steerable.steered(plain_batches=plain),
        layout.watch(),
        edited_reads(steerable.tower, edit, first_layer=first_layer),
    ):
        yield


@contextmanager
def add(
    steerable: Steerable,
    vector: Tensor,
    *,
    layers: Collection[int],
    coefficient: float = 1.0,
    positions: AnyPositions = "all",
    rows: RowChoice = None,
) -> Iterator[None]:
    """Activation addition: the input of the given layers is `x + c r`.

    Args:
        steerable: the model.
        vector: `width`; its length matters.
        layers: indices of layers, whose inputs are moved; what is added stays in the stream.
        coefficient: multiplies the vector.
        positions: which tokens.
        rows: which rows of the batch; None is all.
    """
    _check_width(steerable, vector)
    _check_layers(steerable, layers)
    chosen = Positions.of(positions)
    layout = steerable.token_layout()
    edit = masked(translation(vector, coefficient), layout, chosen, rows)
    plain = chosen.depends_on_rows or rows is not None
    with (
        steerable.steered(plain_batches=plain),
        layout.watch(),
        edited_layer_inputs(steerable.tower, dict.fromkeys(layers, edit)),
    ):
        yield


CaptureSink = Callable[[int, Tensor], None]
"""Takes a layer and `B x P x width` values in float32 (on the stream's device): the rows that are wanted, no more."""


@dataclass
class CapturedStream:
    """The stream at the last prompt tokens of every row that passed."""

    values: dict[int, list[Tensor]] = field(default_factory=dict)
    """Layer to one `B x P x width` float32 tensor on the CPU for each forward pass."""

    def layer(self, index: int) -> Tensor:
        """`N x P x width` of one layer; empty layers raise.

        Raises:
            ModelError: the layer did not run.
        """
        if index not in self.values:
            raise ModelError(f"expected layer {index} to run, got no call of it; try prompts with a picture")
        return torch.cat(self.values[index])

    def append(self, layer: int, value: Tensor) -> None:
        """Keep one batch: a `CaptureSink`."""
        self.values.setdefault(layer, []).append(value.cpu())


@contextmanager
def capture(
    steerable: Steerable,
    *,
    last: int = 1,
    layers: Collection[int] | None = None,
    sink: CaptureSink | None = None,
) -> Iterator[CapturedStream]:
    """Read the input of layers at the last tokens of each prompt; nothing else of a forward pass is kept.

    Steps that continue a cache are passed over, so that a generation inside gives its prompts once.

    Args:
        steerable: the model.
        last: P, how many tokens from the end of the prompt; index -1 of the result is the last.
        layers: which layers; the number of layers means the input of the final norm. None is all of these.
        sink: takes the values as they come, instead of the result.
    """
    wanted = range(len(steerable.tower.layers) + 1) if layers is None else sorted(set(layers))
    _check_layers(steerable, [layer for layer in wanted if layer != len(steerable.tower.layers)])
    captured = CapturedStream()
    receive = sink or captured.append
    layout = steerable.token_layout()

    def read(layer: int) -> StreamEdit:
        def take(stream: Tensor) -> Tensor:
            if layout.starts_prompt:
                columns = layout.positions_from_end(last).to(stream.device)
                rows = torch.arange(len(columns), device=stream.device)[:, None]
                # Indexing copies: of `B x T x width` only `B x P x width` is kept alive. Families that flatten rows
                # before a layer are brought back to `B x T` first.
                receive(layer, stream.reshape(len(columns), -1, stream.shape[-1])[rows, columns].detach().float())
            return stream

        return take

    with ExitStack() as stack:
        stack.enter_context(layout.watch())
        stack.enter_context(edited_layer_inputs(steerable.tower, {layer: read(layer) for layer in wanted}))
        yield captured


def _check_width(steerable: Steerable, vectors: Tensor) -> None:
    if vectors.shape[-1] != steerable.tower.width or not bool(torch.isfinite(vectors).all()):
        raise UsageError(
            f"expected a finite direction of width {steerable.tower.width} for {steerable.name}, got width "
            f"{vectors.shape[-1]}; try one found on this model"
        )


def _check_layers(steerable: Steerable, layers: Collection[int]) -> None:
    depth = len(steerable.tower.layers)
    if any(not 0 <= layer < depth for layer in layers):
        raise UsageError(f"expected layers of 0 to {depth - 1}, got {sorted(layers)}; try the direction's own layer")
