"""Models for the tests of the server."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from equipoise.errors import ModelError
from equipoise.types import Exchange, Prompt


class EchoModel:
    """Repeats the last message, and keeps the batches that it got.

    A prompt `fail` raises an error, `bug` an error that is none of ours, `panic` one that is no `Exception`. A prompt
    `broken` gets an exchange without a reply, `silence` gets none.
    """

    name = "toy/echo"

    def __init__(self, context: int | None = None) -> None:
        self.batches: list[list[str]] = []
        self.lengths: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.began = threading.Event()
        if context is not None:
            self.model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=context))
        self.processor = SimpleNamespace(tokenizer=_words)

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        texts = [prompt.text for prompt in prompts]
        self.batches.append(texts)
        self.lengths.append(max_new_tokens)
        self.began.set()
        assert self.go.wait(30)
        if "fail" in texts:
            raise ModelError("expected another prompt")
        if "bug" in texts:
            raise RuntimeError("secret of the implementation")
        if "panic" in texts:
            raise SystemExit("secret of the implementation")
        return [self._reply(prompt) for prompt in prompts if prompt.text != "silence"]

    def _reply(self, prompt: Prompt) -> Exchange:
        if prompt.text == "broken":
            return Exchange(prompt, "", "error", self.name, error="a transform failed")
        by = "guard" if prompt.text == "harm" else "model"
        system = f"[{prompt.system}] " if prompt.system else ""
        pictures = f"{len(prompt.pictures)} pictures: " if prompt.pictures else ""
        return Exchange(prompt, f"{system}{pictures}{prompt.text}", "stop", self.name, by=by)


def _words(text: str, add_special_tokens: bool) -> dict[str, Any]:
    assert not add_special_tokens
    return {"input_ids": text.split()}
