"""The probability that the next token begins a refusal, after each token of an answer that the reply has begun with.

One forward pass over prompt and answer gives the whole curve of a row: what is predicted at a position depends on the
tokens before it alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from equipoise.audit.recovery.curve_file import CurvePoint, RefusalCurve
from equipoise.data.refusal_rows import RefusalRow
from equipoise.errors import UsageError
from equipoise.models.differentiable_processor import to_device
from equipoise.models.reply_log_probs import forward_logits
from equipoise.models.state import frozen, prompt_lengths
from equipoise.models.transformers_model import TransformersModel
from equipoise.reference.alignment_prompts import refusal_parts
from equipoise.training.derta.loss import opener_log_prob
from equipoise.training.derta.openers import OpenerTokens, learn_opener_tokens

LONGEST: Final = 50
"""The curve's last depth, in tokens."""


def refusal_curve(model: TransformersModel, rows: Sequence[RefusalRow], refusals: Sequence[str] = ()) -> RefusalCurve:
    """The curves of a model over the answers of rows.

    Args:
        model: a local model.
        rows: harmful ones and their benign twins.
        refusals: what the model said when it refused: openers are learned from its own words. Without any they are
            those of the refusals that `reference/lm` learned.

    Raises:
        UsageError: refusals that begin as answers do.
    """
    openers = curve_openers(model, rows, refusals)
    harmful = [opener_probabilities(model, row, openers.ids) for row in rows if row.kind == "harmful"]
    harmless = [opener_probabilities(model, row, openers.ids) for row in rows if row.kind != "harmful"]
    return RefusalCurve(openers.texts, _points(harmful), _points(harmless))


def curve_openers(model: TransformersModel, rows: Sequence[RefusalRow], refusals: Sequence[str]) -> OpenerTokens:
    """The openers of the model's own refusals; of ours where it has none, or where its own begin as its answers do."""
    if refusals:
        try:
            return learn_opener_tokens(model, rows, tuple(refusals))
        except UsageError:
            # Such as `I` alone: a few refusals of a model with one favourite wording.
            pass
    return learn_opener_tokens(model, rows, refusal_parts().openings)


def opener_probabilities(model: TransformersModel, row: RefusalRow, openers: Sequence[int]) -> list[float]:
    """The probability of an opener after 0, 1, 2, ... tokens of the row's answer, `LONGEST` at most."""
    prompt = row.prompt
    encoded = model.encode_reply(prompt, row.answer, end=False)
    length = min(len(encoded.tokens), encoded.prompt_length + LONGEST)
    device = model.model.device
    inputs = {"input_ids": encoded.tokens[None, :length], "attention_mask": torch.ones(1, length, dtype=torch.long)}
    inputs |= {name: value[:, :length] for name, value in encoded.token_inputs.items()}
    inputs |= dict(encoded.text_inputs) | model.image_inputs(prompt)
    # From the prompt's last token on: its logits are about the reply's first token (depth 0), those of the answer's
    # d-th token about what follows d tokens.
    keep = torch.arange(encoded.prompt_length - 1, length, device=device)
    with frozen(model.model), torch.no_grad(), prompt_lengths([encoded.prompt_length]):
        moved = to_device(inputs, device, model.model.dtype)
        logits = forward_logits(model.model, keep, use_cache=False, **moved)
    return [float(value) for value in opener_log_prob(logits[0].float(), openers).exp()]


def _points(curves: Sequence[Sequence[float]]) -> tuple[CurvePoint, ...]:
    """The mean over rows at each depth, with its interval."""
    points = []
    for depth in range(max(map(len, curves), default=0)):
        values = np.array([curve[depth] for curve in curves if len(curve) > depth])
        mean = float(values.mean())
        # One answer alone has no spread: the interval is then everything.
        half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 1.0
        points.append(CurvePoint(depth, len(values), mean, max(0.0, mean - half), min(1.0, mean + half)))
    return tuple(points)
