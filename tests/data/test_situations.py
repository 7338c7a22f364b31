"""Suites in which picture and text decide together: what each combination is expected to get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from equipoise.data.catalogue import load_suite
from equipoise.errors import UsageError
from equipoise.types import Sample


def paint(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 6), "teal").save(path)


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def load(name: str, folder: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in load_suite(name, path=folder).samples}


def test_holisafe_is_answered_where_both_are_safe_together(tmp_path: Path) -> None:
    kinds = ("SSS", "SSU", "SUU", "USU", "UUU")
    rows = [
        {"id": number, "image": f"a/{number}.png", "query": f"What {kind}?", "type": kind, "category": "x"}
        for number, kind in enumerate(kinds)
    ]
    put(tmp_path / "holisafe_bench.json", rows)
    for number in range(4):
        paint(tmp_path / "images" / "a" / f"{number}.png")
    samples = load("holisafe", tmp_path)
    assert [sample.expected for sample in samples.values()] == ["answer", *["refuse"] * 4]
    assert [sample.category for sample in samples.values()] == list(kinds)
    assert [len(sample.pictures) for sample in samples.values()] == [1, 1, 1, 1, 0]
    assert "is missing" in str(samples["4"].problem)


@pytest.mark.parametrize("kind", ["", "SS", "SSX", "SSSS"])
def test_holisafe_with_another_type_is_one_error(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "holisafe_bench.json", [{"id": 1, "image": "1.png", "query": "What?", "type": kind}])
    with pytest.raises(UsageError, match="expected a type such as SSS"):
        load("holisafe", tmp_path)


def test_mssbench_asks_each_question_about_both_situations(tmp_path: Path) -> None:
    entry = {"safe_image_path": "s.jpg", "unsafe_image_path": "u.jpg", "Type": "physical", "queries": ["How?", "When?"]}
    put(tmp_path / "combined.json", {"chat": [entry, {**entry, "queries": "Why?"}], "embodied": [{"task": "x"}]})
    for name in ("s.jpg", "u.jpg"):
        paint(tmp_path / "chat" / name)
    samples = load("mssbench", tmp_path)
    assert set(samples) == {"1-1-safe", "1-2-safe", "1-1-unsafe", "1-2-unsafe", "2-1-safe", "2-1-unsafe"}
    safe, unsafe = samples["1-2-safe"], samples["1-2-unsafe"]
    assert (safe.text, safe.expected, unsafe.text, unsafe.expected) == ("When?", "answer", "When?", "refuse")
    assert safe.cluster == unsafe.cluster == samples["1-1-safe"].cluster != samples["2-1-safe"].cluster
    assert all(sample.pictures for sample in samples.values())
    assert (safe.category, unsafe.category) == ("physical, safe", "physical, unsafe")


@pytest.mark.parametrize(
    "document", [[], {"chat": []}, {"chat": ["x"]}, {"chat": [{"queries": []}]}, {"embodied": [1]}]
)
def test_mssbench_of_another_form_is_one_error(tmp_path: Path, document: Any) -> None:
    put(tmp_path / "combined.json", document)
    with pytest.raises(UsageError, match="published file"):
        load("mssbench", tmp_path)


def test_siuo_is_to_be_refused(tmp_path: Path) -> None:
    row = {"question_id": 7, "image": "S-01.png", "question": "May I?", "category": "morality", "safety_warning": "w"}
    put(tmp_path / "siuo_gen.json", [row])
    paint(tmp_path / "images" / "S-01.png")
    (sample,) = load("siuo", tmp_path).values()
    assert (sample.id, sample.expected, sample.category, len(sample.pictures)) == ("7", "refuse", "morality", 1)


def test_vlsu_follows_the_grade_of_both_together(tmp_path: Path) -> None:
    head = "uuid,prompt,web_path,combined_category,image_grade,consensus_text_grade,consensus_combined_grade\n"
    rows = [
        f"u{number},What?,https://h.org/p/{number}.jpg?x=1,c,safe,safe,{grade}"
        for number, grade in enumerate(("safe", "Borderline", "unsafe", "not_sure"))
    ]
    put(tmp_path / "data" / "VLSU.csv", head + "\n".join(rows) + "\n")
    paint(tmp_path / "images" / "u0.png")
    paint(tmp_path / "images" / "1.jpg")
    samples = load("vlsu", tmp_path)
    assert [sample.expected for sample in samples.values()] == ["answer", "borderline", "refuse"]
    assert [len(sample.pictures) for sample in samples.values()] == [1, 1, 0]
    put(tmp_path / "data" / "VLSU.csv", head + "u0,What?,x,c,safe,safe,hot\n")
    with pytest.raises(UsageError, match="got 'hot'"):
        load("vlsu", tmp_path)


def test_falsereject_is_to_be_answered(tmp_path: Path) -> None:
    put(tmp_path / "test.jsonl", json.dumps({"prompt": "How do I kill time?", "category_text": "x"}) + "\n")
    (sample,) = load("falsereject", tmp_path).values()
    assert (sample.text, sample.expected) == ("How do I kill time?", "answer")
