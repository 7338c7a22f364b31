"""Which tokens of a forward pass an edit or a capture is about.

Rows are padded, prompts hold pictures, replies grow token by token behind a cache. `TokenLayout` works out for each
forward pass what stands where, from the inputs that the model itself is given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from equipoise.errors import ModelError, UsageError
from equipoise.models.state import current_prompt_lengths

PositionKind = Literal["all", "text", "picture", "last"]
Span = tuple[int, int]
"""Begin and end (exclusive) among the tokens of a row, padding not counted; see `Positions.spans`."""


@dataclass(frozen=True)
class Positions:
    """A choice of tokens, the same rule for every row."""

    kind: PositionKind | Literal["spans"]
    """`all` tokens, those of the `text` (prompt and reply), of the `picture`, the `last` of the prompt, or `spans`."""
    spans: tuple[Span, ...] = ()
    """With `spans`: begin and end (exclusive) in tokens of the row; negative ones count from the end of the prompt, and
    an end of 0 is the prompt's end."""

    @classmethod
    def of(cls, value: Positions | PositionKind | Sequence[Span]) -> Positions:
        """The positions of a word, or of spans.

        Raises:
            UsageError: neither of these.
        """
        if isinstance(value, Positions):
            return value
        if isinstance(value, str):
            if value not in ("all", "text", "picture", "last"):
                raise UsageError(f"expected positions all, text, picture or last, or spans, got {value!r}; try text")
            return cls(value)
        return cls("spans", tuple((int(begin), int(end)) for begin, end in value))

    @property
    def depends_on_rows(self) -> bool:
        """Whether the choice needs rows that are one prompt each, which a shared prefix has not."""
        return self.kind in ("last", "spans")


class TokenLayout:
    """What stands where in the forward pass that runs.

    Args:
        model: a transformers model.
        picture_tokens: ids of the tokens that stand for pictures.
    """

    def __init__(self, model: nn.Module, picture_tokens: Collection[int] = ()) -> None:
        self._model = model
        self._picture_tokens = torch.tensor(sorted(picture_tokens), dtype=torch.long)
        self._running = False
        self._valid: Tensor | None = None
        self._ids: Tensor | None = None
        self._index: Tensor | None = None
        self._prompt_lengths: Tensor | None = None
        self.starts_prompt = True
        """Whether this forward pass reads a prompt from its beginning (and does not continue a cache)."""

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Follow all forward passes inside."""
        enter = self._model.register_forward_pre_hook(self._enter, with_kwargs=True)
        # Called after exceptions too: a layout must not outlive its forward pass.
        leave = self._model.register_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            enter.remove()
            leave.remove()
            self._running = False

    def mask(self, positions: Positions) -> Tensor | None:
        """`B x T` bool of the chosen tokens; None for all.

        Raises:
            ModelError: the model does not pass through its own `forward`, so that tokens are not known.
        """
        if positions.kind == "all":
            return None
        if not self._running or self._valid is None or self._index is None or self._prompt_lengths is None:
            raise ModelError(
                f"expected token ids in a forward pass of {type(self._model).__name__}, got none, so that "
                f"positions={positions.kind} cannot be found; try positions='all'"
            )
        if positions.kind == "last":
            return self._valid & (self._index == self._prompt_lengths[:, None] - 1)
        if positions.kind == "spans":
            chosen = torch.zeros_like(self._valid)
            for begin, end in positions.spans:
                low, high = (self._absolute(bound, is_end) for bound, is_end in ((begin, False), (end, True)))
                chosen |= (self._index >= low) & (self._index < high)
            return chosen & self._valid
        if self._ids is None:
            raise ModelError("expected token ids to tell pictures from text, got embeddings; try positions='all'")
        pictures = torch.isin(self._ids, self._picture_tokens.to(self._ids.device))
        return self._valid & (pictures if positions.kind == "picture" else ~pictures)

    def positions_from_end(self, count: int) -> Tensor:
        """`B x count`: columns of this forward pass that hold the last tokens of the prompts, the last one at -1.

        Raises:
            ModelError: a prompt is shorter, or tokens are not known.
        """
        columns = []
        for back in range(count, 0, -1):
            mask = self.mask(Positions("spans", ((-back, -back + 1),)))
            assert mask is not None
            if not bool((mask.sum(1) == 1).all()):
                raise ModelError(f"expected prompts of at least {count} tokens, got a shorter one; try fewer positions")
            # `argmax` of zeros and a single one is its column.
            columns.append(mask.int().argmax(1))
        return torch.stack(columns, 1)

    def _absolute(self, bound: int, is_end: bool) -> Tensor:
        assert self._prompt_lengths is not None
        from_end = bound < 0 or (is_end and bound == 0)
        return (self._prompt_lengths[:, None] if from_end else 0 * self._prompt_lengths[:, None]) + bound

    def _enter(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs.get("input_ids")
        embeddings = kwargs.get("inputs_embeds")
        if not isinstance(ids, Tensor) and not isinstance(embeddings, Tensor):
            self._running = False
            return
        rows, length = ids.shape[:2] if isinstance(ids, Tensor) else cast("Tensor", embeddings).shape[:2]
        # While a reply is generated each pass holds one new token, and the prompt is in the cache. The attention mask
        # still covers everything, so it is what tells where in the row the new token stands.
        cache = kwargs.get("past_key_values")
        before = int(cache.get_seq_length()) if cache is not None else 0
        device = ids.device if isinstance(ids, Tensor) else cast("Tensor", embeddings).device
        mask = kwargs.get("attention_mask")
        if not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape[1] < length:
            mask = torch.ones(rows, before + length, dtype=torch.long, device=device)
        mask = mask.to(device).bool()
        # Among a row's own tokens: padding on the left does not count.
        # The mask covers the cached tokens as well; the last `length` columns are this pass's own.
        self._index = (mask.long().cumsum(1) - 1)[:, -length:]
        self._valid = mask[:, -length:]
        self._ids = ids if isinstance(ids, Tensor) else None
        self.starts_prompt = before == 0
        lengths = current_prompt_lengths.get()
        if lengths is not None:
            self._prompt_lengths = torch.tensor(list(lengths), device=device)
        # A pass that continues a cache keeps the lengths of its prompts: the mask has grown with the reply.
        elif self.starts_prompt or self._prompt_lengths is None or len(self._prompt_lengths) != rows:
            self._prompt_lengths = mask.sum(1)
        self._running = True

    def _leave(self, *_arguments: Any) -> None:
        self._running = False
