from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from equipoise.countermeasures.catalogue import defend
from equipoise.countermeasures.vision_tower import resize_positions, to_transformers, with_vision_tower
from equipoise.errors import ModelError
from equipoise.media.quantize import to_pixels
from equipoise.models.hf import HuggingFaceModel
from equipoise.types import Prompt
from tests.countermeasures.fakes import picture
from tests.models.tiny_plain import PlainTorchModel

PIXELS = to_pixels(picture(1, (40, 36)))
PROMPTS = [Prompt.ask("What is this?", picture(1, (40, 36))), Prompt.ask("Is it red?")]
Weights = dict[str, Tensor]


def tower_of(model: HuggingFaceModel) -> torch.nn.Module:
    result: torch.nn.Module = model.model.model.vision_tower
    return result


def weights_of(model: HuggingFaceModel) -> Weights:
    """The tower's weights under transformers' names, without a prefix."""
    return {key.split("vision_model.")[-1]: value.clone() for key, value in tower_of(model).state_dict().items()}


def to_openclip(weights: Weights) -> Weights:
    """As OpenCLIP would save a whole CLIP with this tower: three projections in one, a text side, a temperature."""
    plain = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.position_embedding.weight": "positional_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "pre_layrnorm": "ln_pre",
        "post_layernorm": "ln_post",
    }
    inside = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    result: Weights = {}
    for key, value in weights.items():
        if key.startswith("encoder.layers."):
            number, rest = key.removeprefix("encoder.layers.").split(".", 1)
            module, kind = rest.rsplit(".", 1)
            prefix = f"visual.transformer.resblocks.{number}."
            if module == "self_attn.q_proj":
                thirds = [weights[key.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
                result[f"{prefix}attn.in_proj_{kind}"] = torch.cat(thirds)
            elif module in inside:
                result[f"{prefix}{inside[module]}.{kind}"] = value
        elif not key.endswith("position_ids"):
            start = next(old for old in plain if key.startswith(old))
            result[f"visual.{plain[start]}{key.removeprefix(start)}"] = value
    width = len(result["visual.class_embedding"])
    return result | {
        "visual.proj": torch.zeros(width, 8),
        "logit_scale": torch.tensor(4.6),
        "positional_embedding": torch.zeros(77, width),
        "token_embedding.weight": torch.zeros(9, width),
        "transformer.resblocks.0.ln_1.weight": torch.zeros(width),
    }


def to_transformers_file(weights: Weights) -> Weights:
    """As transformers would save a whole CLIP."""
    result = {f"vision_model.{key}": value for key, value in weights.items()}
    return result | {"logit_scale": torch.tensor(4.6), "visual_projection.weight": torch.zeros(8, 4)}


FORMATS: dict[str, tuple[str, Callable[[Weights], Any]]] = {
    "openclip": ("open_clip_model.safetensors", to_openclip),
    "openclip in a pickle": ("open_clip_pytorch_model.bin", to_openclip),
    "transformers": ("model.safetensors", to_transformers_file),
    "the tower alone": ("pytorch_model.bin", dict),
}


def saved(folder: Path, weights: Weights, how: str = "openclip") -> str:
    name, convert = FORMATS[how]
    folder.mkdir(exist_ok=True)
    result = {key: value.contiguous().clone() for key, value in convert(weights).items()}
    if name.endswith(".safetensors"):
        save_file(result, folder / name)
    else:
        torch.save(result, folder / name)
    return str(folder)


def moved(weights: Weights, scale: float = 0.3) -> Weights:
    random = torch.Generator().manual_seed(1)
    return {
        key: value + scale * torch.randn(value.shape, generator=random) if value.is_floating_point() else value
        for key, value in weights.items()
    }


def values(model: HuggingFaceModel) -> Tensor:
    with torch.no_grad():
        return model.log_prob(PIXELS, PROMPTS, ["a red circle", "no"]).tokens


def replies(model: HuggingFaceModel) -> list[str]:
    return [exchange.reply for exchange in model.generate(PROMPTS, max_new_tokens=8)]


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_its_own_weights_in_any_format_change_nothing(
    how: str, used: bool, tiny_llava: HuggingFaceModel, tmp_path: Path
) -> None:
    if used:  # transformers hangs hooks on a model at its first use, which a copy carries along
        replies(tiny_llava)
    swapped = with_vision_tower(tiny_llava, saved(tmp_path, weights_of(tiny_llava), how))
    assert torch.equal(values(swapped), values(tiny_llava))
    assert replies(swapped) == replies(tiny_llava)
    result, own = (model.loss_and_grad(PIXELS, PROMPTS, ["a", "b"]) for model in (swapped, tiny_llava))
    assert torch.equal(result[0], own[0])
    assert torch.equal(result[1], own[1])


def test_the_format_of_openclip_is_read_back_to_the_letter(tiny_llava: HuggingFaceModel) -> None:
    weights = weights_of(tiny_llava)
    back = to_transformers(to_openclip(weights))
    assert back.keys() == {key for key in weights if not key.endswith("position_ids")}
    assert all(torch.equal(back[key], weights[key]) for key in back)


def test_other_weights_change_the_new_model_and_not_the_callers(tiny_llava: HuggingFaceModel, tmp_path: Path) -> None:
    before, answers, own = values(tiny_llava), replies(tiny_llava), tower_of(tiny_llava)
    state = {key: value.clone() for key, value in tiny_llava.model.state_dict().items()}
    swapped = with_vision_tower(tiny_llava, saved(tmp_path, moved(weights_of(tiny_llava))))
    assert not torch.allclose(values(swapped), before, atol=0.1)
    assert replies(swapped) != answers
    assert tower_of(tiny_llava) is own
    assert tower_of(swapped) is not own
    assert torch.equal(values(tiny_llava), before)
    assert replies(tiny_llava) == answers
    assert all(torch.equal(value, state[key]) for key, value in tiny_llava.model.state_dict().items())
    assert swapped.name == f"{tiny_llava.name} + tower:id={tmp_path}"
    assert swapped.revision.startswith(f"{tiny_llava.revision}+")
    assert swapped.revision == with_vision_tower(tiny_llava, str(tmp_path)).revision


def test_everything_but_the_tower_is_shared(tiny_llava: HuggingFaceModel, tmp_path: Path) -> None:
    swapped = with_vision_tower(tiny_llava, saved(tmp_path, moved(weights_of(tiny_llava))))
    old = dict(tiny_llava.model.named_parameters())
    new = dict(swapped.model.named_parameters())
    assert old.keys() == new.keys()
    for key in old:
        assert (new[key] is old[key]) == ("vision_tower" not in key)
    assert swapped.processor is tiny_llava.processor


def test_the_revision_is_that_of_the_weights(tiny_llava: HuggingFaceModel, tmp_path: Path) -> None:
    weights = weights_of(tiny_llava)
    result = [
        with_vision_tower(tiny_llava, saved(tmp_path / str(i), moved(weights, scale))).revision
        for i, scale in enumerate((0.0, 0.1, 0.1))
    ]
    assert result[0] != result[1] == result[2]


def test_positions_of_another_size_areresize_positions(tiny_llava: HuggingFaceModel, tmp_path: Path) -> None:
    weights = weights_of(tiny_llava)
    key = "embeddings.position_embedding.weight"
    own = weights[key]
    assert torch.allclose(resize_positions(own, len(own)), own, atol=1e-6)
    # A plane stays a plane away from the edges, where bicubic sees the border twice.
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    plane = torch.stack([row, column, row + 2 * column], -1).reshape(64, 3)
    smaller = resize_positions(torch.cat([torch.full((1, 3), 7.0), plane]), 17)
    assert torch.equal(smaller[0], torch.full((3,), 7.0))
    middle = smaller[1:].reshape(4, 4, 3)[1:3, 1:3]
    assert torch.allclose(middle[..., 0], torch.tensor([[2.5, 2.5], [4.5, 4.5]]), atol=1e-4)
    assert torch.allclose(middle[..., 1], torch.tensor([[2.5, 4.5], [2.5, 4.5]]), atol=1e-4)
    large = weights | {key: resize_positions(own, 65)}
    swapped = with_vision_tower(tiny_llava, saved(tmp_path, large))
    assert tower_of(swapped).state_dict().keys() == tower_of(tiny_llava).state_dict().keys()
    assert not torch.equal(values(swapped), values(tiny_llava))
    assert bool(values(swapped).isfinite().all())


def with_layer(weights: Weights) -> Weights:
    more = {key.replace("layers.1.", "layers.2."): value for key, value in weights.items() if "layers.1." in key}
    return weights | more


UNFIT: dict[str, Callable[[Weights], Weights]] = {
    "another width": lambda weights: {key: torch.cat([value, value]) for key, value in weights.items()},
    "a layer too few": lambda weights: {key: value for key, value in weights.items() if "layers.1." not in key},
    "a layer too many": with_layer,
    "no square of positions": lambda weights: weights | {"embeddings.position_embedding.weight": torch.zeros(13, 32)},
}


@pytest.mark.parametrize("how", ["openclip", "transformers"])
@pytest.mark.parametrize("what", UNFIT)
def test_weights_of_another_shape_are_one_clear_error(
    what: str, how: str, tiny_llava: HuggingFaceModel, tmp_path: Path
) -> None:
    folder = saved(tmp_path, UNFIT[what](weights_of(tiny_llava)), how)
    with pytest.raises(ModelError, match=r"expected a CLIP tower like .*, got another in .*; try one of the same size"):
        with_vision_tower(tiny_llava, folder)


def test_a_strange_openclip_tower_is_one_clear_error(tiny_llava: HuggingFaceModel, tmp_path: Path) -> None:
    for key in ("visual.trunk.stem.weight", "visual.transformer.resblocks.0.ls_1.gamma"):
        save_file({key: torch.zeros(3)}, tmp_path / "model.safetensors")
        with pytest.raises(ModelError, match=f"an unknown weight, {key.removeprefix('visual.')}"):
            with_vision_tower(tiny_llava, str(tmp_path))


@pytest.mark.parametrize("name", ["model.safetensors", "open_clip_pytorch_model.bin"])
def test_a_damaged_file_is_one_clear_error(name: str, tiny_llava: HuggingFaceModel, tmp_path: Path) -> None:
    for content in (b"", b"no weights at all", b"PK\x03\x04 cut off"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=r"expected weights in .*, got a damaged file .*; try"):
            with_vision_tower(tiny_llava, str(tmp_path))


def test_a_checkpoint_with_more_than_weights_is_one_clear_error(tiny_llava: HuggingFaceModel, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match="try the state dict alone"):
        with_vision_tower(tiny_llava, str(tmp_path))


def test_no_files_no_tower_and_no_transformers_model_are_clear_errors(
    tiny_llava: HuggingFaceModel, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"got none of model.safetensors, .*; try chs20/fare2-clip"):
        with_vision_tower(tiny_llava, str(tmp_path))
    with pytest.raises(ModelError, match=r"expected weights of a CLIP tower in .*; try"):
        with_vision_tower(tiny_llava, str(tmp_path / "nowhere" / "at all"))
    with pytest.raises(ModelError, match="expected a transformers model"):
        with_vision_tower(PlainTorchModel(), str(tmp_path))
    folder = saved(tmp_path, weights_of(tiny_llava))
    tiny_llava.model.model.vision_tower = torch.nn.Linear(1, 1)
    with pytest.raises(ModelError, match="expected a model with a CLIP vision tower"):
        with_vision_tower(tiny_llava, folder)


def test_without_a_network_a_name_on_the_hub_is_a_clear_error(
    tiny_llava: HuggingFaceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="no answer from the hub and no copy in the local cache") as caught:
        defend(tiny_llava, ["tower:id=nobody/has-this"])
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(
    tiny_llava: HuggingFaceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("expected no request"))
    with pytest.raises(ModelError, match="got no such folder; try"):
        with_vision_tower(tiny_llava, str(tmp_path / "nothing"))


def test_a_hub_that_does_not_answer_is_waited_for_once(
    tiny_llava: HuggingFaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    online: list[bool] = []

    def no_answer(*_: Any, local_files_only: bool, **__: Any) -> str:
        online.append(not local_files_only)
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", no_answer)
    with pytest.raises(ModelError, match="no answer from the hub"):
        with_vision_tower(tiny_llava, "nobody/has-this")
    assert online == [True, False, False, False]
