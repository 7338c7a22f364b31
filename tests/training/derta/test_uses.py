"""Which uses of the rows fill a training: whole epochs, or exactly so many steps, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest

from equipoise.data.refusal_rows import RefusalRow
from equipoise.training.derta.train import DertaTrainingConfig, _uses

ROWS = [
    *[RefusalRow(at, "harmful", (("user", "How?"),), "Take a pin.", "Sorry.") for at in range(3)],
    *[RefusalRow(at, "ordinary", (("user", "How?"),), "Mix flour.") for at in range(3, 7)],
]
"""Ten uses in a pass: three rows twice, four once."""


def forms(**changes: object) -> Counter[str]:
    return Counter(use.form for use in _uses(ROWS, DertaTrainingConfig("m", **changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize("epochs", [1, 3])
def test_epochs_use_every_row_as_often(epochs: int) -> None:
    assert forms(epochs=epochs) == {"refuse": 3 * epochs, "turn": 3 * epochs, "answer": 4 * epochs}


@pytest.mark.parametrize("epochs", [1, 3])
def test_without_the_transition_the_share_of_harmful_rows_is_the_same(epochs: int) -> None:
    assert forms(epochs=epochs, rto_weight=0.0) == {"refuse": 6 * epochs, "answer": 4 * epochs}


@pytest.mark.parametrize(("steps", "batch"), [(1, 4), (5, 4), (7, 3), (25, 8)])
def test_steps_are_filled_exactly(steps: int, batch: int) -> None:
    assert sum(forms(steps=steps, batch=batch).values()) == steps * batch


def test_steps_mix_the_rows_as_epochs_do() -> None:
    counts = forms(steps=100, batch=10)
    assert counts["answer"] == pytest.approx(400, abs=4)
    assert counts["turn"] == pytest.approx(300, abs=4)


def test_every_use_has_random_numbers_of_its_own() -> None:
    uses = _uses(ROWS, DertaTrainingConfig("m", epochs=4))
    assert len({use.seed for use in uses}) == len(uses)
    first = [use.random().integers(1 << 30) for use in uses]
    assert len(set(first)) == len(uses)
    assert first == [use.random().integers(1 << 30) for use in uses]


def test_the_seed_decides_which_uses_fill_the_steps() -> None:
    def chosen(seed: int) -> list[tuple[int, str]]:
        return [(use.row, use.form) for use in _uses(ROWS, DertaTrainingConfig("m", steps=2, batch=3, seed=seed))]

    assert chosen(0) == chosen(0)
    assert len({tuple(chosen(seed)) for seed in range(8)}) > 1
