"""Pictures that a processor or a model refuses: an error of the picture in one line, and the others go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from equipoise.errors import EquipoiseError, ModelError, PictureError, UsageError
from equipoise.models import generation
from equipoise.models.differentiable_processor import encode, float_tensors, picture_errors
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.types import Exchange, Prompt
from tests.models.families.qwen import qwen2_vl

BANNER = Image.new("RGB", (1000, 4), "red")
SQUARE = Image.new("RGB", (64, 64), "red")


class Picky:
    """A processor that refuses banners, or everything."""

    def __init__(self, *, everything: bool = False) -> None:
        self.everything = everything
        self.tokenizer = SimpleNamespace(bos_token=None)

    def image_processor(self, rows: Sequence[Sequence[Image.Image]], **_: object) -> dict[str, object]:
        if self.everything or any(picture.width > 100 for row in rows for picture in row):
            raise ValueError("aspect ratio too large\nsecond line")
        return {}

    def __call__(self, images: Any = None, **_: object) -> dict[str, object]:
        return self.image_processor(images or [])


def test_a_picture_that_a_processor_refuses_is_an_error_of_the_picture() -> None:
    assert encode(Picky(), [[SQUARE]], ["text"]) == {}
    with pytest.raises(PictureError, match=r"Picky takes, got one of 1000 x 4 pixels \(aspect ratio too large\); try"):
        encode(Picky(), [[BANNER]], ["text"])


def test_a_processor_that_takes_no_picture_is_an_error_of_the_model() -> None:
    with pytest.raises(ModelError, match=r"reads pictures as other models' do, got Picky"):
        encode(Picky(everything=True), [[SQUARE]], ["text"])


def test_a_processor_that_takes_no_picture_with_text_is_an_error_of_the_model(
    llava_folder: Path, tmp_path: Path, picture: Image.Image
) -> None:
    copy = shutil.copytree(llava_folder, tmp_path / "copy")
    settings = json.loads((copy / "processor_config.json").read_text())
    (copy / "processor_config.json").write_text(
        json.dumps({key: value for key, value in settings.items() if key != "patch_size"})
    )
    model = load(str(copy), device="cpu")
    for prompts in ([Prompt.ask("Why?", picture)], [Prompt.ask("Why?"), Prompt.ask("Why is that so?", picture)]):
        with pytest.raises(ModelError, match=r"^expected a processor that reads pictures .* LlavaProcessor [^\n]*$"):
            model.generate(prompts, max_new_tokens=2)


def test_errors_of_ours_and_errors_without_pictures_stay() -> None:
    with pytest.raises(UsageError, match="mine"), picture_errors(Picky(), [[SQUARE]]):
        raise UsageError("mine")
    with pytest.raises(KeyError), picture_errors(Picky(), None):
        raise KeyError("text")
    with pytest.raises(torch.OutOfMemoryError), picture_errors(Picky(), [[SQUARE]]):
        raise torch.OutOfMemoryError("full")


def test_a_banner_on_qwen_is_one_line_and_squares_still_work(tmp_path: Path) -> None:
    qwen2_vl(tmp_path)
    model = load(str(tmp_path))
    pixels = torch.full((3, 4, 1000), 0.5)
    for call in (
        lambda: model.generate([Prompt.ask("Why?", BANNER)], max_new_tokens=2),
        lambda: model.loss_and_grad(pixels, [Prompt.ask("Why?", BANNER)], ["No."]),
    ):
        with pytest.raises(PictureError, match="1000 x 4"):
            call()
    losses, gradient = model.loss_and_grad(torch.full((3, 64, 64), 0.5), [Prompt.ask("Why?", SQUARE)], ["No."])
    assert torch.isfinite(losses).all()
    assert gradient.shape == (3, 64, 64)


def test_a_forward_pass_that_fails_is_one_line(model: HuggingFaceModel, pixels: Tensor) -> None:
    with (
        pytest.raises(ModelError, match=r"LlavaForConditionalGeneration to run on this prompt, got IndexError \(odd\)"),
        model._frozen(),
    ):
        raise IndexError("odd")


def test_prompts_that_fail_together_are_asked_one_by_one(
    model: HuggingFaceModel, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    plain = generation.generate

    def picky(model: Any, processor: Any, chat: Any, prompts: Sequence[Prompt], *more: Any) -> list[Any]:
        sizes.append(len(prompts))
        if len(prompts) > 1:
            raise ValueError("cannot stack")
        return plain(model, processor, chat, prompts, *more)

    prompts = [Prompt.ask(question, picture) for question in ("Why?", "Who?", "What?")]
    expected = model.generate(prompts, max_new_tokens=3)
    monkeypatch.setattr(generation, "generate", picky)
    replies: list[Exchange] = model.generate(prompts, max_new_tokens=3)
    assert sizes == [3, 1, 1, 1]
    assert [exchange.reply for exchange in replies] == [exchange.reply for exchange in expected]


def test_a_processor_whose_floats_have_no_gradient_is_named(model: HuggingFaceModel, pixels: Tensor) -> None:
    path = model.differentiable_processor
    plain = path._picture_part

    def cut(pictures: Sequence[Any], like: Any = None) -> dict[str, Any]:
        return {key: value.detach() if isinstance(value, Tensor) else value for key, value in plain(pictures).items()}

    path._picture_part = cut  # type: ignore[method-assign]
    try:
        with pytest.raises(ModelError, match=r"its float outputs have no gradient.*can be asked but not attacked"):
            path(pixels.clone().requires_grad_(True), (), "<image>")
    finally:
        del path._picture_part


def test_what_a_model_sees_is_counted(model: HuggingFaceModel, picture: Image.Image) -> None:
    assert model.differentiable_processor.seen_pixels(picture) == 32 * 32
    assert [t.shape for t in float_tensors({"a": [torch.zeros(2), (torch.zeros(3),)], "b": torch.zeros(1).long()})] == [
        (2,),
        (3,),
    ]


def test_a_copy_without_its_chat_template_is_an_error_with_the_fix(llava_folder: Path, tmp_path: Path) -> None:
    for file in llava_folder.iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(
        ModelError, match=r"a llava model, got none; try copying chat_template\.jinja .* --chat-template"
    ):
        load(str(tmp_path))
    load(str(tmp_path), chat_template=llava_folder / "chat_template.jinja")


def test_families_whose_prompts_disturb_each_other_are_asked_one_after_the_other(
    model: HuggingFaceModel, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    plain = generation.generate

    def counted(model: Any, processor: Any, chat: Any, prompts: Sequence[Prompt], *more: Any) -> list[Any]:
        sizes.append(len(prompts))
        return plain(model, processor, chat, prompts, *more)

    monkeypatch.setattr(generation, "generate", counted)
    monkeypatch.setattr(model, "_alone", True)
    model.generate([Prompt.ask("Why?", picture)] * 3, max_new_tokens=1)
    assert sizes == [1, 1, 1]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), UsageError("no picture")])
def test_a_full_device_and_wrong_calls_are_not_tried_again_one_by_one(
    model: HuggingFaceModel, picture: Image.Image, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    calls: list[int] = []

    def failing(*arguments: Any) -> list[Any]:
        calls.append(len(arguments[3]))
        raise error

    monkeypatch.setattr(generation, "generate", failing)
    with pytest.raises(EquipoiseError):
        model.generate([Prompt.ask("Why?", picture)] * 2, max_new_tokens=1)
    assert calls == [2]


@pytest.mark.parametrize("kind", ["florence2", "idefics", "pix2struct"])
def test_a_folder_of_a_type_that_cannot_work_is_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ModelError, match=r"answers questions about pictures, got .* model: .*; try a family") as caught:
        load(str(tmp_path))
    assert "\n" not in str(caught.value)


class Marking(Picky):
    """A processor that wants as many marks as pictures."""

    image_token = "<image>"

    def __call__(self, images: Any = None, text: Sequence[str] = (), **_: object) -> dict[str, object]:
        if [one.count("<image>") for one in text] != [len(row) for row in images or [[]] * len(text)]:
            raise ValueError("expected as many <image> as images")
        return super().__call__(images)


def test_a_text_with_the_mark_of_a_picture_is_blamed_and_not_the_picture() -> None:
    assert encode(Marking(), [[SQUARE]], ["<image>What?"]) == {}
    with pytest.raises(UsageError, match=r"without <image>.* got 2 of them for 1 pictures"):
        encode(Marking(), [[SQUARE]], ["<image>What <image>?"])
    with pytest.raises(UsageError, match="got 1 of them for 0 pictures"):
        encode(Marking(), None, ["What <image>?"])
    with pytest.raises(ModelError, match="a chat template that writes pictures"):
        encode(Marking(), [[SQUARE]], ["What?"])
    with pytest.raises(PictureError, match="takes, got one of 1000 x 4"):
        encode(Marking(), [[BANNER]], ["<image>What?"])
