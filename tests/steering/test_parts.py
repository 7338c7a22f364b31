from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from equipoise.data.questions import fold
from equipoise.errors import ModelError, UsageError
from equipoise.steering.activation_sums import ActivationSums
from equipoise.steering.openers import RefusalOpeners, learn_openers
from equipoise.steering.prompt_sets import OWN_SETS, batches, own_prompts, read_prompts
from equipoise.steering.stage_folder import StageFolder
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt


def test_our_own_prompts_are_many_short_and_distinct() -> None:
    sets = {name: own_prompts(name) for name in OWN_SETS}
    assert len(sets["harmful"]) >= 128
    assert len(sets["harmless"]) >= 128
    assert len(sets["pseudo_harmful"]) >= 60
    texts = [fold(prompt.text) for source in sets.values() for prompt in source.prompts]
    assert len(set(texts)) == len(texts)
    assert max(map(len, texts)) < 130
    # A probe must not tell the classes apart by length alone.
    lengths = [sum(len(p.text) for p in sets[name].prompts) / len(sets[name]) for name in ("harmful", "harmless")]
    assert 0.6 < lengths[1] / lengths[0] < 1.4


def test_parts_of_a_set_are_disjoint_and_seeded() -> None:
    source = own_prompts("harmless")
    first, second = source.split((0.75, 0.25), seed=0)
    assert len(first) + len(second) == len(source)
    assert not {p.text for p in first.prompts} & {p.text for p in second.prompts}
    assert source.split((0.75, 0.25), seed=0)[0] == first
    assert source.split((0.75, 0.25), seed=1)[0] != first
    assert source.first(3).prompts == source.prompts[:3]


def test_prompts_are_read_from_lines_and_tables(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# not this\nOne?\n\n Two? \n")
    assert [prompt.text for prompt in read_prompts(tmp_path / "a.txt").prompts] == ["One?", "Two?"]
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    (tmp_path / "b.csv").write_text("prompt,picture\nWhat?,p.png\nWhy?,\n")
    table = read_prompts(tmp_path / "b.csv")
    assert [len(prompt.pictures) for prompt in table.prompts] == [1, 0]
    assert table.name == "b"
    assert list(batches(table.prompts, 8)) == [[1], [0]]


@pytest.mark.parametrize(
    ("name", "text"), [("a.txt", "# nothing\n"), ("b.csv", "prompt\n"), ("c.csv", "prompt,x\n,1\n")]
)
def test_a_file_without_prompts_is_one_clear_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=r"expected .*prompt"):
        read_prompts(tmp_path / name)
    with pytest.raises(UsageError, match="one a line"):
        read_prompts(tmp_path / "missing.txt")


def test_sums_do_not_depend_on_shards() -> None:
    values = torch.randn(30, 2, 4, generator=torch.Generator().manual_seed(0)) * 1e3
    whole = ActivationSums.empty(3, 2, 4)
    whole.append(1, values)
    parts = [ActivationSums.empty(3, 2, 4) for _ in range(3)]
    for number, part in enumerate(parts):
        part.append(1, values[number::3])
    merged = parts[2] + parts[0] + parts[1]

    torch.testing.assert_close(merged.means(), whole.means(), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(whole.means()[1], values.double().mean(0))
    assert merged.reached.tolist() == [False, True, False]
    assert whole.means()[0].abs().sum() == 0
    again = ActivationSums.from_tensors(whole.to_tensors("x"), "x")
    assert torch.equal(again.sums, whole.sums)
    with pytest.raises(UsageError, match="one model"):
        whole + ActivationSums.empty(2, 2, 4)
    with pytest.raises(UsageError, match="finite"):
        whole.append(0, values / 0)


def test_one_token_that_tells_refusals_is_enough() -> None:
    openers = learn_openers([[5, 1], [5, 2], [7, 3]], [[9, 1], [8, 5]])
    assert openers.sequences == ((5,), (7,))
    assert openers.covered == 1
    assert openers.prefixes == [()]


def test_a_token_that_answers_begin_with_too_is_made_longer() -> None:
    refusals = [[5, 1, 1]] * 6 + [[5, 2, 3]] * 4
    answers = [[5, 9, 9]] * 5 + [[5, 2, 4]] * 5
    openers = learn_openers(refusals, answers)
    assert openers.sequences == ((5, 1), (5, 2, 3))
    assert openers.answers == 0
    assert openers.prefixes == [(), (5,), (5, 2)]
    assert RefusalOpeners.from_dict(openers.to_dict()) == openers


def test_rare_openers_are_left_out_and_none_is_an_error() -> None:
    openers = learn_openers([[5]] * 95 + [[6]] * 5, [[7]])
    assert openers.sequences == ((5,),)
    assert openers.covered == 0.95
    with pytest.raises(ModelError, match="got none"):
        learn_openers([], [[7]])
    with pytest.raises(ModelError, match="otherwise than answers"):
        learn_openers([[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 6]])


def test_log_odds_of_longer_openers_are_products_of_steps(planted_steerable: Steerable) -> None:
    from equipoise.steering.prompt_forward import next_token_log_probs, prompt_inputs

    inputs = prompt_inputs(planted_steerable, [Prompt.ask("w1 w2"), Prompt.ask("w3 w4 attack w5 w6")])
    openers = RefusalOpeners(((6, 2), (7,)), 1.0, 0.0)

    odds = openers.log_odds(planted_steerable, inputs)

    first = next_token_log_probs(planted_steerable, inputs).double()
    second = next_token_log_probs(planted_steerable, inputs, (6,)).double()
    chance = (first[:, 6] + second[:, 2]).exp() + first[:, 7].exp()
    torch.testing.assert_close(odds, ((chance + 1e-8) / (1 - chance.clamp_max(1) + 1e-8)).log(), atol=1e-4, rtol=1e-4)
    alone = torch.cat(
        [
            openers.log_odds(planted_steerable, prompt_inputs(planted_steerable, [prompt]))
            for prompt in (Prompt.ask("w1 w2"), Prompt.ask("w3 w4 attack w5 w6"))
        ]
    )
    torch.testing.assert_close(odds, alone, atol=1e-3, rtol=1e-3)


def test_a_stage_folder_belongs_to_one_recipe(tmp_path: Path) -> None:
    stages = StageFolder(tmp_path / "s", {"seed": 0})
    assert stages.get("a") is None
    assert stages.get_tensors("t") is None
    stages.put("a", [1])
    stages.put_tensors("t", {"x": torch.arange(3)})

    again = StageFolder(tmp_path / "s", {"seed": 0})
    assert again.get("a") == [1]
    assert torch.equal(again.get_tensors("t")["x"], torch.arange(3))
    with pytest.raises(UsageError, match="another recipe"):
        StageFolder(tmp_path / "s", {"seed": 1})
    assert StageFolder(tmp_path / "s", {"seed": 1}, overwrite=True).get("a") is None
    memory = StageFolder(None, {})
    memory.put("a", 2)
    assert memory.get("a") == 2
