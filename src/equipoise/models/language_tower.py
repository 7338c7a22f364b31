"""`LanguageTower`: the decoder layers of a model, and every module that reads its residual stream.

The residual stream is the hidden state that enters the first layer and to which every layer adds. Nothing here goes by
names of modules: the same name is the norm before the MLP in Llama and the norm after attention in Gemma. One small
forward pass is traced instead (`stream_trace`), and what takes a value of the stream as its input is a *read site*.

Projecting the stream at every read equals projecting every write to it: with `P = I - r r^T`, the readers see `P x` in
both cases, by induction over the layers. Hooks on reads are therefore enough for directional ablation (Arditi et al.
2024, arXiv:2406.11717), also in models with norms after their layers, where hooks on writes are not exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from equipoise.errors import ModelError
from equipoise.models.state import frozen
from equipoise.models.stream_trace import ArgumentKey, ModuleCall, projected_writes, trace_stream

StreamEdit = Callable[[Tensor], Tensor]
"""Takes a value of the stream, `B x T x width`, and returns what is to be read instead; must not work in place."""


@dataclass(frozen=True)
class ReadSite:
    """A module that reads the residual stream."""

    name: str
    """Its name in the model."""
    module: nn.Module
    """The module."""
    arguments: tuple[ArgumentKey, ...]
    """Which of its arguments hold the stream: positions or keywords."""
    layer: int
    """Index of the layer it stands in; -1 before the first, the number of layers after the last."""


@dataclass(frozen=True)
class LanguageTower:
    """The decoder of a language model, or of the language part of a multimodal one."""

    model: nn.Module
    """The whole model."""
    layers: tuple[nn.Module, ...]
    """The decoder layers, in order."""
    width: int
    """Width of the residual stream."""
    read_sites: tuple[ReadSite, ...]
    """All modules that read the stream, in the order of their first call."""

    @classmethod
    def of(cls, model: nn.Module, inputs: Mapping[str, Any]) -> LanguageTower:
        """The tower of a transformers model.

        Args:
            model: a causal or an image-text-to-text model.
            inputs: keyword arguments of one small forward pass. Layers that only run with a picture (cross-attention)
                need inputs with one.

        Raises:
            ModelError: no decoder layers were recognised, or some do not run.
        """
        layers = decoder_layers(model)
        width = int(_text_config(model).hidden_size)
        # The layers and whatever holds them (decoder, model) take the stream as input, too. Counted as readers, they
        # would hide the modules inside, which `_read_sites` passes over as parts of a reader.
        outer = {id(module) for module in model.modules() if any(module is m or _holds(module, m) for m in layers[:1])}
        with frozen(model), torch.no_grad():
            calls = trace_stream(model, layers, inputs)
        sites = _read_sites(calls, {id(layer) for layer in layers} | outer)
        inside = {site.layer for site in sites}
        missing = [index for index in range(len(layers)) if index not in inside]
        if missing or len(layers) not in inside:
            what = f"layer {missing[0]}" if missing else "the final norm"
            raise ModelError(
                f"expected every decoder layer and a final norm to read the residual stream, got no read in {what}; "
                "try a decoder-only model, with a picture where its layers need one"
            )
        return cls(model, tuple(layers), width, sites)

    @property
    def final_norm(self) -> nn.Module:
        """What reads the stream after the last layer: the final norm."""
        return next(site.module for site in self.read_sites if site.layer == len(self.layers))


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The decoder layers: the one list of as many modules as the text configuration has hidden layers.

    Raises:
        ModelError: there is no such list, or more than one.
    """
    config = _text_config(model)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"expected a decoder-only model, got the encoder-decoder {type(model).__name__}; try a causal model"
        )
    depth = getattr(config, "num_hidden_layers", None)
    decoder = cast(Any, model).get_decoder() if hasattr(model, "get_decoder") else model
    # `get_decoder` may return the model itself: pictures then have a tower of their own, deeper inside.
    # Found by shape, not by name: a list of exactly as many modules as the text configuration has layers. The
    # shallowest counts, since experts of a layer may be as many as there are layers.
    candidates: list[tuple[int, nn.ModuleList]] = []
    for root in (decoder, model):
        candidates = sorted(
            (
                (name.count("."), module)
                for name, module in root.named_modules()
                if isinstance(module, nn.ModuleList) and len(module) == depth
            ),
            key=lambda candidate: candidate[0],
        )
        if candidates and (len(candidates) == 1 or candidates[0][0] < candidates[1][0]):
            return list(candidates[0][1])
    raise ModelError(
        f"expected one list of {depth} decoder layers in {type(model).__name__}, got {len(candidates)} alike; "
        "try a decoder-only model of transformers"
    )


def _text_config(model: nn.Module) -> Any:
    return model.config.get_text_config(decoder=True)  # type: ignore[operator, union-attr]


def _holds(outer: nn.Module, inner: nn.Module) -> bool:
    return any(module is inner for module in outer.modules())


def _read_sites(calls: Sequence[ModuleCall], layers_and_outer: set[int]) -> tuple[ReadSite, ...]:
    """The outermost modules that took a value of the stream; a module called twice is one site."""
    sites: dict[int, ReadSite] = {}
    for call in calls:
        if id(call.module) in layers_and_outer or not call.arguments:
            continue
        # What a reader hands on to its own parts has been edited already.
        if any(call.name.startswith(site.name + ".") for site in sites.values()):
            continue
        known = sites.get(id(call.module))
        arguments = call.arguments if known is None else tuple(dict.fromkeys(known.arguments + call.arguments))
        layer = call.layer if known is None else known.layer
        sites[id(call.module)] = ReadSite(call.name, call.module, arguments, layer)
    return tuple(sites.values())


@contextmanager
def edited_reads(tower: LanguageTower, edit: StreamEdit, *, first_layer: int = -1) -> Iterator[None]:
    """Every read of the stream sees `edit(x)`; the stream itself keeps what is written to it.

    Args:
        tower: whose reads.
        edit: what the readers see instead.
        first_layer: reads in earlier layers stay as they are.
    """
    handles: list[Any] = []
    try:
        for site in tower.read_sites:
            if site.layer >= first_layer:
                hook = _edit_arguments(site.arguments, edit)
                handles.append(site.module.register_forward_pre_hook(hook, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def projected_stream(tower: LanguageTower, project: StreamEdit) -> Iterator[None]:
    """The definition of directional ablation: the stream is projected after every write to it.

    It is slow and serves as a reference: `edited_reads` with the same projection gives the same.
    """
    early = [site for site in tower.read_sites if site.layer < 0]
    handles = [
        site.module.register_forward_pre_hook(_edit_arguments(site.arguments, project), with_kwargs=True)
        for site in early
    ]
    try:
        with projected_writes(tower.layers, project):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def edited_layer_inputs(tower: LanguageTower, edits: Mapping[int, StreamEdit]) -> Iterator[None]:
    """The stream itself is `edit(x)` from the input of the given layers on; the number of layers is the final norm."""
    handles: list[Any] = []
    try:
        for layer, edit in edits.items():
            module = tower.layers[layer] if layer < len(tower.layers) else tower.final_norm
            handles.append(
                # Layers get their hidden state as the first argument or by this keyword, depending on family and
                # version.
                module.register_forward_pre_hook(_edit_arguments((0, "hidden_states"), edit, True), with_kwargs=True)
            )
        yield
    finally:
        for handle in handles:
            handle.remove()


def _edit_arguments(keys: Sequence[ArgumentKey], edit: StreamEdit, first: bool = False) -> Callable[..., Any]:
    """A pre-hook that edits the named arguments that are there, or only the first of these."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        changed, named = list(args), dict(kwargs)
        for key in keys:
            target: Any = changed if isinstance(key, int) else named
            if (isinstance(key, int) and key < len(changed)) or key in named:
                target[key] = edit(target[key])
                if first:
                    break
        return tuple(changed), named

    return hook
