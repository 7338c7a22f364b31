"""A soft prompt in requests to vLLM: a chat part `prompt_embeds`, around which the server puts its own template.

vLLM documents it under "Prompt Embedding Inputs": `--enable-prompt-embeds` when it is started, and in a message's
content `{"type": "prompt_embeds", "data": BASE64}`, where BASE64 is a tensor `tokens x hidden size` as `torch.save`
writes it. A wrong shape can crash the engine, so the option is for clients that one trusts.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import torch

from equipoise.errors import UsageError
from equipoise.prompts.slot import split_text
from equipoise.prompts.soft_prompt import SoftPrompt
from equipoise.served_models.chat_model import ServedChatModel
from equipoise.served_models.endpoint import ServedEndpoint
from equipoise.types import Exchange, Prompt

DTYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
"""Number formats that a server may run in; the tensor has to be in the server's."""
PartRole = Literal["system", "user"]


def embeds_part(prompt: SoftPrompt, dtype: str = "bfloat16") -> dict[str, str]:
    """The chat part of a soft prompt.

    Args:
        prompt: the embeddings.
        dtype: of the served model.

    Raises:
        UsageError: an unknown number format.
    """
    if dtype not in DTYPES:
        raise UsageError(f"expected a dtype among {', '.join(DTYPES)}, got {dtype!r}; try that of the server")
    buffer = io.BytesIO()
    torch.save(prompt.embeddings.to(DTYPES[dtype]).contiguous(), buffer)
    return {"type": "prompt_embeds", "data": base64.b64encode(buffer.getvalue()).decode("ascii")}


def with_soft_prompt(
    messages: Sequence[Mapping[str, Any]],
    prompt: SoftPrompt,
    *,
    dtype: str = "bfloat16",
    role: PartRole = "system",
) -> list[dict[str, Any]]:
    """Messages of a chat request with the soft prompt in front.

    Punctuation at the ends of the text that the soft prompt began as are texts beside it, as they are where it was
    optimised.

    Args:
        messages: as OpenAI's protocol has them; they themselves stay as they are.
        prompt: the embeddings.
        dtype: of the served model.
        role: the system message, or the first user message for templates without a system role.

    Raises:
        UsageError: no user message to put it into.
    """
    head, _, tail = split_text(prompt.text)
    # The text behind it begins with the same line break that the slot had behind it.
    index = next((i for i, message in enumerate(messages) if message.get("role") == role), None)
    rest = [] if index is None else _parts(messages[index].get("content"))
    after = tail + ("\n\n" if rest else "")
    # The slot holds the text without the punctuation at its ends, which merges with line breaks in many vocabularies;
    # head and tail are sent as text on either side of the embeddings.
    texts = [[{"type": "text", "text": text}] if text else [] for text in (head, after)]
    parts = [*texts[0], embeds_part(prompt, dtype), *texts[1], *rest]
    result = [dict(message) for message in messages]
    if index is not None:
        result[index]["content"] = parts
    elif role == "system":
        result.insert(0, {"role": "system", "content": parts})
    else:
        raise UsageError("expected a user message for a soft prompt, got none; try role='system'")
    return result


class ServedSoftPrompt:
    """A `ChatModel` behind vLLM with a soft prompt in every request.

    Args:
        endpoint: the server.
        prompt: the embeddings, made for the same weights.
        dtype: of the served model.
        role: as in `with_soft_prompt`.
        timeout: seconds for one reply.
    """

    def __init__(
        self,
        endpoint: ServedEndpoint,
        prompt: SoftPrompt,
        *,
        dtype: str = "bfloat16",
        role: PartRole = "system",
        timeout: float = 60.0,
    ) -> None:
        self.prompt = prompt
        self.name = f"{endpoint.model} + soft prompt {prompt.digest}"
        change = partial(with_soft_prompt, prompt=prompt, dtype=dtype, role=role)
        self._model = ServedChatModel(endpoint, name=self.name, timeout=timeout, change=change)

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """One exchange for each prompt, in order; a request that failed is an exchange with its error."""
        return self._model.generate(prompts, max_new_tokens=max_new_tokens)


def _parts(content: Any) -> list[Any]:
    if isinstance(content, list):
        return list(content)
    return [{"type": "text", "text": content}] if content else []
