"""Decoder layers compiled by torch for the time of a training, which makes more steps a second on a CPU."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from equipoise.errors import UsageError
from equipoise.models.language_tower import decoder_layers


def has_compiler() -> bool:
    """Whether this machine has a C++ compiler."""
    return any(shutil.which(name) for name in ("c++", "g++", "clang++"))


@contextmanager
def compiled_layers(model: Any, wanted: bool = True) -> Iterator[None]:
    """Compile each decoder layer of a model; afterwards the layers are as before.

    At the sizes that a CPU trains, more time goes into what stands between the matrix products (norms, rotations,
    activations, the sums of adapters) than into the products. Compiled, these run as one loop over the data. The
    first step waits a minute or two for the compiler.

    Args:
        model: a model of transformers with decoder layers, or adapters around one.
        wanted: whether to compile; without it nothing happens.

    Raises:
        UsageError: there is no C++ compiler.
        ModelError: the model has no decoder layers.
    """
    if not wanted:
        yield
        return
    if not has_compiler():
        raise UsageError("expected a C++ compiler for compiled layers, got none; try without compilation")
    layers = decoder_layers(model)
    for layer in layers:
        # The weights are inputs of the compiled function, so that one compilation serves all layers. Batches differ
        # in length: `dynamic` keeps the lengths symbolic instead of compiling again for each of them.
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
