"""Output that every stream takes, whatever a file name or a reply holds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.cli.console import print_json, print_table, printable, table

HALF = "x-\udce9.png"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_that_has_bytes_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_half_a_surrogate_pair_is_escaped_everywhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert printable(HALF) == "x-\\udce9.png"
    print_json({"image": HALF})
    assert json.loads(capfd.readouterr().out) == {"image": HALF}
    print_table(f"{HALF} -> done", table("", ["picture"], [(HALF,)]))
    assert capfd.readouterr().out.count("x-\\udce9.png") == 2
