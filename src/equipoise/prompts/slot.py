"""`PromptSlot`: the tokens of a safety prompt within a model's own chat template, and embeddings in their place.

The slot is found from outside, so that it holds for every template: a conversation is rendered with the text and with
two sentinels in its place, and what the tokens of all have in common, from the left and from the right, is the
template. At run time a *filler* of as many tokens stands in the slot. It goes through template and processor like any
text, so that pictures, masks and positions (M-RoPE, too) are the family's own; only the rows that the embedding layer
returns for it are exchanged.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor, nn

from equipoise.errors import ModelError, UsageError
from equipoise.models.reply_log_probs import forward_logits
from equipoise.models.state import frozen
from equipoise.models.transformers_model import TransformersModel
from equipoise.prompts.policy import joined
from equipoise.types import Message, Prompt

SENTINELS: Final = ("Zq7 xylem 93 vortex jade", "0 kayak ohm 58 fjord W")
"""Texts that share no beginning and no end with each other or with a prompt."""
SHORTEST: Final = 4
"""Tokens of a slot: a shorter filler might stand in a user's text by chance."""
_ATTEMPTS: Final = 40
_PROBES: Final = ("Hi.", "what is 7 + 9?", "(see below) Über 3 rivers", '"Quote" first', "A")
"""Requests that begin in different ways, because tokens may merge over the end of the slot."""


class SlotCount:
    """How many rows had their slot filled since it was made."""

    def __init__(self) -> None:
        self.rows = 0


@dataclass(frozen=True)
class PromptSlot:
    """Where a safety prompt stands in the conversations of one model."""

    filler: str
    """The text that stands in the slot until its embeddings are exchanged."""
    core: tuple[int, ...]
    """Its tokens that no neighbour changes; they are what the slot is recognised by."""
    left: int
    """Tokens before the core that belong to the slot."""
    right: int
    """Tokens after the core that belong to the slot, such as a full stop that merges with a line break."""
    text_tokens: tuple[int, ...]
    """Tokens of the text in the slot, as many as the slot has; without the punctuation at its ends."""

    def __len__(self) -> int:
        return len(self.text_tokens)

    def filled(self, prompt: Prompt) -> Prompt:
        """The prompt with the filler in front of its system text."""
        return replace(prompt, system=joined(self.filler, prompt.system))

    def positions(self, ids: Tensor) -> Tensor:
        """Where the slot begins in each row of `B x T` ids; -1 for a row without one."""
        width = len(self.core)
        if ids.ndim != 2 or ids.shape[1] < width + self.left + self.right:
            return torch.full((len(ids),), -1, device=ids.device)
        core = torch.tensor(self.core, device=ids.device)
        matches = (ids.unfold(1, width, 1) == core).all(-1)
        # argmax of a row without a match is 0, so matches are looked up afterwards.
        first = matches.int().argmax(1)
        return torch.where(matches.any(1), first - self.left, -1)

    @contextmanager
    def embedded(self, model: nn.Module, soft: Tensor) -> Iterator[SlotCount]:
        """Forward passes inside have `soft` in the slot of every row that has one.

        Args:
            model: of transformers.
            soft: `len(self) x width`; gradients flow into it.
        """
        count = SlotCount()

        def exchange(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            ids = args[0] if args else kwargs.get("input", kwargs.get("input_ids"))
            # Decoding embeds one token at a time, and shared prefixes are embedded apart from what follows them.
            if not isinstance(ids, Tensor) or ids.ndim != 2 or output.shape[:2] != ids.shape:
                return output
            starts = self.positions(ids)
            rows = (starts >= 0).nonzero()[:, 0]
            if not len(rows):
                return output
            count.rows += len(rows)
            # Indices of the slot, `rows x len(self)`: row r of the batch has its slot at columns start[r] ... start[r]
            # + len - 1.
            columns = starts[rows, None] + torch.arange(len(self), device=ids.device)
            values = soft.to(output).expand(len(rows), -1, -1)
            # Out of place: the graph of `output` must not see the exchange.
            return output.index_put((rows[:, None].expand_as(columns), columns), values)

        handle = model.get_input_embeddings().register_forward_hook(exchange, with_kwargs=True)  # type: ignore[operator]
        try:
            yield count
        finally:
            handle.remove()

    def initial(self, model: TransformersModel) -> Tensor:
        """`len(self) x width` float32: what the embedding layer returns for the text."""
        ids = torch.tensor([self.text_tokens], device=model.device)
        with torch.no_grad():
            rows: Tensor = model.model.get_input_embeddings()(ids)[0]
        return rows.detach().float().cpu()


def find_slot(model: TransformersModel, text: str, *, seed: int | None = None) -> PromptSlot:
    """The slot of a text, checked on the model: with the text's own embeddings it gives the text's own logits.

    Args:
        model: a model with a chat template.
        text: the safety prompt that the slot is as long as.
        seed: of the filler; None draws one that nobody can write into a request on purpose.

    Raises:
        ModelError: no chat template, one that changes system texts, or a model that reads tokens beside its embeddings.
        UsageError: a text of fewer than four tokens.
    """
    if not model.has_chat_template:
        raise ModelError(
            f"expected a model with a chat template for a soft prompt, got {model.name} without one; "
            "try --chat-template FILE, or the instruction-tuned version of the model"
        )
    source: random.Random = random.SystemRandom() if seed is None else random.Random(seed)
    probe = Prompt.ask(_PROBES[0])
    if text.strip() not in model.render(_with_text(probe, text)):
        raise ModelError(
            f"expected a chat template of {model.name} that writes system texts as they are, got one that changes or "
            "cuts the text; try a shorter text, or --chat-template FILE"
        )
    head, _, tail = split_text(text)
    # Three renderings of one conversation: with the text and with two sentinels in its place. Tokens that all three
    # begin with are the template before the slot, tokens that all end with the template after it. Two sentinels,
    # because one might by chance begin or end with the same token as the text, and the template would then seem to
    # reach into the slot.
    rows = [_ids(model, _with_text(probe, candidate)) for candidate in (text, *(head + s + tail for s in SENTINELS))]
    start, end = _common_prefix(rows), _common_suffix(rows)
    length = len(rows[0]) - start - end
    if length < SHORTEST:
        raise UsageError(f"expected a prompt of at least {SHORTEST} tokens, got {length} in {text!r}; try a sentence")
    # The filler must have exactly as many tokens as the text, so that every later token keeps its position and the
    # attention mask its length. Random words reach a given count only with luck, hence several attempts.
    words = _vocabulary_words(model, source)
    for _ in range(_ATTEMPTS):
        filler = _filler(model, probe, len(rows[0]), words, source, (head, tail))
        ids = None if filler is None else _ids(model, _with_text(probe, filler))
        if (
            filler is None
            or ids is None
            or _common_prefix([ids, rows[1]]) < start
            or _common_suffix([ids, rows[1]]) < end
        ):
            continue
        # A tokenizer may merge the slot's last character with what a user writes next. Only tokens that stay the same
        # in all kinds of conversations are looked for at run time: `core`; `left` and `right` count those that may
        # change.
        slot = _stable_slot(model, filler, ids[start : len(ids) - end], rows[0][start : len(rows[0]) - end])
        if slot is not None:
            _self_test(model, slot, text)
            return slot
    raise ModelError(
        f"expected a chat template of {model.name} that writes system texts as they are, got no stable tokens for one; "
        "try --chat-template FILE"
    )


def split_text(text: str) -> tuple[str, str, str]:
    """A text as the punctuation before its first letter or digit, the text to its last one, and what follows.

    The ends stay tokens: a full stop merges with a line break behind it in many vocabularies and with nothing else, so
    that what stands behind the text would decide whether it is a token of its own.
    """
    marks = [i for i, character in enumerate(text) if character.isalnum()]
    return (text[: marks[0]], text[marks[0] : marks[-1] + 1], text[marks[-1] + 1 :]) if marks else ("", text, "")


def _with_text(prompt: Prompt, text: str) -> Prompt:
    return replace(prompt, system=joined(text, prompt.system))


def _ids(model: TransformersModel, prompt: Prompt) -> list[int]:
    row: list[int] = model.prompt_inputs([prompt])["input_ids"][0].tolist()
    return row


def _common_prefix(rows: Sequence[Sequence[int]]) -> int:
    count = 0
    for values in zip(*rows, strict=False):
        if len(set(values)) > 1:
            break
        count += 1
    return count


def _common_suffix(rows: Sequence[Sequence[int]]) -> int:
    return _common_prefix([row[::-1] for row in rows])


def _vocabulary_words(model: TransformersModel, source: random.Random) -> list[str]:
    """Words that are one token, or short letters where a vocabulary has no words."""
    tokenizer = model.processor.tokenizer
    special = set(tokenizer.all_special_ids)
    ids = [i for i in range(len(tokenizer)) if i not in special and i not in model.picture_tokens]
    sample = source.sample(ids, min(len(ids), 4000))
    words = {tokenizer.decode([i]).strip() for i in sample}
    usable = sorted(
        word for word in words if word.isascii() and word.isalnum() and not word.isdigit() and len(word) < 12
    )
    longer = [word for word in usable if len(word) > 2]
    return longer if len(longer) > 20 else usable or list("abcdefghijklmnop")


def _filler(
    model: TransformersModel,
    probe: Prompt,
    target: int,
    words: Sequence[str],
    source: random.Random,
    ends: tuple[str, str],
) -> str | None:
    """A text of random words with which the rendered probe has `target` tokens; None where none was hit upon."""

    def tokens(body: str) -> int:
        return len(_ids(model, _with_text(probe, ends[0] + body + ends[1])))

    text = source.choice(words)
    length = tokens(text)
    misses, per_word = 0, 2.0
    while length != target:
        if length > target or misses > 60:
            return None
        # Many words at once while many tokens are missing; near the end, single letters glued to the last word as well.
        count = max(1, int((target - length) / per_word))
        letters = ["a", "b", "x", "q", "z", " a", " x"]
        pieces = [source.choice(letters) if misses > 20 else f" {source.choice(words)}" for _ in range(count)]
        longer = tokens(text + "".join(pieces))
        if length < longer <= target:
            per_word = max((longer - length) / count, 1.0)
            text, length, misses = text + "".join(pieces), longer, 0
        else:
            misses, per_word = misses + 1, per_word * 1.5
    return ends[0] + text + ends[1]


def _stable_slot(
    model: TransformersModel, filler: str, tokens: Sequence[int], text_tokens: Sequence[int]
) -> PromptSlot | None:
    """The slot with the largest core that is found, once, in all kinds of conversations."""
    rows = [_ids(model, _with_text(prompt, filler)) for prompt in _conversations(model)]
    for right in range(3):
        for left in range(3):
            core = tuple(tokens[left : len(tokens) - right])
            slot = PromptSlot(filler, core, left, right, tuple(text_tokens))
            if len(core) >= min(SHORTEST, len(tokens)) and all(_occurs_once(row, slot) for row in rows):
                return slot
    return None


def _conversations(model: TransformersModel) -> list[Prompt]:
    prompts = [Prompt.ask(text) for text in _PROBES]
    prompts.append(Prompt.ask("Why?", system="Be brief."))
    turns = (Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Why?"))
    prompts.append(Prompt(turns))
    if model.reads_pictures:
        prompts.append(Prompt.ask("What is this?", _picture()))
    return prompts


def _occurs_once(row: Sequence[int], slot: PromptSlot) -> bool:
    size = len(slot.core)
    starts = [i for i in range(len(row) - size + 1) if tuple(row[i : i + size]) == slot.core]
    return len(starts) == 1 and starts[0] >= slot.left and starts[0] + size + slot.right <= len(row)


def _picture() -> Image.Image:
    ramp = torch.linspace(20, 235, 48 * 64).view(48, 64).byte().numpy()
    return Image.fromarray(ramp).convert("RGB")


def _self_test(model: TransformersModel, slot: PromptSlot, text: str) -> None:
    """Raise an error where the slot with the text's embeddings is not the text.

    A family may read token ids beside their embeddings (embeddings of each layer, position by content): the filler
    would then show through.

    Raises:
        ModelError: the logits differ.
    """
    # With the text's own embeddings in the slot the model must say what it says about the text. This one equation
    # covers the position of the slot, the order of the rows, a scale that some families apply to embeddings, and the
    # padding.
    soft = slot.initial(model).to(model.device)
    prompts = [Prompt.ask(_PROBES[1])] + [Prompt.ask("What is this?", _picture())] * model.reads_pictures
    for prompt in prompts:
        expected = next_logits(model, [_with_text(prompt, text)])
        with slot.embedded(model.model, soft) as count:
            logits = next_logits(model, [slot.filled(prompt)])
        difference = float((logits - expected).abs().max())
        scale = float(expected.abs().max()) or 1.0
        tolerance = 1e-4 if expected.dtype == torch.float32 else 3e-2
        if count.rows != 1 or difference > tolerance * scale:
            raise ModelError(
                f"expected the soft form of a text to give the text's logits on {model.name}, got a difference of "
                f"{difference:.2g}; try another model, as this one reads more than embeddings"
            )


def next_logits(model: TransformersModel, prompts: Sequence[Prompt]) -> Tensor:
    """`B x V` logits of the first token of the reply, for prompts with as many pictures each; without gradients."""
    inputs = model.prompt_inputs(prompts)
    keep = torch.tensor([inputs["input_ids"].shape[1] - 1], device=model.device)
    with frozen(model.model), torch.no_grad():
        return forward_logits(model.model, keep, use_cache=False, **inputs)[:, 0]
