"""A spec as text: what is given is known apart from defaults, and what is written reads as the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from equipoise.countermeasures.catalogue import parse
from equipoise.errors import UsageError


def test_what_is_given_is_known_apart_from_the_defaults() -> None:
    spec = parse("noise:seed = 0")
    assert spec.given == {"seed": "0"}
    assert spec.values == {"sigma": "0.05", "seed": "0"}
    assert spec.with_setting("sigma", "0.1").to_text() == "noise:sigma=0.1,seed=0"
    assert parse("steer:a,ablate").to_text() == "steer:file=a,mode=ablate"
    assert parse("noise:").to_text() == "noise"


@given(st.text(min_size=1))
def test_a_written_spec_reads_as_the_same_or_is_refused(value: str) -> None:
    spec = parse("surgical:coefficient=2").with_setting("file", value)
    try:
        text = spec.to_text()
    except UsageError:
        assert "," in value or value != value.strip()
    else:
        assert parse(text) == spec
