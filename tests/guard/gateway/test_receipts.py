"""Every part ends once; what nobody closed is unsupported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.guard.gateway.receipts import OUTCOMES, Receipts


@given(st.dictionaries(st.text(max_size=5), st.sampled_from([*OUTCOMES, None]), max_size=20))
def test_every_part_has_exactly_one_receipt(parts: dict[str, str | None]) -> None:
    receipts = Receipts()
    receipts.expect((path, "text") for path in parts)
    receipts.expect((path, "text") for path in parts)
    for path, outcome in parts.items():
        if outcome is not None:
            receipts.close(path, outcome, "why")  # type: ignore[arg-type]
    assert receipts.open_paths() == [path for path, outcome in parts.items() if outcome is None]
    closed = [path for path, outcome in parts.items() if outcome is not None]
    assert [receipt.path for receipt in receipts.all()] == closed
    assert len(receipts.to_json()) == len(closed)
    receipts.finish()
    finished = receipts.all()
    assert [receipt.path for receipt in finished] == list(parts)
    assert [receipt.outcome for receipt in finished] == [outcome or "unsupported" for outcome in parts.values()]
    assert receipts.open_paths() == []
    counts = dict(pair.split("=") for pair in receipts.header().split())
    assert sum(map(int, counts.values())) == len(parts)
    assert len(receipts.to_json()) == len(parts)


def test_no_part_ends_twice_or_unasked() -> None:
    receipts = Receipts()
    receipts.expect([("a", "text")])
    receipts.close("a", "checked", "d")
    for path in ("a", "b"):
        with pytest.raises(ValueError, match="open part"):
            receipts.close(path, "checked", "d")
