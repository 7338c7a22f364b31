"""What must hold for every family; the tests and the generator of `docs/families.md` both run these.

Each check takes a `Case` and returns the words for its cell of the table; it raises AssertionError where the
property does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor
from transformers import PreTrainedModel

from equipoise.errors import EquipoiseError
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.types import Message, Prompt
from tests.models.families import FAMILIES
from tests.models.families.stock import Stock, watch

QUESTIONS = ("What is in the picture?", "How many red circles are there, left of the blue square?", "Why?")
REPLIES = ("I'm sorry, but I can't help with that.", "Three.", "No, sorry.")
SYSTEM = "You are a helpful assistant."

GRADIENT_ERROR = {"Llama 4": 5e-3}
"""Largest relative error of a gradient, where it is not 1e-4: Llama 4's image processor computes in bfloat16, so that
the sum of three gradients is rounded in another order."""

ONE_PICTURE = ("BLIP-2", "InstructBLIP")
"""BLIP-2 of transformers passes over every picture but the first without a word; InstructBLIP fails."""


@dataclass(frozen=True)
class Case:
    """One family, loaded twice: by Equipoise and by transformers alone."""

    name: str
    """Key in `FAMILIES`."""
    model: HuggingFaceModel
    """What is tested."""
    stock: Stock
    """What it is held against."""

    @property
    def inner(self) -> PreTrainedModel:
        """The transformers model inside `model`."""
        return next(value for value in vars(self.model).values() if isinstance(value, PreTrainedModel))


def build(name: str, folder: Path) -> Case:
    """Write the family's folder and load it both ways."""
    FAMILIES[name](folder)
    return Case(name, load(str(folder)), Stock(folder))


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Noise: the hardest picture for the difference between 8-bit and float resizing."""
    noise = np.random.default_rng((seed, height, width)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def pixels(image: Image.Image) -> Tensor:
    """`3 x H x W` in [0, 1]."""
    return pil_to_tensor(image).float() / 255


def gradient(case: Case) -> str:
    """The loss has a finite gradient at the picture's own resolution, zero nearly nowhere."""
    image = picture(50, 70)
    losses, slope = case.model.loss_and_grad(pixels(image), [Prompt.ask(QUESTIONS[0], image)], REPLIES[:1])
    assert slope.shape == (3, 50, 70), slope.shape
    assert losses.shape == (1,), losses.shape
    assert torch.isfinite(slope).all(), "not finite"
    share = (slope != 0).float().mean().item()
    assert share > 0.75, f"only {share:.0%} of the pixels have a gradient"
    return "yes" if share > 0.99 else f"yes, {share:.0%} of the pixels (the processor crops)"


def eight_bit(case: Case) -> str:
    """Pixels off the 8-bit grid: the tower sees the 8-bit picture's patches, and the reply costs the same."""
    image = picture(50, 70)
    off = (torch.rand(3, 50, 70, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.9 / 255
    # Where no gradient is wanted there is no float path that could be mistaken for the 8-bit one.
    given = (pixels(image) + off).clamp(0, 1).requires_grad_(True)
    prompt = Prompt.ask(QUESTIONS[0], image)
    tokens = reply_tokens(case, prompt, REPLIES[0])
    with watch(case.stock.model) as expected:
        reference = case.stock.log_probs(prompt, tokens)
    start = case.stock.inputs(prompt)["input_ids"][0].tolist()
    # A picture that the prompt carries is replaced, a prompt without one gets it in front: the same for all.
    for variant in (prompt, Prompt.ask(QUESTIONS[0], picture(31, 33)), Prompt.ask(QUESTIONS[0])):
        with watch(case.inner) as watched:
            result = case.model.log_prob(given, [variant], REPLIES[:1])
        assert watched.ids[: len(start)] == start, f"prompt {_shown(case, watched.ids)!r}, not {_shown(case, start)!r}"
        assert watched.ids[len(start) :] in (tokens, tokens[:-1]), f"reply {_shown(case, watched.ids[len(start) :])!r}"
        assert torch.equal(watched.patches[0], expected.patches[0]), "the tower saw other patches"
        assert result.mask.tolist() == [[True] * len(tokens)], result.mask
        torch.testing.assert_close(result.tokens[0].detach(), reference, rtol=0, atol=2e-5)
    return "yes"


def reply_tokens(case: Case, prompt: Prompt, reply: str) -> list[int]:
    """The tokens that the adapter gives a reply, which must read as that reply and its end.

    Where a template puts a space before a reply, its first token has one too.
    """
    tokenizer = case.stock.processor.tokenizer
    with watch(case.inner) as watched:
        case.model.log_prob(pixels(prompt.messages[0].images[0]), [prompt], [reply])
    start = case.stock.inputs(prompt)["input_ids"].shape[1]
    fed = watched.ids[start:]
    assert tokenizer.decode(fed).strip() == reply, f"reply {tokenizer.decode(fed)!r}, not {reply!r}"
    return [*fed, tokenizer.eos_token_id]


def sharing(case: Case) -> str:
    """Three questions at once: losses and pixel gradient as from plain passes of transformers' own model."""
    image = picture(50, 70)
    prompts = [Prompt.ask(question, image) for question in QUESTIONS]
    losses, slope = case.model.loss_and_grad(pixels(image), prompts, REPLIES)
    plain = [
        case.stock.gradient(pixels(image), prompt, reply_tokens(case, prompt, reply))
        for prompt, reply in zip(prompts, REPLIES, strict=True)
    ]
    torch.testing.assert_close(losses, torch.stack([loss for loss, _ in plain]), rtol=0, atol=2e-5)
    reference = torch.stack([result for _, result in plain]).sum(0)
    error = ((slope - reference).norm() / reference.norm()).item()
    assert error < GRADIENT_ERROR.get(case.name, 1e-4), f"the gradient is off by {error:.1e}"
    return str(case.model.sharing)


def generation(case: Case) -> str:
    """Questions of several lengths, pictures of several sizes: batched, single and transformers' replies."""
    sizes = ((50, 70), (40, 44), (90, 33))
    prompts = [Prompt.ask(question, picture(*size)) for question, size in zip(QUESTIONS, sizes, strict=True)]
    together = [exchange.reply for exchange in case.model.generate(prompts, max_new_tokens=12)]
    alone = [case.model.generate([prompt], max_new_tokens=12)[0].reply for prompt in prompts]
    stock = [case.stock.reply(prompt, 12) for prompt in prompts]
    assert len(set(stock)) > 1, "the family says the same to everything, so nothing is tested"
    assert alone == stock, f"alone {alone}, transformers {stock}"
    assert together == alone, f"together {together}, alone {alone}"
    return "yes"


def several_images(case: Case) -> str:
    """Two pictures in one prompt: the first is replaced, replies and gradient are those of transformers."""
    first, second = picture(50, 70), picture(40, 44)
    prompt = Prompt.ask(QUESTIONS[0], first, second)
    if case.name in ONE_PICTURE:
        _refuses(case, prompt)
        return "one a prompt"
    loss, reference = case.stock.gradient(pixels(first), prompt, reply_tokens(case, prompt, REPLIES[0]))
    given = Prompt.ask(QUESTIONS[0], picture(31, 33), second)
    losses, slope = case.model.loss_and_grad(pixels(first), [given], REPLIES[:1])
    torch.testing.assert_close(losses[0], loss, rtol=0, atol=2e-5)
    error = ((slope - reference).norm() / reference.norm()).item()
    assert error < 1e-4, f"the gradient is off by {error:.1e}"
    replies = [case.model.generate([prompt], max_new_tokens=8)[0].reply, case.stock.reply(prompt, 8)]
    assert replies[0] == replies[1], replies
    return "yes"


def _refuses(case: Case, prompt: Prompt) -> None:
    try:
        case.model.generate([prompt], max_new_tokens=1)
    except EquipoiseError:
        return
    raise AssertionError("two pictures where the model takes one were taken")


def system_text(case: Case) -> str:
    """A system text reaches the model once, before the question, whether or not there is a role for it."""
    image = picture(50, 70)
    prompt = Prompt.ask(QUESTIONS[0], image, system=SYSTEM)
    with watch(case.inner) as watched:
        case.model.log_prob(pixels(image), [prompt], REPLIES[:1])
    shown = _shown(case, watched.ids)
    assert shown.count(SYSTEM) == 1, f"the system text is there {shown.count(SYSTEM)} times"
    assert shown.index(SYSTEM) < shown.index(QUESTIONS[0]), "the question comes first"
    talk = Prompt((*Prompt.ask(QUESTIONS[1], image).messages, Message("assistant", "Two."), Message("user", "Why?")))
    with watch(case.inner) as watched:
        case.model.log_prob(pixels(image), [talk], REPLIES[:1])
    assert [word in _shown(case, watched.ids) for word in (QUESTIONS[1], "Two.", "Why?")] == [True] * 3, (
        "a turn is lost"
    )
    return "role" if _has_role(case) else "folded"


def _has_role(case: Case) -> bool:
    processor = case.stock.processor
    template = processor.chat_template or processor.tokenizer.chat_template
    if template is None:
        return False
    turns = [{"role": role, "content": [{"type": "text", "text": role + SYSTEM}]} for role in ("system", "user")]
    try:
        return "system" + SYSTEM in processor.tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=False
        )
    except TemplateError:
        return False


def as_found(case: Case) -> str:
    """Training flags, `requires_grad`, padding side and settings survive use and errors."""
    image = picture(50, 70)
    prompt = Prompt.ask(QUESTIONS[0], image)
    # transformers puts hooks that record hidden states on a model in its first pass, and Qwen remembers positions:
    # a pass of its own comes first, so that only what Equipoise leaves behind is seen.
    with torch.no_grad():
        case.inner(**case.stock.inputs(prompt))
    with _unusual(case.inner):
        before = _state(case)
        case.model.loss_and_grad(pixels(image), [prompt, Prompt.ask("Why?", image)], REPLIES[:2])
        case.model.generate([prompt], max_new_tokens=2)
        try:
            case.model.log_prob(pixels(image), [prompt], [""])
        except EquipoiseError:
            pass
        else:
            raise AssertionError("an empty reply was taken")
        after = _state(case)
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, f"changed: {changed}"
    return "yes"


@contextmanager
def _unusual(model: PreTrainedModel) -> Iterator[None]:
    """Train mode and mixed `requires_grad`, so that setting a default is not mistaken for restoring."""
    flags = [weight.requires_grad for weight in model.parameters()]
    training = model.training
    for i, weight in enumerate(model.parameters()):
        weight.requires_grad_(i % 2 == 0)
    model.train()
    try:
        yield
    finally:
        model.train(training)
        for weight, flag in zip(model.parameters(), flags, strict=True):
            weight.requires_grad_(flag)
            weight.grad = None


def _state(case: Case) -> dict[str, Any]:
    model, tokenizer = case.inner, case.model.processor.tokenizer
    return {
        "training": [module.training for module in model.modules()],
        "requires_grad": [weight.requires_grad for weight in model.parameters()],
        "grad": [weight.grad is None for weight in model.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "rope_deltas": [str(getattr(module, "rope_deltas", None)) for module in model.modules()],
        "padding_side": tokenizer.padding_side,
        "config": model.config.to_json_string(use_diff=False),
        "attention": model.config._attn_implementation,
        "generation_config": model.generation_config.to_json_string(use_diff=False),
    }


def _shown(case: Case, ids: Sequence[int]) -> str:
    return case.stock.processor.tokenizer.decode(ids)


CHECKS: dict[str, Callable[[Case], str]] = {
    "gradient": gradient,
    "8-bit exact": eight_bit,
    "shared prefix": sharing,
    "batched = single": generation,
    "several pictures": several_images,
    "system text": system_text,
    "left as found": as_found,
}
"""Column of the table in `docs/families.md` to the check that fills it."""
