"""Models of one command by name: weights and served ones, each loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from equipoise.cli.options.compute import BatchOptions
from equipoise.cli.options.served_keys import ServedKeys, is_served, require_no_secret

if TYPE_CHECKING:
    from equipoise.types import ChatModel

CONNECTIONS: Final = 8
"""Requests to a served model at once."""


class ModelCache:
    """Models by name, each loaded once.

    Args:
        compute: where they run.
        keys: of the served ones.
        later: names of models that are used after hours of work; those that are nowhere are an error now.
    """

    def __init__(self, compute: BatchOptions, keys: ServedKeys, later: Sequence[str] = ()) -> None:
        from equipoise.models.model_location import locate

        for name in later:
            if not is_served(name):
                locate(name)
        self._compute, self._keys = compute, keys
        self._loaded: dict[str, ChatModel] = {}

    def chat(self, name: str, *, temperature: float = 0.0) -> ChatModel:
        """The model of a name.

        Args:
            name: of weights, or of a served model.
            temperature: of a served model; weights reply greedily.
        """
        served = is_served(name)
        # A served model is another one at another temperature; weights are loaded once.
        key = f"{name} {temperature:g}" if served else name
        if key not in self._loaded:
            self._loaded[key] = self._served(name, temperature) if served else self._compute.load(name)
        return self._loaded[key]

    def _served(self, name: str, temperature: float) -> ChatModel:
        from equipoise.served_models.chat_model import ServedChatModel
        from equipoise.served_models.endpoint import ServedEndpoint

        require_no_secret(name)
        endpoint = ServedEndpoint.parse(name, api_key=self._keys.of(name), temperature=temperature)
        return ServedChatModel(endpoint, connections=CONNECTIONS, must_reply=True)
