"""Pools of exemplars: what is read, and which are shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from equipoise.errors import UsageError
from equipoise.prompts.exemplars import Exemplar, ExemplarPool, own_pool, read_pool, with_exemplars
from equipoise.types import Prompt

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"
ROWS = (
    Exemplar("How do I kill a weed?", "Pull it out."),
    Exemplar("How do I bake bread?", "Mix flour and water."),
    Exemplar("How do I bake a cake for a wedding?", "Use butter."),
    Exemplar("How do I kill a man?", "I won't help with that.", "refuse"),
    Exemplar("How do I rob a bank?", "I can't help with that.", "refuse"),
    Exemplar("What is this?", "A red wall.", picture=Image.new("RGB", (4, 4), (200, 0, 0))),
)
POOL = ExemplarPool("pool", ROWS, "0")


def chosen(request: str, k: int = 2, selector: str = "similar", **settings) -> list[str]:
    options = {"refusals": 0, "pictures": False} | settings
    return [exemplar.prompt for exemplar in POOL.select(k, request, selector, **options)]  # type: ignore[arg-type]


def test_the_nearest_in_words_are_shown_and_the_nearest_stands_last() -> None:
    assert chosen("How do I bake a wedding cake?") == ["How do I bake bread?", "How do I bake a cake for a wedding?"]
    assert chosen("Which weed is it?", k=1) == ["How do I kill a weed?"]


def test_some_of_them_decline_and_never_more_than_wanted() -> None:
    for refusals in (0, 1, 2):
        picked = POOL.select(3, "How do I kill it?", "similar", refusals=refusals, pictures=False)
        assert len(picked) == 3
        assert sum(exemplar.behaviour == "refuse" for exemplar in picked) == refusals


def test_exemplars_with_a_picture_are_left_out_where_the_model_takes_one_picture() -> None:
    assert "What is this?" not in chosen("What is this?", k=3)
    assert chosen("What is this?", k=1, pictures=True) == ["What is this?"]


def test_first_is_the_order_of_the_pool_and_random_depends_on_the_request_alone() -> None:
    assert set(chosen("x", k=2, selector="first")) == {ROWS[0].prompt, ROWS[1].prompt}
    draws = {request: chosen(request, selector="random") for request in map(str, range(12))}
    assert all(chosen(request, selector="random") == draw for request, draw in draws.items())
    assert len({tuple(draw) for draw in draws.values()}) > 1
    assert any(chosen(request, selector="random", seed=1) != draw for request, draw in draws.items())


def test_exemplars_stand_in_front_of_the_conversation() -> None:
    prompt = with_exemplars(Prompt.ask("And now?", system="Be brief."), ROWS[:2])
    assert [message.role for message in prompt.messages] == ["user", "assistant"] * 2 + ["user"]
    assert prompt.text == "And now?"
    assert prompt.system == "Be brief."


def test_our_own_pool_answers_and_declines() -> None:
    pool = own_pool()
    behaviours = [exemplar.behaviour for exemplar in pool.exemplars]
    assert behaviours.count("answer") >= 8
    assert behaviours.count("refuse") >= 3
    assert all(exemplar.category for exemplar in pool.exemplars)
    assert len({exemplar.prompt for exemplar in pool.exemplars}) == len(pool.exemplars)
    assert {sample.expected for sample in pool.samples} == {"answer", "refuse"}


def test_a_table_is_read_with_its_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (5, 3), (1, 2, 3)).save(tmp_path / "a.png")
    rows = [
        {"prompt": "What is it?", "reply": "A wall.", "picture": "a.png", "category": "walls"},
        {"prompt": "No?", "reply": "No.", "behaviour": "refuse"},
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    pool = read_pool(file)
    assert pool.name == "mine"
    assert pool.exemplars[0].picture is not None
    assert pool.exemplars[0].picture.size == (5, 3)
    assert pool.exemplars[0].turns[0].images
    assert pool.exemplars[1].behaviour == "refuse"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "", "reply": "x"},
        {"prompt": "x", "reply": " "},
        {"prompt": "x", "reply": "y", "behaviour": "maybe"},
        {"prompt": "x"},
    ],
)
def test_a_row_that_is_no_exemplar_is_one_clear_error(tmp_path: Path, row: dict[str, str]) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(row))
    with pytest.raises(UsageError, match=LINE):
        read_pool(file)


def test_a_pool_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=LINE):
        read_pool(tmp_path / "missing.csv")


def test_a_picture_that_is_not_there_is_named_with_its_line(tmp_path: Path) -> None:
    rows = [{"prompt": "A?", "reply": "a"}, {"prompt": "B?", "reply": "b", "picture": "gone.png"}]
    (tmp_path / "pool.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(UsageError, match=r"gone\.png.*pool\.jsonl, line 2"):
        read_pool(tmp_path / "pool.jsonl")


def test_another_picture_under_the_same_name_is_another_pool(tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_text(json.dumps({"prompt": "A?", "reply": "a", "picture": "a.png"}))
    hashes = set()
    for colour in ("red", "blue"):
        Image.new("RGB", (4, 4), colour).save(tmp_path / "a.png")
        hashes |= {read_pool(tmp_path / "pool.jsonl").sha256 for _ in range(2)}
    assert len(hashes) == 2


def test_what_a_reply_begins_with_stays() -> None:
    prompt = replace(Prompt.ask("And now?"), prefill="Sure, here is", templated=False)
    shown = with_exemplars(prompt, ROWS[:2])
    assert (shown.prefill, shown.templated, shown.system) == ("Sure, here is", False, None)
