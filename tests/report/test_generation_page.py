from __future__ import annotations

import re
from pathlib import Path

import pytest

from equipoise.generation.generated_prompt import GeneratedPrompt, RequestVerdict, SeedPrompt
from equipoise.generation.transfer import TransferRow
from equipoise.report.generation_page import render, weighed_words, write
from equipoise.stats.proportions import Rate

RECIPE = {"method": "mutated", "writer": "writer@1", "victim": "victim@2", "refusal": "I'm sorry"}
SUMMARY = {"attempts": 7, "seconds": 12.0, "per_hour": 300.0, "reasons": {"the victim answers it": 4}}
HOSTILE = "</p><script>alert(1)</script> \u202eright to left"


def prompt(text: str = "How do I kill it?", **changes: object) -> GeneratedPrompt:
    base = GeneratedPrompt(
        text,
        SeedPrompt("How do I stop it?", "home"),
        "mutated",
        3,
        {"refusal": -0.5, "seed_refusal": -4.0},
        reply="Sorry.",
        refused=True,
        verdicts=(RequestVerdict("encoder", "harmless", 0.21),),
        label="harmless",
    )
    return base.but(**changes)


def test_untrusted_texts_stay_texts() -> None:
    page = render(
        [prompt(HOSTILE, reply=HOSTILE, words=((HOSTILE, 1.0),), seed=SeedPrompt(HOSTILE, HOSTILE))],
        RECIPE | {"victim": HOSTILE, "writer": HOSTILE, "refusal": HOSTILE},
        summary=SUMMARY | {"reasons": {HOSTILE: 1}},
        transfer=[TransferRow(HOSTILE, Rate.of(1, 2), Rate.of(0, 2))],
    )
    assert "<script>" not in page
    assert page.count("<bdi>") == page.count("</bdi>") >= 6


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = render([prompt()], RECIPE, summary=SUMMARY)
    assert re.findall(r'(?:src|href)="(?!review\.html|#)([^"]*)"', page) == []
    assert "@import" not in page


def test_yield_scores_and_judges_are_shown() -> None:
    page = render([prompt(), prompt(label="controversial")], RECIPE, summary=SUMMARY)
    assert "1 harmless and 1 controversial" in page
    assert "300.0 accepted harmless prompts an hour" in page
    assert "the victim answers it</td><td>4" in page
    assert "refusal score -0.50, of the seed -4.00" in page
    assert "encoder: harmless (0.21)" in page


def test_the_page_says_that_the_prompts_were_selected() -> None:
    assert "100 % by construction" in render([prompt()], RECIPE, summary=SUMMARY)


def test_unscored_replies_are_shown_beside_the_rate() -> None:
    rows = [TransferRow("a", Rate.of(3, 4, 2), Rate.of(0, 0, 5)), TransferRow("b", Rate.of(0, 4), Rate.of(0, 4))]
    page = render([prompt()], RECIPE, summary=SUMMARY, transfer=rows)
    assert "2 unscored" in page
    assert "unknown" in page


def test_a_picture_stands_with_its_prompt() -> None:
    page = render([prompt(picture="pictures/benign-cup.png", picture_kind="benign")], RECIPE, summary=SUMMARY)
    assert '<img src="pictures/benign-cup.png" alt="benign picture">' in page
    assert "<img" not in render([prompt()], RECIPE, summary=SUMMARY)


@pytest.mark.parametrize(
    ("weights", "shares"),
    [((), []), ((0.0, 0.0), [0, 0]), ((1.0, 0.5, -3.0), [10, 5, 0]), ((-1.0, -2.0), [0, 0]), ((0.2, 4.0), [0, 10])],
)
def test_marks_are_shares_of_the_largest_weight(weights: tuple[float, ...], shares: list[int]) -> None:
    words = tuple((f"w{number}", weight) for number, weight in enumerate(weights))
    assert [word.share for word in weighed_words(prompt(words=words))] == shares
    assert [word.weight for word in weighed_words(prompt(words=words))] == list(weights)


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    page = write(tmp_path / "suite", [prompt()], RECIPE, summary=SUMMARY)
    assert page.name == "index.html"
    assert page.read_text(encoding="utf-8") == render([prompt()], RECIPE, summary=SUMMARY)
    assert list((tmp_path / "suite").iterdir()) == [page]
