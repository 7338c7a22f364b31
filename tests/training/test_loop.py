"""The loop: what a kill leaves behind, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from equipoise.errors import OutputError, UsageError
from equipoise.training.loop import TRACE_EVERY, Progress, TrainingLoop, warm_cosine
from tests.training.fakes import KilledError, kill_at

RECIPE = {"rate": 0.1, "seed": 0}


def trained(out: Path, *, steps: int = 8, every: int = 3, progress: Progress | None = None, **recipe: Any) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Linear(4, 2)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1)

    def step(number: int) -> dict[str, float]:
        given = torch.randn(5, 4, generator=torch.Generator().manual_seed(number))
        loss = network(given).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return {"loss": float(loss.detach()), "number": float(number)}

    TrainingLoop(out, steps, RECIPE | recipe, every).run(step, {"network": network, "optimiser": optimiser}, progress)
    return network


def trace(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("killed", [1, 3, 5, 8])
def test_a_killed_run_resumed_gives_the_same_weights(tmp_path: Path, killed: int) -> None:
    through = trained(tmp_path / "through")
    with pytest.raises(KilledError):
        trained(tmp_path / "killed", progress=kill_at(killed))
    seen: list[int] = []
    resumed = trained(tmp_path / "killed", progress=lambda step, steps, loss: seen.append(step))
    assert torch.equal(through.weight, resumed.weight)
    assert torch.equal(through.bias, resumed.bias)
    assert seen == list(range((killed - 1) // 3 * 3 + 1, 9))


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = trained(tmp_path)

    def never(step: int, steps: int, loss: float) -> None:
        raise AssertionError

    assert torch.equal(trained(tmp_path, progress=never).weight, first.weight)


def test_another_recipe_is_refused_with_what_has_changed(tmp_path: Path) -> None:
    trained(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="got another extra, rate; try a new folder"):
        trained(tmp_path, rate=0.2, extra=1)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_is_not_kept(tmp_path: Path, loss: float) -> None:
    losses = iter([1.0, 1.0, loss])
    with pytest.raises(UsageError, match=r"finite loss, got .* at step 3; try a lower learning rate"):
        TrainingLoop(tmp_path, 5, RECIPE, 1).run(lambda number: {"loss": next(losses)}, {})
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 2


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(OutputError, match=r"expected a folder to write to, got .*; try another folder"):
            trained(out)
    (tmp_path / "taken" / "training.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match="Is a directory"):
        trained(tmp_path / "taken", progress=kill_at(1))


@pytest.mark.parametrize("error", [OSError(28, os.strerror(28)), RuntimeError("file write failed")])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"got .* \((No space left on device|file write failed)\)"):
        trained(tmp_path)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:400])


@pytest.mark.parametrize(
    "damage",
    [
        half,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no checkpoint"),
        lambda path: torch.save({"weights": 1}, path),
        lambda path: torch.save([1], path),
    ],
)
def test_a_checkpoint_that_is_none(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    trained(tmp_path)
    damage(tmp_path / "checkpoint.pt")
    with pytest.raises(UsageError, match="got another or a damaged file; try a new folder"):
        trained(tmp_path)


def test_the_trace_names_every_loss_and_the_last_step(tmp_path: Path) -> None:
    trained(tmp_path, steps=TRACE_EVERY + 5)
    rows = trace(tmp_path)
    assert [row["step"] for row in rows] == [TRACE_EVERY, TRACE_EVERY + 5]
    assert all(row.keys() == {"step", "loss", "number", "seconds"} for row in rows)


def test_no_step_stands_in_the_trace_twice(tmp_path: Path) -> None:
    steps = 3 * TRACE_EVERY
    for killed in (TRACE_EVERY + 2, 2 * TRACE_EVERY + 2):
        with pytest.raises(KilledError):
            trained(tmp_path, steps=steps, every=TRACE_EVERY + 15, progress=kill_at(killed))
    with (tmp_path / "training.jsonl").open("a") as file:
        file.write('{"step": 4')
    trained(tmp_path, steps=steps, every=TRACE_EVERY + 15)
    assert [row["step"] for row in trace(tmp_path)] == [TRACE_EVERY, 2 * TRACE_EVERY, steps]


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth() -> None:
    rates = [warm_cosine(step, 100, 10) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert (rates[10], rates[100]) == pytest.approx((1.0, 0.01))
    assert warm_cosine(0, 1, 0) == pytest.approx(1.0)
