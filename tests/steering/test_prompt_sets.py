"""Prompt sets: our own, splits, files of the user."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from equipoise.data.questions import fold
from equipoise.errors import UsageError
from equipoise.generation.generated_prompt import GeneratedPrompt, SeedPrompt
from equipoise.generation.suite_folder import write_suite
from equipoise.models.length_groups import picture_batches
from equipoise.steering.prompt_sets import OwnSet, own_prompts, read_prompts


def test_our_own_prompts_are_many_short_and_distinct() -> None:
    sets = {name: own_prompts(name) for name in get_args(OwnSet)}
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
    assert list(picture_batches(table.prompts, 8)) == [[1], [0]]


@pytest.mark.parametrize(
    ("name", "text"), [("a.txt", "# nothing\n"), ("b.csv", "prompt\n"), ("c.csv", "prompt,x\n,1\n")]
)
def test_a_file_without_prompts_is_one_clear_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=r"expected .*prompt"):
        read_prompts(tmp_path / name)
    with pytest.raises(UsageError, match="one a line"):
        read_prompts(tmp_path / "missing.txt")


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.5), (0.2, 0.3, 0.1), (0.0, 1.0)])
def test_shares_are_kept_and_nothing_is_in_two_parts(shares: tuple[float, ...]) -> None:
    source = own_prompts("harmful")
    parts = source.split(shares, seed=3)
    assert [len(part) for part in parts] == [round(share * len(source)) for share in shares]
    texts = [prompt.text for part in parts for prompt in part.prompts]
    assert len(set(texts)) == len(texts)
    assert set(texts) <= {prompt.text for prompt in source.prompts}
    assert all(part.sha256 == source.sha256 for part in parts)


def test_another_file_is_split_otherwise() -> None:
    one, two = own_prompts("harmful"), own_prompts("harmless")
    order = [[source.prompts.index(p) for p in source.split((1.0,), seed=0)[0].prompts] for source in (one, two)]
    assert order[0] != order[1]


def test_batches_cover_every_prompt_once_and_hold_as_many_pictures_each(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    rows = "\n".join(f"Question {n}?,{'|'.join(['p.png'] * (n % 3))}" for n in range(20))
    (tmp_path / "many.csv").write_text(f"prompt,picture\n{rows}\n")
    prompts = read_prompts(tmp_path / "many.csv").prompts
    groups = list(picture_batches(prompts, 4))
    assert sorted(index for group in groups for index in group) == list(range(20))
    assert all(len(group) <= 4 for group in groups)
    assert all(len({len(prompts[index].pictures) for index in group}) == 1 for group in groups)


def test_the_hash_is_of_what_stands_in_the_file(tmp_path: Path) -> None:
    for name, text in (("a.txt", "One?\n"), ("b.txt", "One?\n"), ("c.txt", "Two?\n")):
        (tmp_path / name).write_text(text)
    first, same, other = (read_prompts(tmp_path / name).sha256 for name in ("a.txt", "b.txt", "c.txt"))
    assert first == same != other


def test_a_file_in_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"One.\nTw\xe4.\n")
    with pytest.raises(UsageError, match=r"^expected UTF-8 text, got byte 0xe4 in .*a\.txt, line 2; try"):
        read_prompts(tmp_path / "a.txt")


def test_rows_of_another_label_are_left_out_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    labels = ("answer", "borderline", "refuse", "Should Answer", "", "a red circle")
    file.write_text("prompt,expected\n" + "".join(f"w{i},{label}\n" for i, label in enumerate(labels)))
    for expected, texts in ((None, "012345"), ("answer", "0345"), ("refuse", "245")):
        source = read_prompts(file, expected=expected)  # type: ignore[arg-type]
        assert "".join(prompt.text[1:] for prompt in source.prompts) == texts
        assert source.left_out == len(labels) - len(texts)
    file.write_text("prompt,expected\nw1,refuse\n")
    with pytest.raises(UsageError, match="expected rows with answer in the column expected"):
        read_prompts(file, expected="answer")


def test_controversial_rows_of_a_generated_suite_are_no_harmless_prompts(tmp_path: Path) -> None:
    seeds = [SeedPrompt(f"seed {i}") for i in range(8)]
    rows = [
        GeneratedPrompt(f"{label} prompt {i}", seed, "grown", i, {"refusal": -1.0}, label=label)  # type: ignore[arg-type]
        for i, seed in enumerate(seeds)
        for label in ("harmless", "controversial")
    ]
    write_suite(tmp_path, rows, rows, {})
    source = read_prompts(tmp_path / "samples.jsonl", expected="answer")
    assert {prompt.text.split()[0] for prompt in source.prompts} == {"harmless"}
    assert (len(source), source.left_out) == (8, 8)
