"""The loop: what a kill leaves behind, what is refused, the trace, and the learning rate."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from equipoise.errors import OutputError, UsageError
from equipoise.training.loop import TRACE_EVERY, LearningRate, Progress, TrainingLoop, seeded
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
    steps: list[int] = []
    resumed = trained(tmp_path / "killed", progress=lambda step, total, loss: steps.append(step))
    assert torch.equal(through.weight, resumed.weight)
    assert torch.equal(through.bias, resumed.bias)
    assert steps == list(range((killed - 1) // 3 * 3 + 1, 9))


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


def rates(steps: int, warmup: int, decay: Literal["cosine", "linear"], peak: float = 1.0) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = LearningRate([optimiser], steps, warmup, decay)
    values = []
    for step in range(steps):
        schedule.set(step)
        values.append(optimiser.param_groups[0]["lr"])
    return values


@pytest.mark.parametrize(("decay", "end"), [("cosine", 0.01), ("linear", 0.0)])
def test_the_learning_rate_warms_up_and_falls(decay: Literal["cosine", "linear"], end: float) -> None:
    values = rates(100, 10, decay)
    assert values[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[10] == pytest.approx(1.0)
    # The step after the last would have the end's rate.
    assert end < values[-1] < end + 0.02
    assert rates(1, 0, decay) == pytest.approx([1.0])


def test_a_linear_decay_falls_by_the_same_amount_every_step() -> None:
    values = rates(30, 5, "linear", peak=0.2)[5:]
    assert [one - other for one, other in itertools.pairwise(values)] == pytest.approx([0.2 / 25] * 24)


def test_groups_keep_their_own_peaks_when_a_checkpoint_brings_other_rates() -> None:
    weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    optimiser = torch.optim.SGD([{"params": weights[:1], "lr": 1.0}, {"params": weights[1:], "lr": 10.0}])
    schedule = LearningRate([optimiser], 10, 2, "linear")
    schedule.set(9)
    saved = optimiser.state_dict()
    optimiser.load_state_dict(saved)
    schedule.set(2)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([1.0, 10.0])


def test_random_numbers_are_seeded_inside_and_left_alone_outside() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded(1):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(2)
    with seeded(1):
        assert torch.equal(torch.rand(3), first)
    before = torch.get_rng_state()
    with pytest.raises(KilledError), seeded(2):
        kill_at(int(torch.rand(1)))(0, 1, 0.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_process_that_does_not_write_takes_the_same_steps_and_leaves_no_file(tmp_path: Path) -> None:
    numbers: list[int] = []

    def step(number: int) -> dict[str, float]:
        numbers.append(number)
        return {"loss": 1.0}

    seconds: list[int] = []
    loop = TrainingLoop(tmp_path / "out", 5, RECIPE, 2, writes=False)
    loop.run(step, {}, lambda done, steps, loss: seconds.append(done))
    assert numbers == [0, 1, 2, 3, 4]
    assert seconds == [1, 2, 3, 4, 5]
    assert not (tmp_path / "out").exists()
    # It goes on from the checkpoint that the first process wrote.
    TrainingLoop(tmp_path / "out", 4, RECIPE, 2).run(step, {})
    numbers.clear()
    loop.run(step, {})
    assert numbers == [4]
