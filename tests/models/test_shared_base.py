"""Several adapters over one base: each computes as if it were alone, and the weights are in memory once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.errors import ModelError, UsageError
from equipoise.models.adapter import TrainedBase, base_name, holds_adapter
from equipoise.models.load import load
from equipoise.models.shared_base import adapted_base, shared_format, sharing_copy
from equipoise.training.causal_lm import load_base
from equipoise.training.lora import add_adapters, save_adapter
from tests.guard.tiny_models import decoder

IDS = torch.tensor([[4, 5, 6, 7]])


def adapter(base: Path, folder: Path, seed: int) -> Path:
    """An adapter with a change of its own, as if trained."""
    trained = TrainedBase.of(str(base))
    model = add_adapters(load_base(str(base))[0], 2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    save_adapter(model, folder, trained)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return decoder(tmp_path / "base")


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def shared(folder: Path) -> Any:
    return adapted_base(folder, device="cpu", dtype=torch.float32)[0]


def test_an_adapter_computes_what_it_does_when_merged(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "one", 1)
    merged = load_base(f"{base}+{folder}")[0]
    assert torch.allclose(logits(shared(folder)), logits(merged), atol=1e-4)
    assert float((logits(shared(folder)) - logits(load_base(str(base))[0])).abs().max()) > 0.1


def test_adapters_do_not_see_each_other(base: Path, tmp_path: Path) -> None:
    folders = [adapter(base, tmp_path / str(seed), seed) for seed in (1, 2)]
    alone = [logits(shared(folder)) for folder in folders]
    first, second = (shared(folder) for folder in folders)
    assert torch.equal(logits(first), alone[0])
    assert torch.equal(logits(second), alone[1])
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)


def test_the_weights_are_in_memory_once(base: Path, tmp_path: Path) -> None:
    first, second = (shared(adapter(base, tmp_path / str(seed), seed)) for seed in (1, 2))
    stores = [
        {weight.data_ptr() for name, weight in model.named_parameters() if "lora" not in name}
        for model in (first, second)
    ]
    assert stores[0] == stores[1]
    own = [
        {weight.data_ptr() for name, weight in model.named_parameters() if "lora" in name} for model in (first, second)
    ]
    assert own[0]
    assert not own[0] & own[1]


def test_threads_need_not_take_turns(base: Path, tmp_path: Path) -> None:
    folders = [adapter(base, tmp_path / str(seed), seed) for seed in (1, 2)]
    models = [shared(folder) for folder in folders]
    expected = [logits(model) for model in models]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda at: (at % 2, logits(models[at % 2])), range(64)))
    assert all(torch.allclose(value, expected[at], atol=1e-5) for at, value in results)


def test_adapters_on_a_sharing_copy_leave_the_original_alone(base: Path) -> None:
    original = load_base(str(base))[0]
    before, names = logits(original), [name for name, _ in original.named_modules()]
    adapted = add_adapters(sharing_copy(original), 2)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.5)
    assert torch.equal(logits(original), before)
    assert [name for name, _ in original.named_modules()] == names


def of_base(model: Any) -> set[int]:
    """Addresses of the weights that no adapter added."""
    return {weight.data_ptr() for name, weight in model.named_parameters() if "lora" not in name}


def with_template(base: Path) -> Path:
    (base / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    return base


def test_a_loaded_model_shares_its_base(base: Path, tmp_path: Path) -> None:
    names = [f"{with_template(base)}+{adapter(base, tmp_path / str(seed), seed)}" for seed in (1, 2)]
    first, second = (load(name, share_base=True) for name in names)
    bare = load(str(base), share_base=True)
    assert of_base(first.model) == of_base(second.model) == of_base(bare.model)
    for name, shared_model in zip(names, (first, second), strict=True):
        merged = load(name)
        assert torch.allclose(logits(shared_model.model), logits(merged.model), atol=1e-4)
        assert shared_model.revision == merged.revision
    assert torch.equal(logits(bare.model), logits(load(str(base)).model))


def test_two_adapters_are_not_shared(base: Path, tmp_path: Path) -> None:
    folders = [adapter(base, tmp_path / str(seed), seed) for seed in (1, 2)]
    name = "+".join(map(str, [with_template(base), *folders]))
    load(name)
    with pytest.raises(UsageError, match=r"expected a model with one adapter to share its base, got .* with 2; try"):
        load(name, share_base=True)


def test_weights_on_several_devices_are_not_shared(base: Path) -> None:
    with pytest.raises(UsageError, match=r"expected weights on one device to share a base, got .*device='auto'; try"):
        load(str(with_template(base)), device="auto", share_base=True)


def test_a_base_that_changed_is_refused(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "one", 1)
    assert holds_adapter(folder)
    decoder(base, seed=7)
    with pytest.raises(ModelError, match=r"expected the weights of .*, got others in .*; try"):
        base_name(folder)
    with pytest.raises(ModelError, match=r"expected the weights of .*, got others in .*; try"):
        load_base(f"{base}+{folder}")


@pytest.mark.parametrize("content", ["", "[]", '{"base": "x"}', "{", '{"base": "/nowhere", "sha256": "0"}'])
def test_a_damaged_name_of_the_base_is_one_error(base: Path, tmp_path: Path, content: str) -> None:
    folder = adapter(base, tmp_path / "one", 1)
    (folder / "base.json").write_text(content)
    with pytest.raises(ModelError, match=r"^expected [^\n]*, got [^\n]*; try [^\n]*$"):
        shared(folder)


def test_a_base_with_an_adapter_is_no_base(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "one", 1)
    settings = json.loads((folder / "base.json").read_text())
    (folder / "base.json").write_text(json.dumps(settings | {"base": f"{base}+{folder}"}))
    with pytest.raises(ModelError, match="without an adapter"):
        base_name(folder)


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_a_base_is_shared_in_the_format_that_the_processor_multiplies(
    capabilities: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert shared_format() == dtype


def test_in_bfloat16_the_frequencies_of_positions_keep_their_precision(base: Path, tmp_path: Path) -> None:
    model = adapted_base(adapter(base, tmp_path / "adapter", 1), device="cpu", dtype=torch.bfloat16)[0]
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    frequencies = [buffer for name, buffer in model.named_buffers() if name.endswith("inv_freq")]
    assert frequencies
    assert {buffer.dtype for buffer in frequencies} == {torch.float32}
