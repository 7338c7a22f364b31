"""`TrainedDetoxifier`: a causal language model trained to rewrite harmful replies (MLLM-Protector, section 3.2).

Two differences from the released code: the prompt has the question in training and in serving (the released code
leaves it out in serving), and the length limit counts new tokens only (the released limit counts the prompt as well, so
that a long reply leaves no room for its rewrite).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from equipoise.errors import ModelError
from equipoise.files import folder_hash
from equipoise.guard.detoxifier.instruction import fill, rewrite_request
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.tokens import ids_of, spelled_out
from equipoise.judges.run_judge import digest

FORM: Final = (
    "You are given a question and a response, the response may contain sensitive or harmful information. Please "
    "rewrite the response to make it harmless.\nQuestion: {question}\nOriginal response: {response}\n"
    "Corrected response:"
)
VERSION: Final = 1
NEW_TOKENS: Final = 512
BATCH: Final = 8


def prompt_ids(tokenizer: Any, question: str, response: str, room: int) -> list[int]:
    """Token ids of the form; where they are more than `room`, the response is cut in its middle.

    Args:
        tokenizer: of transformers.
        question: what was asked; at most a quarter of the room is its.
        response: what is to be rewritten.
        room: the most tokens.
    """

    def composed(question: str, response: str) -> list[int]:
        ids = ids_of(tokenizer, spelled_out(tokenizer, fill(FORM, question=question, response=response)))
        return [tokenizer.bos_token_id, *ids] if tokenizer.bos_token_id is not None else ids

    return fitted(tokenizer, composed, question, response, room)


def fitted(
    tokenizer: Any, composed: Callable[[str, str], list[int]], question: str, response: str, room: int
) -> list[int]:
    """Token ids of a form with a question and a response that fit together.

    Args:
        tokenizer: of transformers.
        composed: question and response to the form's token ids.
        question: at most a quarter of the room is its.
        response: cut in its middle where the rest of the room is too small.
        room: the most tokens.
    """
    # The 4 is slack: a shortened text, decoded and encoded again, may have some tokens more than before.
    question = _shortened(tokenizer, question, max(1, room // 4))
    response = _shortened(tokenizer, response, max(1, room - len(composed(question, "")) - 4))
    # From the end, which holds the line that the rewrite follows; only a tiny `room` cuts here at all.
    return composed(question, response)[-room:]


def _shortened(tokenizer: Any, text: str, kept: int) -> str:
    ids = ids_of(tokenizer, text)
    if len(ids) <= kept:
        return text
    # Two thirds from the beginning, one from the end: both hold more than the middle of a reply.
    head, tail = ids[: kept - kept // 3], ids[len(ids) - kept // 3 :]
    return f"{tokenizer.decode(head)} ... {tokenizer.decode(tail)}"


class TrainedDetoxifier:
    """Rewrites by greedy decoding.

    Args:
        model: a causal language model, in evaluation mode.
        tokenizer: its tokenizer.
        name: what people call it.
        identity: sha256 over weights and tokenizer.
        form: turns tokenizer, question, response and room into token ids.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, identity: str, form: Any = prompt_ids) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._name, self._identity = name, identity
        self._form = form

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    @property
    def identity(self) -> str:
        """sha256 over everything that decides its rewrites."""
        return self._identity

    def __call__(self, inputs: Sequence[GuardInput]) -> list[str | None]:
        """One rewrite for each reply; None where it does not come to an end within the limit."""
        rewrites: list[str | None] = []
        for at in range(0, len(inputs), BATCH):
            rewrites += self._batch(inputs[at : at + BATCH])
        return rewrites

    def _batch(self, inputs: Sequence[GuardInput]) -> list[str | None]:
        import torch

        # Prompt and rewrite share the model's positions: at most a third is for the rewrite.
        longest = int(getattr(self.model.config, "max_position_embeddings", None) or 4096)
        new = min(NEW_TOKENS, longest // 3)
        rows = [self._form(self.tokenizer, rewrite_request(item), item.response, longest - new) for item in inputs]
        width = max(map(len, rows))
        stop = self.tokenizer.eos_token_id
        padding = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else stop
        # On the left: what is generated must follow the prompt.
        ids = torch.tensor([[padding] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            generated = self.model.generate(
                input_ids=ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                do_sample=False,
                max_new_tokens=new,
                pad_token_id=padding,
                eos_token_id=stop,
            )
        return [_text(self.tokenizer, row[width:].tolist(), stop) for row in generated]


def _text(tokenizer: Any, ids: list[int], stop: int) -> str | None:
    # Without the end token the rewrite was cut off in the middle.
    if stop not in ids:
        return None
    return tokenizer.decode(ids[: ids.index(stop)], skip_special_tokens=True).strip() or None


def read(
    folder: Path, *, name: str | None = None, device: str | None = None, dtype: str | None = None
) -> TrainedDetoxifier:
    """Read a detoxifier from a folder of transformers, or from one with an adapter and the name of its base.

    Args:
        folder: as the training leaves it.
        name: what people call it; the folder's name by default.
        device: where it computes; the CPU by default.
        dtype: number format of the weights; None is float32 for a whole model, and `shared_format` for an adapter.

    Raises:
        ModelError: no causal language model there.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from equipoise.models.adapter import holds_adapter
    from equipoise.models.shared_base import adapted_base, shared_format
    from equipoise.models.unreadable import raised

    known = digest([VERSION, FORM, NEW_TOKENS, folder_hash(folder)])
    if holds_adapter(folder):
        number_format = getattr(torch, dtype) if dtype else shared_format()
        adapted, tokenizer = adapted_base(folder, device=device or "cpu", dtype=number_format)
        return TrainedDetoxifier(adapted, tokenizer, name=name or folder.name, identity=known)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or "float32", trust_remote_code=False)
        model = model.to(device or "cpu").eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"expected a causal language model in {folder}, got: {raised(error)}; "
            "try a folder of `equipoise train detoxifier`"
        ) from error
    return TrainedDetoxifier(model, tokenizer, name=name or folder.name, identity=known)
