"""Local models as judges: a text model's next token, or what a multimodal model makes of a picture and a question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from equipoise.errors import ModelError
from equipoise.judges.llm_interface import TOP, Completion, CompletionRequest, CompletionToken
from equipoise.judges.run_judge import error_line
from equipoise.media.quantize import to_pixels
from equipoise.types import Prompt

if TYPE_CHECKING:
    from equipoise.models.base import OpenModel


class HFBackend:
    """A text model of transformers, on this machine.

    Where a request offers options it is not asked to write: the probabilities of the options as the next token are
    compared, which is one forward pass and cannot be argued with.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, revision: str = "") -> None:
        """Take a model that is loaded.

        Args:
            model: a transformers causal language model, in evaluation mode.
            tokenizer: its tokenizer; without a chat template the messages are written one after the other.
            name: what people call it.
            revision: which weights exactly.
        """
        self._model, self._tokenizer = model, tokenizer
        self._name, self._revision = name, revision

    @classmethod
    def load(cls, name: str, *, device: str | None = None, dtype: str | None = None) -> HFBackend:
        """Load a model by name.

        Args:
            name: see `models.load`: a folder, a `.gguf` file, `org/name` or `org/name@revision`, with or without an
                adapter.
            device: `cpu`, `cuda`...; by default CUDA where there is one.
            dtype: number format; by default the one the weights are stored in.

        Raises:
            ModelError: it is not there, or is no text model.
            UsageError: an unknown device or number format.
        """
        from equipoise.models.load import find_device, find_dtype
        from equipoise.models.model_parts import load_parts

        target = find_device(device)
        parts = load_parts(name, device=target, dtype=find_dtype(dtype, target) if dtype else "auto")
        if parts.reads_pictures:
            raise ModelError(
                f"expected a text model to judge with, got {name!r}, which reads pictures; try a causal language model"
            )
        return cls(parts.model, parts.processor, name=name, revision=parts.revision)

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The model and its weights."""
        return {"local": self._name, "revision": self._revision, "dtype": str(self._model.dtype), "greedy": True}

    def complete(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """One completion for each request, in order, one at a time; greedy."""
        done = []
        for request in requests:
            try:
                done.append(self._one(request))
            except (RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
                done.append(Completion(failure=f"failed: {error_line(error, 160)}"))
        return done

    def _one(self, request: CompletionRequest) -> Completion:
        import torch

        tokens = self._tokens(request)
        limit = getattr(self._model.config, "max_position_embeddings", None)
        if limit and tokens.shape[1] + (0 if request.options else request.max_tokens) > limit:
            return Completion(failure=f"cannot read {tokens.shape[1]} tokens, more than its {limit}")
        with torch.inference_mode():
            if request.options:
                logits = self._model(input_ids=tokens).logits[0, -1]
                return self._option(logits.float().log_softmax(-1), request.options)
            return self._written(tokens, request.max_tokens)

    def _tokens(self, request: CompletionRequest) -> Any:
        """`1 x T` ids of the prompt."""
        tokenizer, device = self._tokenizer, self._model.device
        if request.raw is not None:
            # A raw prompt holds its own control tokens.
            return tokenizer(request.raw, return_tensors="pt", add_special_tokens=False)["input_ids"].to(device)
        if not tokenizer.chat_template:
            texts = [message.text for message in request.messages]
            text = "\n\n".join([*([request.system] if request.system is not None else []), *texts, "Answer: "])
            return tokenizer(text.rstrip(), return_tensors="pt")["input_ids"].to(device)
        import jinja2

        system = [{"role": "system", "content": request.system}] if request.system is not None else []
        chat = [*system, *({"role": message.role, "content": message.text} for message in request.messages)]
        options = {**request.template, "add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
        try:
            encoded = tokenizer.apply_chat_template(chat, **options)
        except jinja2.TemplateError:
            # Some templates know no system role: its text then goes first in the user's turn.
            if len(chat) < 2 or chat[0]["role"] != "system":
                raise ValueError("its chat template refuses the conversation") from None
            folded = [{**chat[1], "content": f"{chat[0]['content']}\n\n{chat[1]['content']}"}, *chat[2:]]
            encoded = tokenizer.apply_chat_template(folded, **options)
        return encoded["input_ids"].to(device)

    def _option(self, log_probabilities: Any, options: Sequence[str]) -> Completion:
        """The likeliest option; each one's probability is that of its token, with and without a blank before it."""
        top = {}
        for option in options:
            ids = set()
            for text in (option, f" {option}"):
                pieces = self._tokenizer.encode(text, add_special_tokens=False)
                if len(pieces) == 1 and self._tokenizer.decode(pieces).strip() == option:
                    ids.add(pieces[0])
            if not ids:
                return Completion(failure=f"has no token of its own for {option!r}")
            # Both tokens mean the option, so that their probabilities add up; the limit keeps the logarithm finite.
            top[option] = math.log(max(sum(math.exp(float(log_probabilities[i])) for i in ids), 1e-30))
        best = max(top, key=top.__getitem__)
        return Completion(best, (CompletionToken(best, top),))

    def _written(self, tokens: Any, max_tokens: int) -> Completion:
        """What the model writes, with the likeliest tokens at each place."""
        out = self._model.generate(
            tokens,
            attention_mask=tokens.new_ones(tokens.shape),
            do_sample=False,
            max_new_tokens=max_tokens,
            return_dict_in_generate=True,
            output_logits=True,
            pad_token_id=self._tokenizer.pad_token_id or 0,
        )
        new = out.sequences[0, tokens.shape[1] :].tolist()
        special = set(self._tokenizer.all_special_ids)
        placed, text = [], ""
        for i, logits in enumerate(out.logits):
            values, ids = logits[0].float().log_softmax(-1).topk(min(TOP, logits.shape[-1]))
            top = {self._tokenizer.decode([j]): v for j, v in zip(ids.tolist(), values.tolist(), strict=True)}
            # Pieces of one character decode only together: each token gets what it adds to the text so far.
            longer = self._tokenizer.decode([j for j in new[: i + 1] if j not in special])
            placed.append(CompletionToken(longer[len(text) :], top))
            text = longer
        return Completion(text, tuple(placed), cut=len(new) >= max_tokens)


class HFVisionBackend:
    """A multimodal model on this machine, asked about an exchange's picture; one without a picture is not judged."""

    def __init__(self, model: OpenModel) -> None:
        """Take a model that is loaded."""
        self._model = model

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The model and its weights."""
        return {"local": self._model.name, "revision": self._model.revision, "pictures": True}

    def complete(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """One completion for each request, in order: the likeliest of the options."""
        done = []
        for request in requests:
            try:
                done.append(self._one(request))
            except (RuntimeError, ValueError, ModelError) as error:
                done.append(Completion(failure=f"failed: {error_line(error, 160)}"))
        return done

    def _one(self, request: CompletionRequest) -> Completion:
        import torch

        images = request.messages[-1].images
        if not images:
            return Completion(failure="judges only with a picture, and there is none")
        prompt = Prompt.ask(request.messages[-1].text, *images, system=request.system)
        pixels = to_pixels(images[0])
        with torch.no_grad():
            count = len(request.options)
            scores = self._model.log_prob(pixels, [prompt] * count, list(request.options), end=False)
        top = dict(zip(request.options, scores.total.tolist(), strict=True))
        best = max(top, key=top.__getitem__)
        return Completion(best, (CompletionToken(best, top),))
