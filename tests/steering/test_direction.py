from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import ModelError, UsageError
from equipoise.steering.direction import Direction
from equipoise.steering.steerable import Steerable


def direction(seed: int = 0, **more) -> Direction:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(seed)) * 3
    settings = {"layer": 1, "position": -1, "model": "llama", "revision": "seed-0", "kind": "refusal"} | more
    return Direction(vector, **settings)


def test_a_direction_survives_its_file(tmp_path: Path) -> None:
    original = direction(data={"harmful": "abc"}, metrics={"bypass": -3.5}, details={"openers": {"sequences": [[4]]}})

    path = original.save(tmp_path / "refusal.safetensors")
    loaded = Direction.load(path)

    assert torch.equal(loaded.vector, original.vector)
    assert loaded.to_dict() == original.to_dict()
    assert loaded.digest == original.digest
    assert Direction.load(tmp_path / "refusal").digest == original.digest
    assert json.loads((tmp_path / "refusal.json").read_text())["norm"] == pytest.approx(original.norm)


@pytest.mark.parametrize("damage", ["missing", "cut", "swapped", "no document"])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    path = direction().save(tmp_path / "refusal.safetensors")
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:40])
    elif damage == "swapped":
        direction(1).save(tmp_path / "other.safetensors")
        path.write_bytes((tmp_path / "other.safetensors").read_bytes())
    else:
        path.with_suffix(".json").unlink()

    with pytest.raises(UsageError, match=r"expected .*; try"):
        Direction.load(path)


def test_algebra() -> None:
    one, other = direction(0), direction(1)

    assert float(one.unit.norm()) == pytest.approx(1)
    assert one.cosine(-one) == pytest.approx(-1)
    assert (one + other - other).cosine(one) == pytest.approx(1)
    assert one.scaled(2).norm == pytest.approx(2 * one.norm)


def test_directions_that_do_not_belong_together_are_not_combined() -> None:
    one = direction()
    with pytest.raises(UsageError, match="one model"):
        one + replace(one, revision="other")


def test_a_zero_or_infinite_direction_is_none() -> None:
    for vector in (torch.zeros(4), torch.tensor([1.0, torch.inf]), torch.ones(2, 2)):
        with pytest.raises(UsageError, match="finite numbers"):
            Direction(vector, layer=0, position=-1, model="m", revision="r")


def test_it_is_refused_on_another_model(tiny_llama: Steerable) -> None:
    direction().check_model(tiny_llama)
    with pytest.raises(ModelError, match="direction find"):
        direction(revision="seed-1").check_model(tiny_llama)


def test_random_directions_have_its_length_and_no_part_in_it() -> None:
    one = direction()
    randoms = [one.random_like(seed) for seed in range(50)]
    assert all(other.norm == pytest.approx(one.norm, rel=1e-5) for other in randoms)
    assert abs(sum(other.cosine(one) for other in randoms) / 50) < 0.1
    assert torch.equal(randoms[3].vector, one.random_like(3).vector)
    assert randoms[0].kind == "random"


@given(st.integers(0, 500), st.floats(0.1, 4), st.sampled_from([-1.0, 1.0]))
def test_algebra_holds_for_any_vectors(seed: int, length: float, sign: float) -> None:
    one, other = direction(seed), direction(seed + 1000)
    torch.testing.assert_close((one + other - other).vector, one.vector, atol=1e-5, rtol=1e-4)
    opposite = -one
    torch.testing.assert_close((-opposite).vector, one.vector)
    assert one.scaled(sign * length).cosine(one) == pytest.approx(sign, abs=1e-5)


@given(st.integers(0, 200))
def test_what_algebra_makes_is_no_longer_what_was_chosen(seed: int) -> None:
    one, other = direction(seed), direction(seed + 1000)
    for derived in (one + other, one - other, one.scaled(2), -one):
        assert derived.kind == "difference"
        assert derived.metrics == {}
        assert derived.digest != one.digest
        assert derived.revision == one.revision


@pytest.mark.parametrize(
    "change",
    [
        *({name: ...} for name in ("position", "model", "revision", "kind", "data", "metrics", "details")),
        *({name: value} for name in ("layer", "position") for value in ("top", None, float("inf"))),
        *({name: value} for name in ("data", "metrics", "details") for value in (3, "words")),
        {"kind": "guess"},
    ],
)
def test_a_changed_document_is_one_clear_error(tmp_path: Path, change: dict[str, object]) -> None:
    path = direction().save(tmp_path / "refusal.safetensors")
    document = json.loads(path.with_suffix(".json").read_text()) | change
    path.with_suffix(".json").write_text(
        json.dumps({key: value for key, value in document.items() if value is not ...})
    )
    with pytest.raises(UsageError, match=r"^expected [^\n]*, got [^\n]*; try [^\n]*$"):
        Direction.load(path)
