from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from equipoise.data.questions import (
    WORDINGS,
    check_disjoint,
    fold,
    general,
    paraphrase,
    read_questions,
    split,
)
from equipoise.errors import UsageError

SHARED = Path(os.environ.get("EQUIPOISE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
ASKED = (
    "What color is the NASA sign in Paris?",
    "How many dogs are there?",
    "McDonald's has which logo?",
    "what is it?",
)


def test_there_are_fifty_general_questions_all_different() -> None:
    assert len(general()) == 50
    assert len({fold(question) for question in general()}) == 50


def test_the_general_questions_are_our_own() -> None:
    files = sorted((SHARED / "mllm_refusal_questions").rglob("*")) if SHARED.is_dir() else []
    texts = [
        fold(file.read_text(errors="replace")) for file in files if file.suffix in (".json", ".jsonl", ".csv", ".txt")
    ]
    if not texts:
        pytest.skip(f"no mllm_refusal_questions in {SHARED}")
    shared = [question for question in general() if any(fold(question) in text for text in texts)]
    assert len(shared) <= 5, shared


@pytest.mark.parametrize("question", [*ASKED, *general()[::7]])
def test_paraphrases_are_distinct_and_none_is_the_question(question: str) -> None:
    wordings = paraphrase(question, 12, seed=3)
    assert len({fold(text) for text in [*wordings, question]}) == 13
    assert wordings == paraphrase(question, 12, seed=3)
    assert wordings != paraphrase(question, 12, seed=4)


def test_paraphrases_keep_names_and_content() -> None:
    for text in paraphrase("What color is the NASA sign in Paris?", 40):
        assert "the NASA sign in Paris?" in text
    for text in paraphrase("McDonald's has which logo?", 40):
        assert "McDonald's has which logo?" in text
    for text in paraphrase("iPhone or not?", 40):
        assert "iPhone or not?" in text


def test_a_lead_in_takes_the_capital_of_the_first_word() -> None:
    texts = paraphrase("How many dogs are there?", 60)
    assert any(", how many dogs" in text for text in texts)
    assert not any(", How" in text or ": How" in text for text in texts)


@pytest.mark.parametrize("question", ASKED)
def test_families_of_wordings_do_not_overlap(question: str) -> None:
    families = [set(map(fold, paraphrase(question, 25, wording=wording))) for wording in WORDINGS]
    changed = [{text for text in family if len(text.split()) > len(question.split()) + 1} for family in families]
    assert not changed[0] & changed[1]
    assert not changed[0] & changed[2]
    assert not changed[1] & changed[2]


@pytest.mark.parametrize(("question", "n"), [("", 3), ("   ", 3), ("What is it?", 0), ("What is it?", 10_000)])
def test_impossible_paraphrases_are_refused(question: str, n: int) -> None:
    with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
        paraphrase(question, n)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "One?\n\n  Two?  \nThrée?\n"),
        ("a.questions", "\ufeffOne?\r\nTwo?\r\nThrée?"),
        ("a.json", json.dumps(["One?", {"question": "Two?"}, "Thrée?"])),
        ("a.jsonl", '{"question": "One?", "id": 4}\n"Two?"\n\n{"question": "Thrée?"}\n'),
    ],
)
def test_questions_are_read_from_every_format(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_questions(tmp_path / name) == ("One?", "Two?", "Thrée?")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b""),
        ("a.txt", b" \n\n"),
        ("a.txt", b"caf\xe9 \xff\xfe?"),
        ("a.json", b"[]"),
        ("a.json", b'{"question": "One?"}'),
        ("a.json", b"[1, 2]"),
        ("a.json", b'["One?", ""]'),
        ("a.jsonl", b'{"question": "One?"}\n{broken'),
        ("a.jsonl", b'{"text": "One?"}\n'),
        ("a.json", b"not json"),
    ],
)
def test_unusable_files_are_named_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"expected .*, got .*; try") as caught:
        read_questions(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(("content", "line"), [("What is this?\n", "What is this"), ("question\n\n", "question")])
def test_a_table_of_one_line_is_told_from_an_empty_one(tmp_path: Path, content: str, line: str) -> None:
    (tmp_path / "q.csv").write_text(content)
    with pytest.raises(UsageError, match=rf"one line alone \({line}.*try a first line that names the columns"):
        read_questions(tmp_path / "q.csv")
    (tmp_path / "q.csv").write_text("")
    with pytest.raises(UsageError, match="expected rows, got none"):
        read_questions(tmp_path / "q.csv")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UsageError, match=r"expected a file of questions"):
            read_questions(path)


def test_the_parts_of_a_split_share_nothing_and_lose_nothing() -> None:
    questions = [*general(), general()[0].upper(), general()[1] + "!!"]
    parts = split(questions, seed=1)
    whole = [*parts.shadow, *parts.development, *parts.held_out]
    assert sorted(whole) == sorted(general())
    assert (len(parts.shadow), len(parts.development), len(parts.held_out)) == (30, 10, 10)
    assert check_disjoint(parts.shadow, [*parts.held_out, *parts.development]) == []
    assert split(questions, seed=1) == parts != split(questions, seed=2)


def test_three_questions_are_the_fewest_that_can_be_split() -> None:
    parts = split(["a", "b", "c"], development=0.45, held_out=0.5)
    assert [len(part) for part in (parts.shadow, parts.development, parts.held_out)] == [1, 1, 1]
    with pytest.raises(UsageError, match="at least 3 different"):
        split(["a", "b", "A?"])
    with pytest.raises(UsageError, match="shares above 0"):
        split(["a", "b", "c"], development=0.5, held_out=0.5)


def test_overlap_is_found_in_spite_of_case_and_punctuation() -> None:
    assert check_disjoint(["What is  this?"], ["WHAT is this", "What was this?"]) == ["WHAT is this"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.csv", 'id,question\n1,"One, or two?"\n2,"Is it ""red""?"\n3,\n'),
        ("q.CSV", 'prompt;id\n"One, or two?";1\n"Is it ""red""?";2\n'),
        ("q.tsv", 'text\tid\nOne, or two?\t1\n"Is it ""red""?"\t2\n'),
        ("q.ndjson", '{"question": "One, or two?"}\n{"question": "Is it \\"red\\"?"}\n'),
        ("q.jsonl", '{"question": "One, or two?"}\n"Is it \\"red\\"?"\n'),
    ],
)
def test_tables_of_questions_are_read_by_their_column(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_questions(tmp_path / name) == ("One, or two?", 'Is it "red"?')


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_only_line_ends_part_questions(tmp_path: Path, mark: str) -> None:
    (tmp_path / "q.txt").write_text(f"One{mark}two?\r\nThree?\rFour?", encoding="utf-8", newline="")
    assert read_questions(tmp_path / "q.txt") == (f"One{mark}two?", "Three?", "Four?")
    # JSON escapes control characters, but neither of the other two.
    if mark in "\u2028\x85":
        (tmp_path / "q.jsonl").write_text(f'{{"question": "One{mark}two?"}}\n', encoding="utf-8")
        assert read_questions(tmp_path / "q.jsonl") == (f"One{mark}two?",)


@pytest.mark.parametrize("name", ["q.json", "q.jsonl"])
def test_json_of_many_levels_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[" * 100_000)
    with pytest.raises(UsageError, match="expected a JSON list"):
        read_questions(tmp_path / name)
