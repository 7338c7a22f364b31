from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import UsageError
from equipoise.generation.generated_prompt import GeneratedPrompt, SeedPrompt
from equipoise.generation.review_sheet import COLUMNS, PEOPLE_LABELS, read_labels, write_sheet

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)


def row(text: str, label: str = "harmless") -> GeneratedPrompt:
    return GeneratedPrompt(text, SeedPrompt("s"), "grown", 0, {}, label=label)  # type: ignore[arg-type]


def labelled(folder: Path, labels: list[str]) -> Path:
    with (folder / "review.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for entry, label in zip(rows, labels, strict=True):
        entry["label"] = label
    with (folder / "back.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return folder / "back.csv"


@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_any_text_comes_back_from_the_sheet(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_sheet([(str(number), row(text)) for number, text in enumerate(texts)], Path(name))
        with (Path(name) / "review.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [entry["prompt"].removeprefix("'") for entry in rows] == [text.removeprefix("'") for text in texts]
        assert [entry["id"] for entry in rows] == [str(number) for number in range(len(texts))]
        # No cell starts a formula in a spreadsheet.
        assert not any(entry["prompt"][:1] in tuple("=+-@") for entry in rows)


@given(st.lists(st.sampled_from(["harmless", "controversial", "harmful", ""]), min_size=1, max_size=30))
def test_counts_add_up(labels: list[str]) -> None:
    if not any(labels):
        return
    with tempfile.TemporaryDirectory() as name:
        own = [row(f"prompt {n}", "controversial" if n % 4 == 3 else "harmless") for n in range(len(labels))]
        write_sheet([(str(n), prompt) for n, prompt in enumerate(own)], Path(name))
        precision = read_labels(labelled(Path(name), labels))
        harmless = [label for label, prompt in zip(labels, own, strict=True) if prompt.label == "harmless"]
        assert precision.harmless.k == harmless.count("harmless")
        assert precision.harmless.n + precision.harmless.unscored == len(harmless)
        assert precision.harmless.n == precision.not_harmful.n
        assert precision.not_harmful.k >= precision.harmless.k
        assert precision.controversial.n + precision.controversial.unscored == len(labels) - len(harmless)
        differing = sum(bool(label) and label != prompt.label for label, prompt in zip(labels, own, strict=True))
        assert len(precision.disagreements) == differing


@pytest.mark.parametrize("word", sorted(PEOPLE_LABELS))
def test_every_word_for_a_label_is_understood(word: str, tmp_path: Path) -> None:
    write_sheet([("0", row("prompt"))], tmp_path)
    for written in (word, word.upper(), f"  {word} "):
        precision = read_labels(labelled(tmp_path, [written]))
        assert precision.harmless.n == 1
        assert precision.harmless.k == (PEOPLE_LABELS[word] == "harmless")


def test_the_html_asks_for_the_three_labels(tmp_path: Path) -> None:
    _, page = write_sheet([("0", row("prompt"))], tmp_path)
    text = page.read_text(encoding="utf-8")
    assert all(f"<b>{label}</b>" in text for label in ("harmless", "controversial", "harmful"))
    assert text.startswith("<!doctype html>")
    assert "<script" not in text


def test_what_people_filled_in_stays(tmp_path: Path) -> None:
    table, _ = write_sheet([("1", row("one")), ("2", row("two")), ("3", row("three"))], tmp_path)
    labelled(tmp_path, ["harmless", "", "harmful"]).replace(table)
    write_sheet([("1", row("two")), ("2", row("three")), ("3", row("four"))], tmp_path)
    with table.open(newline="", encoding="utf-8") as file:
        rows = [(entry["prompt"], entry["label"]) for entry in csv.DictReader(file)]
    assert rows == [("two", ""), ("three", "harmful"), ("four", ""), ("one", "harmless")]


def test_a_sheet_that_cannot_be_read_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "review.csv").write_text("id;prompt;label\n1;one;harmless\n")
    with pytest.raises(UsageError, match="expected the columns prompt, gate and label"):
        write_sheet([("1", row("one"))], tmp_path)
    assert "harmless" in (tmp_path / "review.csv").read_text()
