"""`Steerable`: a model whose residual stream may be read and edited, because a test on the model itself says so."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from PIL import Image
from torch import nn

from equipoise.errors import ModelError, UsageError
from equipoise.models.base import OpenModel
from equipoise.models.language_tower import LanguageTower
from equipoise.models.state import frozen, number_format
from equipoise.models.transformers_model import TransformersModel
from equipoise.steering.self_test import SelfTest, run_self_test
from equipoise.steering.token_positions import TokenLayout
from equipoise.types import Prompt

PROBES = ("What is the capital of France?", "Please write a short poem about the sea and the wind.")
"""Two prompts of different length, so that the self-test sees padding."""


class Steerable:
    """The language tower of a model, with its tests passed.

    Args:
        model: a transformers model.
        inputs: keyword arguments of a small forward pass over at least two rows, with pictures where the model reads
            them.
        name: what the user calls it.
        revision: which weights exactly.
        picture_tokens: ids of the tokens that stand for pictures.

    Raises:
        ModelError: the tower was not recognised, or the self-test failed; the message has the reason.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        *,
        name: str,
        revision: str,
        picture_tokens: Collection[int] = (),
    ) -> None:
        self.model = model
        self.name = name
        self.revision = revision
        self.picture_tokens = frozenset(picture_tokens)
        self.open_model: TransformersModel | None = None
        self.tower = LanguageTower.of(model, inputs)
        with self.frozen(), torch.no_grad():
            self.self_test: SelfTest = run_self_test(self, inputs)
        if self.self_test.reason is not None:
            raise ModelError(
                f"expected edits of the residual stream of {name} to do exactly what they are defined as, got "
                f"{self.self_test.reason}; try another model, as steering this one is refused"
            )

    @classmethod
    def of(cls, model: OpenModel) -> Steerable:
        """A loaded model, ready to be steered; tested once, then kept with the model.

        Raises:
            UsageError: not a model of transformers.
            ModelError: it cannot be steered.
        """
        if not isinstance(model, TransformersModel):
            raise UsageError(
                f"expected a model of transformers, got {type(model).__name__}; try the one inside its defences"
            )
        known = vars(model).get("_steerable")
        if isinstance(known, Steerable):
            return known
        inputs = model.prompt_inputs(_probes(model))
        steerable = cls(
            model.model,
            inputs,
            name=model.name,
            revision=model.revision,
            picture_tokens=model.picture_tokens,
        )
        steerable.open_model = model
        vars(model)["_steerable"] = steerable
        return steerable

    @property
    def number_format(self) -> str:
        """How the model computes; see `models.state.number_format`."""
        return number_format(self.model)

    @property
    def exact_revision(self) -> str:
        """Revision and number format: two models with the same have the same activations."""
        return f"{self.revision} {self.number_format}"

    def token_layout(self) -> TokenLayout:
        """Follows which tokens stand where in a forward pass."""
        return TokenLayout(self.model, self.picture_tokens)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The model in eval mode, without gradients for its weights."""
        with frozen(self.model):
            yield

    @contextmanager
    def steered(self, *, plain_batches: bool) -> Iterator[None]:
        """While the model is edited: it cannot be saved, and rows stay apart where that matters.

        Args:
            plain_batches: whether the shared prefix must not be used.
        """
        with ExitStack() as stack:
            stack.enter_context(_unsaveable(self.model))
            if plain_batches and self.open_model is not None:
                stack.enter_context(self.open_model.plain_batches())
            yield


def _probes(model: TransformersModel) -> list[Prompt]:
    if not model.reads_pictures:
        return [Prompt.ask(text) for text in PROBES]
    ramp = torch.linspace(20, 235, 48 * 64).view(48, 64).byte().numpy()
    picture = Image.fromarray(ramp).convert("RGB")
    return [Prompt.ask(text, picture) for text in PROBES]


_SAVERS: Sequence[str] = ("save_pretrained", "push_to_hub")


@contextmanager
def _unsaveable(model: nn.Module) -> Iterator[None]:
    """`save_pretrained` and `push_to_hub` raise inside: a steered model is measured, never written."""

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise UsageError(
            "expected a model that is not steered, got save_pretrained while its activations are edited; "
            "try after the context, which leaves the weights as they were"
        )

    before: list[tuple[nn.Module, str, Callable[..., Any] | None]] = []
    try:
        for module in model.modules():
            for name in _SAVERS:
                if hasattr(type(module), name):
                    # An attribute of the instance hides the method of the class, which is there again when the
                    # attribute is gone.
                    before.append((module, name, vars(module).get(name)))
                    vars(module)[name] = refuse
        yield
    finally:
        for module, name, value in reversed(before):
            if value is None:
                vars(module).pop(name, None)
            else:
                vars(module)[name] = value
