from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from equipoise.errors import ModelError, OutOfMemoryError, UsageError
from equipoise.models import hf
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.prefix_sharing import PrefixCacheSupport
from equipoise.types import Message, Prompt

QUESTIONS = ("What is in the picture?", "Why?", "How many red shapes are left of the square?", "Where is it?")
REPLIES = ("I'm sorry, but I can't help with that.", "No.", "There are three.", "I cannot.")
PROMPTS = tuple(Prompt.ask(question) for question in QUESTIONS)
NEAR = {"rtol": 1e-4, "atol": 1e-6}


def plain(model: HuggingFaceModel, pixels: Tensor, prompts: object, replies: object, **options: object) -> object:
    """The same, question by question: one row each, nothing shared."""
    parts = [
        model.loss_and_grad(pixels, [prompt], [reply], **options)
        for prompt, reply in zip(prompts, replies, strict=True)
    ]
    return torch.cat([loss for loss, _ in parts]), torch.stack([gradient for _, gradient in parts]).sum(0)


def assert_same(result: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(result[0], expected[0], **NEAR)
    assert float(expected[1].norm()) > 0
    assert float((result[1] - expected[1]).norm() / expected[1].norm()) < 1e-4


def test_a_row_is_what_transformers_computes(model: HuggingFaceModel, picture: Image.Image, pixels: Tensor) -> None:
    rendered = f"<s>USER: <image>\n{QUESTIONS[0]} ASSISTANT:"
    text = model.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTIONS[0]}]}],
        add_generation_prompt=True,
    )
    assert QUESTIONS[0] in text
    assert rendered.split()[-1] in text
    row = model.encode(pixels, [PROMPTS[0]], [REPLIES[0]])[0]
    inputs = model.processor(images=picture, text=text, return_tensors="pt")
    assert torch.equal(inputs["input_ids"][0], row.tokens[: row.prompt_length])
    reply = row.tokens[row.prompt_length :]
    assert model.processor.tokenizer.decode(reply[:-1]).strip() == REPLIES[0]
    assert reply[-1] == model.processor.tokenizer.eos_token_id
    with torch.no_grad():
        logits = model.model(input_ids=row.tokens[None], pixel_values=inputs["pixel_values"]).logits[0]
    expected = logits.log_softmax(-1)[row.prompt_length - 1 : -1].gather(-1, reply[:, None])[:, 0]
    result = model.log_prob(pixels, [PROMPTS[0]], [REPLIES[0]])
    torch.testing.assert_close(result.tokens[0], expected, **NEAR)
    torch.testing.assert_close(result.total[0], expected.sum(), **NEAR)


def test_the_prefix_is_shared_and_equal(model: HuggingFaceModel, pixels: Tensor) -> None:
    assert model.sharing == "shared prefix"
    assert_same(model.loss_and_grad(pixels, PROMPTS, REPLIES), plain(model, pixels, PROMPTS, REPLIES))


def test_the_plain_batch_is_equal(model: HuggingFaceModel, pixels: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(model, pixels, PROMPTS, REPLIES)
    monkeypatch.setattr(model, "_sharing", PrefixCacheSupport(False, "for the test"))
    assert_same(model.loss_and_grad(pixels, PROMPTS, REPLIES), expected)
    model.micro_batch = 3
    assert_same(model.loss_and_grad(pixels, PROMPTS, REPLIES), expected)


@pytest.mark.parametrize(("micro_batch", "checkpointing"), [(1, False), (3, False), (None, True), (2, True)])
def test_memory_knobs_change_no_number(
    model: HuggingFaceModel, pixels: Tensor, micro_batch: int | None, checkpointing: bool
) -> None:
    expected = model.loss_and_grad(pixels, PROMPTS, REPLIES)
    model.micro_batch, model.gradient_checkpointing = micro_batch, checkpointing
    assert_same(model.loss_and_grad(pixels, PROMPTS, REPLIES), expected)
    leaf = pixels.clone().requires_grad_()
    losses = -model.log_prob(leaf, PROMPTS, REPLIES).mean
    losses.sum().backward()
    assert_same((losses.detach(), leaf.grad), expected)


def test_prompts_that_begin_differently_are_grouped(
    model: HuggingFaceModel, pixels: Tensor, picture: Image.Image
) -> None:
    other = picture.rotate(180)
    prompts = [
        Prompt.ask("Why?", system="Be brief."),
        Prompt.ask("Why?", picture, other),
        Prompt.ask("What is in the picture?", system="Be brief."),
        Prompt.ask("Where is it?", picture, other),
        Prompt((Message("user", "Hello."), Message("assistant", "Hello!"), Message("user", "What is there?"))),
    ]
    replies = [*REPLIES, "A circle."]
    assert_same(model.loss_and_grad(pixels, prompts, replies), plain(model, pixels, prompts, replies))


def test_one_question_with_two_replies(model: HuggingFaceModel, pixels: Tensor) -> None:
    prompts = [PROMPTS[0]] * 2
    assert_same(model.loss_and_grad(pixels, prompts, REPLIES[:2]), plain(model, pixels, prompts, REPLIES[:2]))


def test_the_end_token_is_optional(model: HuggingFaceModel, pixels: Tensor) -> None:
    ended, open_ended = (model.log_prob(pixels, PROMPTS, REPLIES, end=end) for end in (True, False))
    assert torch.equal(ended.mask.sum(1), open_ended.mask.sum(1) + 1)
    shorter = open_ended.tokens.shape[1]
    torch.testing.assert_close(ended.tokens[:, :shorter][open_ended.mask], open_ended.tokens[open_ended.mask], **NEAR)


def test_the_loss_is_that_of_the_eight_bit_picture(model: HuggingFaceModel, pixels: Tensor) -> None:
    near = (pixels * 254 / 255 + 0.5 / 255).clamp(0, 1)
    saved = (near * 255).round() / 255
    one, other = (model.log_prob(value, PROMPTS, REPLIES).tokens for value in (near, saved))
    assert torch.equal(one, other)


def test_shifted_questions(model: HuggingFaceModel, pixels: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(1)
    shift = (0.1 * torch.randn(4, 5, model.embedding_width, generator=random)).requires_grad_()
    shared = model.loss_and_grad(pixels, PROMPTS, REPLIES, question_shift=shift)
    slope, shift.grad = shift.grad, None
    assert float((shared[0] - model.loss_and_grad(pixels, PROMPTS, REPLIES)[0]).abs().min()) > 1e-5
    monkeypatch.setattr(model, "_sharing", PrefixCacheSupport(False, "for the test"))
    assert_same(shared, model.loss_and_grad(pixels, PROMPTS, REPLIES, question_shift=shift))
    torch.testing.assert_close(slope, shift.grad, rtol=1e-3, atol=1e-6)
    zero = torch.zeros(4, 5, model.embedding_width)
    assert_same(
        model.loss_and_grad(pixels, PROMPTS, REPLIES, question_shift=zero),
        model.loss_and_grad(pixels, PROMPTS, REPLIES),
    )


def test_greedy_replies_are_the_most_likely_ones(model: HuggingFaceModel, picture: Image.Image) -> None:
    prompts = [Prompt.ask(question, picture) for question in QUESTIONS] + [Prompt.ask("Hello?")]
    together = model.generate(prompts, max_new_tokens=6)
    alone = [model.generate([prompt], max_new_tokens=6)[0] for prompt in prompts]
    assert [exchange.reply for exchange in together] == [exchange.reply for exchange in alone]
    assert [exchange.prompt for exchange in together] == prompts
    assert {exchange.finish for exchange in together} <= {"stop", "length"}
    model.micro_batch = 2
    assert [exchange.reply for exchange in model.generate(prompts, max_new_tokens=6)] == [e.reply for e in alone]


def snapshot(model: HuggingFaceModel) -> list[object]:
    inner, tokenizer = model.model, model.processor.tokenizer
    return [
        [module.training for module in inner.modules()],
        [parameter.requires_grad for parameter in inner.parameters()],
        [parameter.grad for parameter in inner.parameters()],
        [len(module._forward_hooks) for module in inner.modules()],
        ["forward" in vars(module) for module in inner.modules()],
        [config._attn_implementation for config in (inner.config, inner.config.text_config)],
        (tokenizer.padding_side, tokenizer.pad_token, inner.generation_config.to_dict()),
    ]


def boom(*_: object, **__: object) -> None:
    raise ZeroDivisionError


JOBS: list[Callable[[HuggingFaceModel, Tensor], object]] = [
    lambda model, pixels: model.loss_and_grad(
        pixels, PROMPTS, REPLIES, question_shift=torch.zeros(4, 3, model.embedding_width)
    ),
    lambda model, pixels: model.log_prob(pixels, PROMPTS, REPLIES),
    lambda model, pixels: model.generate(PROMPTS[:2], max_new_tokens=2),
]


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_found(
    model: HuggingFaceModel, pixels: Tensor, job: Callable[[HuggingFaceModel, Tensor], object], fails: bool
) -> None:
    assert model.sharing
    model.gradient_checkpointing = True
    layer: nn.Module = model.model.model.language_model.layers[1].mlp
    model.model.train()
    model.model.lm_head.weight.requires_grad_(False)
    before = snapshot(model)
    hook = layer.register_forward_pre_hook(boom) if fails else None
    try:
        if fails:
            with pytest.raises(ModelError, match="ZeroDivisionError"):
                job(model, pixels)
        else:
            job(model, pixels)
    finally:
        if hook is not None:
            hook.remove()
        after = snapshot(model)
        model.model.eval().requires_grad_(True)
    assert before == after


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
)
def test_a_full_device_says_which_knob_to_turn(
    model: HuggingFaceModel, pixels: Tensor, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(hf, "plain_log_probs", full)
    with pytest.raises(OutOfMemoryError, match=r"micro_batch=.*gradient_checkpointing.*dtype.*quantize"):
        model.loss_and_grad(pixels, PROMPTS[:1], REPLIES[:1])


def test_other_errors_of_a_forward_pass_are_one_line_with_their_cause(
    model: HuggingFaceModel, pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(hf, "plain_log_probs", broken)
    with pytest.raises(ModelError, match="shapes differ") as caught:
        model.loss_and_grad(pixels, PROMPTS[:1], REPLIES[:1])
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("prompts", "replies", "shift"),
    [
        ((), (), None),
        (PROMPTS, REPLIES[:2], None),
        (PROMPTS[:1], ("",), None),
        (PROMPTS[:1], REPLIES[:1], torch.zeros(2, 3, 32)),
        ((Prompt(()),), ("Yes.",), None),
    ],
)
def test_wrong_calls_are_said_in_one_line(
    model: HuggingFaceModel, pixels: Tensor, prompts: object, replies: object, shift: Tensor | None
) -> None:
    with pytest.raises(UsageError, match=r"^expected .*, got .*; try [^\n]*$"):
        model.log_prob(pixels, prompts, replies, question_shift=shift)


def test_a_micro_batch_of_nothing_is_refused(model: HuggingFaceModel) -> None:
    with pytest.raises(UsageError, match="micro_batch"):
        HuggingFaceModel(model.model, model.processor, name="x", revision="y", micro_batch=0)


def test_half_precision_shares_too(model: HuggingFaceModel, llava_folder: object, pixels: Tensor) -> None:
    from equipoise.models.load import load

    half = load(str(llava_folder), device="cpu", dtype="bfloat16")
    losses, gradient = half.loss_and_grad(pixels, PROMPTS, REPLIES)
    expected = model.loss_and_grad(pixels, PROMPTS, REPLIES)
    assert half.sharing == "shared prefix"
    torch.testing.assert_close(losses, expected[0], rtol=0.02, atol=0.02)
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), expected[1].flatten(), dim=0) > 0.95
