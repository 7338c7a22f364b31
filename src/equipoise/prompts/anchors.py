"""Anchors of the optimisation: requests of known harm, their states under several prompts, how often they comply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from equipoise.errors import UsageError
from equipoise.models.decoding import decode, greedy_config
from equipoise.models.language_tower import LanguageTower
from equipoise.models.length_groups import picture_batches
from equipoise.models.reply_log_probs import forward_logits
from equipoise.models.state import frozen
from equipoise.models.transformers_model import TransformersModel
from equipoise.prompts.policy import joined
from equipoise.prompts.refusal_space import SpaceData
from equipoise.types import Exchange, Judge, Prompt

AnchorKind = Literal["harmful", "harmless", "pseudo-harmful"]
BATCH: Final = 16
"""Prompts in one forward pass."""
AT_ONCE: Final = 12_000
"""Characters of prompts in a pass with gradients, padding counted. Some attention keeps a square of the padded length
for the backward pass: sixteen prompts of a thousand tokens took 20 GB of it."""
ReplyCount = Callable[[Sequence[Prompt]], list[list[Exchange]]]
"""Prompts to several replies each."""


@dataclass(frozen=True)
class Anchor:
    """A request of known harm."""

    prompt: Prompt
    """What a user asks, with or without pictures."""
    kind: AnchorKind
    """`pseudo-harmful` is harmless and only looks harmful: what a prompt for safety refuses needlessly."""

    @property
    def target(self) -> float:
        """The label of the loss: 0 is to be refused, 1 to be answered."""
        return 0.0 if self.kind == "harmful" else 1.0

    @property
    def modality(self) -> str:
        """`picture` or `text`."""
        return "picture" if self.prompt.pictures else "text"


def bounded_batches(prompts: Sequence[Prompt], size: int) -> Iterator[list[int]]:
    """Indices as `batches` groups them, with fewer of the prompts that are documents: one at least."""
    for group in picture_batches(prompts, size):
        part: list[int] = []
        longest = 0
        for index in group:
            length = sum(len(message.text) for message in prompts[index].messages)
            if part and max(longest, length) * (len(part) + 1) > AT_ONCE:
                yield part
                part, longest = [], 0
            part.append(index)
            longest = max(longest, length)
        yield part


class StateReader:
    """Reads the state of the last token, which decides how a reply begins.

    Args:
        model: of transformers.
        layer: the input of this layer; None is the state after the final norm, as the paper takes it.
        prompt: a small prompt, with a picture where layers only run with one.

    Raises:
        ModelError: the decoder was not recognised.
        UsageError: it has no such layer.
    """

    def __init__(self, model: TransformersModel, layer: int | None, prompt: Prompt) -> None:
        self.model = model
        self.layer = layer
        self._tower = LanguageTower.of(model.model, model.prompt_inputs([prompt, prompt]))
        self.depth = len(self._tower.layers)
        if layer is not None and not 0 <= layer < self.depth:
            raise UsageError(
                f"expected a layer of 0 to {self.depth - 1}, got {layer}; "
                "try none, which takes the state after the final norm"
            )

    def __call__(self, prompts: Sequence[Prompt]) -> Tensor:
        """`B x width` float32 states of prompts with as many pictures each; gradients are kept where there are any."""
        inputs = self.model.prompt_inputs(prompts)
        keep = torch.tensor([inputs["input_ids"].shape[1] - 1], device=self.model.device)
        with frozen(self.model.model), self._recorded() as states:
            forward_logits(self.model.model, keep, use_cache=False, **inputs)
        # Prompts are padded on the left, so the last token is that of the prompt in every row.
        return states[-1][:, -1].float()

    @contextmanager
    def _recorded(self) -> Iterator[list[Tensor]]:
        states: list[Tensor] = []

        def record_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states.append(args[0] if args else kwargs["hidden_states"])

        def record_output(_module: nn.Module, _args: Any, output: Tensor) -> None:
            states.append(output)

        if self.layer is None:
            handle = self._tower.final_norm.register_forward_hook(record_output)
        else:
            handle = self._tower.layers[self.layer].register_forward_pre_hook(record_input, with_kwargs=True)
        try:
            yield states
        finally:
            handle.remove()


def read_states(reader: StateReader, prompts: Sequence[Prompt], size: int = BATCH) -> Tensor:
    """`N x width` float32 on the CPU, without gradients."""
    rows: dict[int, Tensor] = {}
    with torch.no_grad():
        for indices in picture_batches(prompts, size):
            rows.update(zip(indices, reader([prompts[i] for i in indices]).cpu(), strict=True))
    return torch.stack([rows[i] for i in range(len(prompts))])


def with_system(prompt: Prompt, text: str | None) -> Prompt:
    """The prompt with a text in front of its system text; as it is where the text is None."""
    return prompt if text is None else replace(prompt, system=joined(text, prompt.system))


def compliance(
    replies: Sequence[Sequence[Exchange]], anchors: Sequence[Anchor], judge: Judge, *, longest: int | None = None
) -> list[float]:
    """The share of each anchor's replies that answer it; 0.5 where no reply could be scored.

    A harmful request counts as answered only if the judge does not call the reply harmless: a reply about something
    else is no compliance.

    Args:
        replies: of each anchor.
        anchors: the requests.
        judge: labels refusals, and harm where it can.
        longest: only so many of the longest replies count; the paper takes 20 of 25.
    """
    shares = []
    for group, anchor in zip(replies, anchors, strict=True):
        # The paper drops the shortest samples: a reply that the length limit or an early end cut says least of
        # compliance.
        kept = sorted(group, key=lambda exchange: len(exchange.reply), reverse=True)[:longest]
        values: list[bool] = []
        for verdict in judge(kept):
            if verdict.refused is None:
                continue
            # A reply to a harmful request may refuse nothing and still give nothing (a warning, a changed subject). It
            # has not complied, so the probe must not learn its state as compliance.
            harmless = anchor.kind == "harmful" and verdict.harmful is False
            values.append(not verdict.refused and not harmless)
        shares.append(sum(values) / len(values) if values else 0.5)
    return shares


def greedy_replies(model: TransformersModel, max_new_tokens: int) -> ReplyCount:
    """One greedy reply to each prompt."""
    return lambda prompts: [[exchange] for exchange in model.generate(prompts, max_new_tokens=max_new_tokens)]


def sampled_replies(model: TransformersModel, count: int, max_new_tokens: int, seed: int) -> ReplyCount:
    """Several replies to each prompt, sampled as in the paper: T 1, top-p 0.9, top-k 50, at least 10 tokens."""

    def sample(prompts: Sequence[Prompt]) -> list[list[Exchange]]:
        replies: list[list[Exchange]] = [[] for _ in prompts]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for indices in picture_batches(prompts, BATCH):
                inputs = model.prompt_inputs([prompts[i] for i in indices])
                config = greedy_config(model.model, model.stop_tokens, max_new_tokens)
                config.update(
                    do_sample=True,
                    temperature=1.0,
                    top_p=0.9,
                    top_k=50,
                    num_return_sequences=count,
                    min_new_tokens=min(10, max_new_tokens),
                    pad_token_id=model.stop_tokens[0],
                )
                with frozen(model.model):
                    output = decode(model.model, inputs, config)
                texts = model.processor.tokenizer.batch_decode(
                    output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
                )
                for row, text in enumerate(texts):
                    index = indices[row // count]
                    replies[index].append(Exchange(prompts[index], text.strip(), "stop", model.name))
        return replies

    return sample


def collect(
    reader: StateReader,
    anchors: Sequence[Anchor],
    texts: Sequence[str | None],
    replies: ReplyCount,
    judge: Judge,
    *,
    longest: int | None = None,
) -> SpaceData:
    """States and compliance of every anchor under every system text; None is no text.

    Judges read the requests without the texts: what was asked is the anchor's own prompt.
    """
    states, comply = [], []
    for text in texts:
        prompts = [with_system(anchor.prompt, text) for anchor in anchors]
        # Row order of everything below: all anchors under the first text, then all under the second, and so on.
        # `SpaceData` and its cross-validation rely on it: rows of one request must stay in one fold.
        states.append(read_states(reader, prompts))
        groups = [
            [replace(exchange, prompt=anchor.prompt) for exchange in group]
            for group, anchor in zip(replies(prompts), anchors, strict=True)
        ]
        comply += compliance(groups, anchors, judge, longest=longest)
    count = len(texts)
    return SpaceData(
        torch.cat(states),
        tuple(anchor.modality for anchor in anchors) * count,
        torch.tensor(comply),
        torch.tensor([anchor.target for anchor in anchors] * count),
        tuple(range(len(anchors))) * count,
    )
