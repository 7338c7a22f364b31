"""Where a forward pass keeps its residual stream: a trace of sums, and the projected stream by definition.

The stream is followed from value to value: the input of a layer belongs to it, and so does every sum, and every
multiple by a single number, of a value that does. This is what "residual" means, whatever the modules are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ArgumentKey = int | str
"""An argument of a module: its position, or its keyword."""
_SUMS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
"""Not differences: norms subtract a mean from what they read, which is no write to the stream."""
_MULTIPLES = {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "__truediv__", "true_divide"}
_COPIES = {"to", "clone", "contiguous", "type", "float", "bfloat16", "half", "double", "reshape", "view"}


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module in a traced forward pass."""

    name: str
    """Its name in the model."""
    module: nn.Module
    """The module."""
    arguments: tuple[ArgumentKey, ...]
    """Its arguments that hold a value of the stream."""
    layer: int
    """Layer in which it ran; -1 before the first, the number of layers after the last."""


class _ResidualStream(TorchFunctionMode):
    """Knows which tensors of a forward pass are values of the residual stream.

    Args:
        project: what happens to the stream after every write; None only watches.
    """

    def __init__(self, project: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.project = project
        # Keeping the tensors keeps their ids from being used again.
        self._values: dict[int, Tensor] = {}

    def __contains__(self, value: object) -> bool:
        return id(value) in self._values

    def include(self, value: Tensor) -> None:
        """Count a tensor as a value of the stream."""
        self._values[id(value)] = value

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if not isinstance(result, Tensor) or not self._continues(name, args, result):
            return result
        if self.project is not None and name in _SUMS:
            projected = self.project(result)
            # A sum in place keeps its tensor, which the model goes on with.
            result = result.copy_(projected) if result is args[0] else projected
        self.include(result)
        return result

    def _continues(self, name: str, args: tuple[Any, ...], result: Tensor) -> bool:
        # Three ways in which a stream goes on as itself: copied, scaled by a single number, or added to. Anything else
        # (a matrix product, a norm, a gate of vector size) reads the stream and writes something of its own.
        streams = [value for value in args if value in self]
        # Another width: a view as attention heads, say, which reads the stream and is none of its values.
        if not streams or result.shape[-1:] != streams[0].shape[-1:]:
            return False
        if name in _COPIES:
            return args[0] in self
        if name in _MULTIPLES:
            return all(value in self or not isinstance(value, Tensor) or value.numel() == 1 for value in args)
        return name in _SUMS and result.shape == streams[0].shape


def trace_stream(model: nn.Module, layers: Sequence[nn.Module], inputs: Mapping[str, Any]) -> list[ModuleCall]:
    """All calls of modules in one forward pass, each with its arguments that hold the residual stream.

    Args:
        model: the whole model, in eval mode.
        layers: its decoder layers.
        inputs: keyword arguments of the forward pass, for few tokens: all their activations are kept.
    """
    stream, index = _ResidualStream(), {id(layer): number for number, layer in enumerate(layers)}
    calls: list[tuple[str, nn.Module, dict[ArgumentKey, Any], int]] = []
    # A list, as hooks must change it: an assignment inside a nested function would make a local variable.
    current = [-1]

    def enter(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            arguments = dict[ArgumentKey, Any](enumerate(args)) | dict[ArgumentKey, Any](kwargs)
            if id(module) in index:
                current[0] = index[id(module)]
                stream.include(stream_input(args, kwargs))
            calls.append((name, module, arguments, current[0]))

        return hook

    def leave(module: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            if index[id(module)] == len(layers) - 1:
                current[0] = len(layers)
                stream.include(output if isinstance(output, Tensor) else output[0])

        return hook

    handles = [
        module.register_forward_pre_hook(enter(name, module), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    handles += [layer.register_forward_hook(leave(layer)) for layer in layers]
    try:
        with torch.no_grad(), stream:
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    # Looked up at the end: what reads the input of the first layer before that layer does, reads the stream too.
    return [
        ModuleCall(name, module, tuple(key for key, value in arguments.items() if value in stream), layer)
        for name, module, arguments, layer in calls
    ]


def stream_input(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """The hidden state among the arguments of a layer or norm."""
    value = args[0] if args else kwargs["hidden_states"]
    assert isinstance(value, Tensor)
    return value


@contextmanager
def projected_writes(layers: Sequence[nn.Module], project: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The stream is projected where it enters a layer and after every sum: after every write to it.

    It follows all operations of a forward pass and is the reference of a test, not for use.
    """
    stream = _ResidualStream(project)

    def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        value = project(stream_input(args, kwargs))
        stream.include(value)
        return ((value, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": value})

    handles = [layer.register_forward_pre_hook(enter, with_kwargs=True) for layer in layers]
    try:
        with stream:
            yield
    finally:
        for handle in handles:
            handle.remove()
