from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equipoise.errors import ModelError, UsageError
from equipoise.models.text_model import TextModel
from equipoise.steering.edits import ablate, add, capture, orthonormal
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt
from tests.steering.planted import planted_directions
from tests.steering.towers import WIDTH, picture_model, text_steerable, token_rows

VECTOR = torch.randn(WIDTH, generator=torch.Generator().manual_seed(5))


def logits(steerable: Steerable, **inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return steerable.model(**inputs).logits


def test_an_edit_ends_with_its_context_also_after_an_exception(tiny_llama: Steerable) -> None:
    inputs = token_rows(7, 5)
    before = logits(tiny_llama, **inputs)

    def fail() -> None:
        with ablate(tiny_llama, VECTOR), add(tiny_llama, VECTOR, layers=[1]):
            assert not torch.allclose(logits(tiny_llama, **inputs), before)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(logits(tiny_llama, **inputs), before)
    assert "save_pretrained" not in vars(tiny_llama.model)


def test_a_steered_model_cannot_be_saved(tiny_llama: Steerable, tmp_path) -> None:
    with ablate(tiny_llama, VECTOR):
        with pytest.raises(UsageError, match="not steered"):
            tiny_llama.model.save_pretrained(tmp_path)
        with pytest.raises(UsageError, match="not steered"):
            tiny_llama.model.model.save_pretrained(tmp_path)
        with add(tiny_llama, VECTOR, layers=[0]):
            pass
        with pytest.raises(UsageError, match="not steered"):
            tiny_llama.model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())

    tiny_llama.model.save_pretrained(tmp_path)
    assert list(tmp_path.glob("*.safetensors"))


def test_ablation_twice_is_ablation_once_and_length_does_not_matter(tiny_llama: Steerable) -> None:
    inputs = token_rows(7, 5)
    with ablate(tiny_llama, VECTOR):
        once = logits(tiny_llama, **inputs)
        with ablate(tiny_llama, -7 * VECTOR):
            twice = logits(tiny_llama, **inputs)
    torch.testing.assert_close(once, twice)


def test_a_share_of_the_ablation_lies_between(tiny_llama: Steerable) -> None:
    inputs = token_rows(7, 5)
    with ablate(tiny_llama, VECTOR, coefficient=0.0):
        torch.testing.assert_close(logits(tiny_llama, **inputs), logits(tiny_llama, **inputs))
    plain = logits(tiny_llama, **inputs)
    with ablate(tiny_llama, VECTOR):
        whole = (logits(tiny_llama, **inputs) - plain).norm()
    with ablate(tiny_llama, VECTOR, coefficient=0.3):
        part = (logits(tiny_llama, **inputs) - plain).norm()
    assert 0 < part < whole


def test_several_directions_are_removed_together(tiny_llama: Steerable) -> None:
    both = torch.stack([VECTOR, VECTOR.roll(3)])
    with capture(tiny_llama, layers=[3]) as captured, ablate(tiny_llama, both):
        pass
    assert not captured.values
    basis = orthonormal(both)
    torch.testing.assert_close(basis @ basis.T, torch.eye(2))
    with pytest.raises(UsageError, match="independent"):
        orthonormal(torch.stack([VECTOR, 2 * VECTOR]))


@pytest.mark.parametrize("kind", ["llama", "gemma2", "olmo2"])
def test_addition_moves_the_input_of_its_layer_by_the_vector(kind: str) -> None:
    steerable = text_steerable(kind)
    inputs = token_rows(7, 5)
    with capture(steerable) as before:
        logits(steerable, **inputs)
    with add(steerable, VECTOR, layers=[1], coefficient=2.0), capture(steerable) as after:
        logits(steerable, **inputs)

    torch.testing.assert_close(after.layer(1), before.layer(1) + 2 * VECTOR)
    assert torch.equal(after.layer(0), before.layer(0))
    assert not torch.allclose(after.layer(2), before.layer(2))


def test_rows_that_are_not_chosen_stay_bit_for_bit(tiny_llama: Steerable) -> None:
    inputs = token_rows(7, 5, 6)
    plain = logits(tiny_llama, **inputs)
    for context in (
        ablate(tiny_llama, VECTOR, rows=[False, True, False]),
        add(tiny_llama, VECTOR, layers=[1], rows=[False, True, False]),
    ):
        with context:
            steered = logits(tiny_llama, **inputs)
        assert torch.equal(steered[[0, 2]], plain[[0, 2]])
        assert not torch.allclose(steered[1], plain[1])


def test_rows_must_be_those_of_the_batch(tiny_llama: Steerable) -> None:
    with pytest.raises(UsageError, match="flag for each of 2 rows"), ablate(tiny_llama, VECTOR, rows=[True]):
        logits(tiny_llama, **token_rows(7, 5))


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_last_token_of_a_prompt_is_found_behind_and_before_padding(tiny_llama: Steerable, side: str) -> None:
    inputs = token_rows(7, 5)
    if side == "right":
        inputs = {
            key: torch.stack(
                [
                    row.roll(int(mask.sum()) - len(row))
                    for row, mask in zip(value, inputs["attention_mask"], strict=True)
                ]
            )
            for key, value in inputs.items()
        }
    lasts = [6, 6] if side == "left" else [6, 4]
    with capture(tiny_llama, layers=[0], last=2) as captured:
        logits(tiny_llama, **inputs)

    embedded = tiny_llama.model.get_input_embeddings()(inputs["input_ids"])
    for row, last in enumerate(lasts):
        torch.testing.assert_close(captured.layer(0)[row], embedded[row, last - 1 : last + 1].detach())


def test_positions_choose_tokens(tiny_llama: Steerable) -> None:
    inputs = token_rows(7, 5)

    def moved(positions) -> list[list[int]]:
        streams: dict[str, Tensor] = {}
        for name in ("plain", "added"):
            handle = tiny_llama.tower.layers[1].self_attn.register_forward_pre_hook(
                lambda _m, _a, kwargs, name=name: streams.__setitem__(name, kwargs["hidden_states"]), with_kwargs=True
            )
            if name == "added":
                with add(tiny_llama, 9 * VECTOR, layers=[1], positions=positions):
                    logits(tiny_llama, **inputs)
            else:
                logits(tiny_llama, **inputs)
            handle.remove()
        changed = (streams["plain"] != streams["added"]).any(-1)
        return [row.nonzero().flatten().tolist() for row in changed]

    assert moved("all") == [list(range(7))] * 2
    assert moved("text") == [list(range(7)), list(range(2, 7))]
    assert moved("last") == [[6], [6]]
    assert moved("picture") == [[], []]
    assert moved([(0, 2), (-1, 0)]) == [[0, 1, 6], [2, 3, 6]]
    with pytest.raises(UsageError, match="expected positions"):
        moved("first")


def test_pictures_are_told_from_text(tmp_path) -> None:
    from tests.models.families.checks import picture

    model = picture_model("LLaVA-1.5", tmp_path)
    steerable = Steerable.of(model)
    inputs = model.prompt_inputs([Prompt.ask("What is this?", picture(40, 50)), Prompt.ask("Why?", picture(40, 50))])
    pictures = torch.isin(inputs["input_ids"], torch.tensor(sorted(model.picture_tokens)))
    layout = steerable.token_layout()
    from equipoise.steering.token_positions import Positions

    masks = {}

    def look(_module, _args) -> None:
        masks.update({kind: layout.mask(Positions.of(kind)) for kind in ("picture", "text")})

    handle = steerable.tower.layers[0].register_forward_pre_hook(look)
    with layout.watch():
        logits(steerable, **inputs)
    handle.remove()

    assert int(pictures.sum()) == 32
    assert torch.equal(masks["picture"], pictures)
    assert torch.equal(masks["text"], ~pictures & inputs["attention_mask"].bool())


def test_generation_with_a_cache_is_steered_like_a_forward_pass_without_one(tiny_llama: Steerable) -> None:
    inputs = token_rows(7, 7)
    with add(tiny_llama, VECTOR, layers=[1], rows=[True, False]), ablate(tiny_llama, VECTOR.roll(1), positions="text"):
        tokens = tiny_llama.model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False)
        whole = logits(tiny_llama, input_ids=tokens, attention_mask=torch.ones_like(tokens))
    assert torch.equal(tokens[:, 7:], whole[:, 6:-1].argmax(-1))
    plain = tiny_llama.model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert not torch.equal(tokens, plain)


def test_capture_takes_the_prompt_of_a_generation_once(tiny_llama: Steerable) -> None:
    with capture(tiny_llama, layers=[2]) as captured:
        tiny_llama.model.generate(**token_rows(7, 5), max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert captured.layer(2).shape == (2, 1, WIDTH)
    with pytest.raises(ModelError, match="layer 0"):
        captured.layer(0)


def test_capture_keeps_only_the_rows_that_are_wanted(tiny_llama: Steerable) -> None:
    sizes: list[int] = []
    with capture(tiny_llama, last=1, sink=lambda _layer, values: sizes.append(values.numel())):
        logits(tiny_llama, **token_rows(*[60] * 8))
    assert sizes == [8 * WIDTH] * 4

    with pytest.raises(ModelError, match="at least 6 tokens"), capture(tiny_llama, last=6):
        logits(tiny_llama, **token_rows(7, 5))


def test_directions_of_another_width_and_layers_that_are_not_there_are_refused(tiny_llama: Steerable) -> None:
    with pytest.raises(UsageError, match="width 32"), ablate(tiny_llama, torch.ones(31)):
        pass
    with pytest.raises(UsageError, match="layers of 0 to 2"), add(tiny_llama, VECTOR, layers=[3]):
        pass
    with pytest.raises(UsageError, match="finite"), ablate(tiny_llama, torch.full((WIDTH,), torch.nan)):
        pass


def test_log_probabilities_are_steered_and_batches_do_not_matter(planted: TextModel, planted_steerable) -> None:
    harm, _ = planted_directions()
    prompts = [Prompt.ask("w1 attack w2"), Prompt.ask("w3 w4 w5 w6 attack w1")]
    plain = planted.log_prob(None, prompts, ["Sorry", "Sorry"]).tokens
    for positions in ("all", "text", "last"):
        with ablate(planted_steerable, harm, positions=positions):
            steered = planted.log_prob(None, prompts, ["Sorry", "Sorry"]).tokens
            single = torch.cat([planted.log_prob(None, [prompt], ["Sorry"]).tokens for prompt in prompts])
        torch.testing.assert_close(steered, single)
        assert bool((steered[:, 0] < plain[:, 0] - 3).all())
