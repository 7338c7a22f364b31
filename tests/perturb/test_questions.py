"""Which questions are optimised on, and which are asked afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.data.questions import check_disjoint, general
from equipoise.errors import UsageError
from equipoise.perturb.questions import HELD_OUT, PARAPHRASES, choose_questions


def test_without_questions_our_own_are_taken_and_do_not_overlap() -> None:
    chosen = choose_questions()
    assert (chosen.kind, chosen.shadow, chosen.held_out) == ("general", general(), HELD_OUT)
    assert check_disjoint(chosen.shadow, chosen.held_out) == []
    assert chosen.warnings == ()


def test_given_questions_are_optimised_on_and_measured_with_a_warning() -> None:
    chosen = choose_questions(["What is it?", "What is it?", " Who? "])
    assert chosen.shadow == chosen.held_out == ("What is it?", "Who?")
    assert chosen.kind == "exact"
    assert len(chosen.warnings) == 1


def test_similar_wordings_leave_the_given_ones_out() -> None:
    chosen = choose_questions(["What is in the picture?"], kind="similar", seed=3)
    assert 1 < len(chosen.shadow) <= PARAPHRASES
    assert "What is in the picture?" not in chosen.shadow
    assert chosen == choose_questions(["What is in the picture?"], kind="similar", seed=3)
    assert chosen.shadow != choose_questions(["What is in the picture?"], kind="similar", seed=4).shadow


def test_the_options_name_everything_that_was_given(tmp_path: Path) -> None:
    for name in ("q.txt", "h.txt"):
        (tmp_path / name).write_text("From a file?\n")
    chosen = choose_questions(["A?"], ["B?"], file=tmp_path / "q.txt", held_out_file=tmp_path / "h.txt")
    words = ("--question", "A?", "--questions", str(tmp_path / "q.txt"), "--ask", "B?")
    assert chosen.options == (*words, "--held-out", str(tmp_path / "h.txt"))
    assert (chosen.shadow, chosen.held_out) == (("A?", "From a file?"), ("B?", "From a file?"))


@pytest.mark.parametrize("kind", ["exact", "similar"])
def test_a_kind_that_needs_questions_gets_some(kind: str) -> None:
    with pytest.raises(UsageError, match=f"questions for --shadow {kind}"):
        choose_questions(kind=kind)  # type: ignore[arg-type]
