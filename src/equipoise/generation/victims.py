"""Victims: models whose needless refusals are looked for, with a score of how close a prompt is to a refusal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from PIL.Image import Image
from torch import Tensor

from equipoise.errors import ModelError, UsageError
from equipoise.media.quantize import to_pixels
from equipoise.models.base import OpenModel, require_reads_pictures
from equipoise.models.transformers_model import TransformersModel
from equipoise.types import ChatModel, Exchange, Judge, Prompt, Verdict

REPLY_TOKENS = 64
"""Length of a reply that is judged."""


class PromptVictim(Protocol):
    """A model that may refuse needlessly."""

    @property
    def name(self) -> str:
        """Name, revision and number format where they are known, for the recipe."""
        ...

    def scores(self, texts: Sequence[str]) -> list[float]:
        """How close each prompt is to a refusal; higher is closer. Values of one victim are comparable."""
        ...

    def replies(self, texts: Sequence[str]) -> list[tuple[Exchange, Verdict]]:
        """The reply to each prompt with the verdict of a judge of refusals."""
        ...


class OpenVictim:
    """A victim with weights: its score is the log-probability per token of one refusal after the prompt.

    Prompts are scored as text inside the victim's chat template, so that the writer may have any other tokenizer.

    Args:
        model: the victim.
        refusal: how this model begins its refusals, such as "I'm sorry, but I can't"; see `find_refusal_target`.
        judge: of replies.
        picture: sent with every prompt; None for prompts of text alone.
        shared_prefix: compute once what all scored prompts begin with; the result is the same.

    Raises:
        UsageError: an empty refusal.
        ModelError: a picture for a model that reads none.
    """

    def __init__(
        self,
        model: OpenModel,
        refusal: str,
        judge: Judge,
        *,
        picture: Image | None = None,
        shared_prefix: bool = True,
    ) -> None:
        if not refusal.strip():
            raise UsageError("expected the beginning of a refusal, got an empty text; try \"I'm sorry, but I can't\"")
        if picture is not None:
            require_reads_pictures(model, "refuse prompts with a picture")
        self.model = model
        self.refusal = refusal
        self.picture = picture
        self._judge = judge
        self._shared = shared_prefix
        self._pixels = None if picture is None else to_pixels(picture)

    @property
    def name(self) -> str:
        """Name, revision and number format."""
        return self.model.exact_name

    def prompt(self, text: str) -> Prompt:
        """As the victim receives it."""
        return Prompt.ask(text) if self.picture is None else Prompt.ask(text, self.picture)

    @torch.no_grad()
    def scores(self, texts: Sequence[str]) -> list[float]:
        """Log-probability per token of the refusal after each prompt."""
        if not texts:
            return []
        prompts, refusals = [self.prompt(text) for text in texts], [self.refusal] * len(texts)
        if self._shared and self._pixels is None and isinstance(self.model, TransformersModel):
            return self.model.shared_log_prob(prompts, refusals, end=False).mean.tolist()
        return self.model.log_prob(self._pixels, prompts, refusals, end=False).mean.tolist()

    def gradient(self, text: str) -> Tensor:
        """`V` first-order gain in the score if the last token of the prompt were each word of the victim's vocabulary.

        The gain of word w in place of the present word u is `(E_w - E_u) . dscore/dE_u`; the part of u is the same for
        all words and left out.

        Raises:
            ModelError: the victim's weights are not those of a transformers model.
        """
        if not isinstance(self.model, TransformersModel):
            raise ModelError(
                f"expected a transformers model as the victim of grown prompts, got {self.model.name}; "
                "try --method mutated, which needs replies only"
            )
        position = self._last_token(text)
        embeddings = self.model.model.get_input_embeddings().weight
        # A shift of 0 changes nothing, and its gradient is that of the embeddings that it is added to.
        # Not a one-hot vector over the vocabulary, as usual in GCG: 50,000 columns for one row of gradient. The
        # gradient g in the embedding of the last token says the same, since e_w . g is the first-order gain of putting
        # word w there.
        shift = torch.zeros(1, position + 1, embeddings.shape[1], requires_grad=True)
        with torch.enable_grad():
            score = self.model.log_prob(
                self._pixels, [self.prompt(text)], [self.refusal], end=False, question_shift=shift
            )
            (gradient,) = torch.autograd.grad(score.mean.sum(), shift)
        with torch.no_grad():
            # The rest of the table of embeddings is padding in some models: never chosen, as no token decodes to it.
            return (embeddings.detach().float() @ gradient[0, position].to(embeddings.device).float()).cpu()

    def _last_token(self, text: str) -> int:
        """Index of the last token of the text, counted from behind the picture.

        Two prompts that differ in their last word only are encoded: what follows it is the template's, so that the
        length of their common ending says where the text ends.
        """
        model = self.model
        assert isinstance(model, TransformersModel)
        rows = model.encode_rows(
            [self.prompt(text), self.prompt(f"{text} Xylophone")], [self.refusal] * 2, pixels=self._pixels
        )
        first, other = (row.tokens[: row.prompt_length] for row in rows)
        shortest = min(len(first), len(other))
        # Two prompts that differ in their last word alone, compared from the end: what agrees is the template after the
        # text. The text's last token is then found in any template, without its special tokens being known.
        differs = (first[-shortest:].flip(0) != other[-shortest:].flip(0)).nonzero()
        ending = int(differs[0]) if len(differs) else shortest - 1
        return len(first) - 1 - ending - rows[0].picture_end

    def replies(self, texts: Sequence[str]) -> list[tuple[Exchange, Verdict]]:
        """Greedy replies with their verdicts."""
        exchanges = self.model.generate([self.prompt(text) for text in texts], max_new_tokens=REPLY_TOKENS)
        return list(zip(exchanges, self._judge(exchanges), strict=True))


class SampledVictim:
    """A victim that only replies, such as a served one: its score is the log of the share of refusals among samples.

    Args:
        model: any chat model; a served one should sample (a temperature above 0), or all samples are the same.
        judge: of replies.
        samples: replies to each prompt.
    """

    def __init__(self, model: ChatModel, judge: Judge, *, samples: int = 4) -> None:
        if samples < 1:
            raise UsageError(f"expected at least 1 sample, got {samples}; try 4")
        self.model = model
        self.samples = samples
        self._judge = judge

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    def scores(self, texts: Sequence[str]) -> list[float]:
        """Log of the share of refusals, with half a refusal added to both sides, so that it is finite."""
        prompts = [Prompt.ask(text) for text in texts for _ in range(self.samples)]
        verdicts = self._judge(self.model.generate(prompts, max_new_tokens=REPLY_TOKENS)) if prompts else []
        scores = []
        for start in range(0, len(verdicts), self.samples):
            labels = [verdict.refused for verdict in verdicts[start : start + self.samples]]
            scored = [label for label in labels if label is not None]
            # A prompt that got no reply is not one that was refused half of the time: it counts as answered.
            scores.append(math.log((sum(scored) + 0.5) / ((len(scored) or self.samples) + 1)))
        return scores

    def replies(self, texts: Sequence[str]) -> list[tuple[Exchange, Verdict]]:
        """One more reply to each prompt, with its verdict."""
        exchanges = self.model.generate([Prompt.ask(text) for text in texts], max_new_tokens=REPLY_TOKENS)
        return list(zip(exchanges, self._judge(exchanges), strict=True))
