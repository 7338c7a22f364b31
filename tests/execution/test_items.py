"""Keys say what an item is; parcels notice bytes that changed on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from equipoise.execution import Parcel, content_key


def test_a_key_depends_on_kind_inputs_and_recipe_and_on_nothing_else() -> None:
    key = content_key("perturb", ["a", "b"], {"seed": 0, "steps": 3})
    assert key == content_key("perturb", ["a", "b"], {"steps": 3, "seed": 0})
    others = [
        content_key("audit", ["a", "b"], {"seed": 0, "steps": 3}),
        content_key("perturb", ["b", "a"], {"seed": 0, "steps": 3}),
        content_key("perturb", ["ab"], {"seed": 0, "steps": 3}),
        content_key("perturb", ["a", "b"], {"seed": 1, "steps": 3}),
    ]
    assert len({key, *others}) == 5


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_a_parcel_comes_back_as_it_was(parts: list[bytes]) -> None:
    parcel = Parcel.of(*parts)
    assert parcel.damage is None
    assert Parcel.from_bytes(parcel.to_bytes()) == parcel


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=3), st.data())
def test_a_torn_or_changed_parcel_is_noticed(parts: list[bytes], data: st.DataObject) -> None:
    content = Parcel.of(*parts).to_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    assert Parcel.from_bytes(content[:cut]) is None
    flipped = bytearray(content)
    flipped[cut] ^= 1
    assert Parcel.from_bytes(bytes(flipped)) is None
    assert Parcel.from_bytes(content + b"\0") is None


def test_a_missing_picture_is_noticed_on_arrival() -> None:
    parcel = Parcel.of(b"what to do", b"a picture")
    assert Parcel(parcel.parts[:1], parcel.digest).damage == "other bytes arrived than were sent"
    # The same bytes, divided in another way, are other parts.
    assert Parcel((b"what to", b" doa picture"), parcel.digest).damage is not None
