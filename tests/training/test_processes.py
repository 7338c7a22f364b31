"""One training in two processes: the losses and the weights of one process."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from equipoise.errors import UsageError
from equipoise.training import processes
from equipoise.training.processes import TrainingProcesses, shared_mean, shared_weight
from equipoise.training.sharded_copy import ShardingPlan
from tests.child_process import environment
from tests.guard.tiny_models import decoder, encoder
from tests.models.families.llava import llava
from tests.training.derta.tokenizer_kinds import write_text_model
from tests.training.fakes import KilledError
from tests.training.parallel_runs import KILL, all_losses, resumed_losses, supervised_losses

PROCESSES = 2
ADAPTER = "adapter_model.safetensors"
WRITTEN = ("detoxifier/model.safetensors", f"derta/{ADAPTER}")


def models(folder: Path) -> Path:
    encoder(folder / "encoder")
    decoder(folder / "decoder")
    write_text_model(folder / "chat")
    llava(folder / "llava")
    return folder


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def in_two_processes(arguments: list[str], **variables: str) -> dict[str, list[float]]:
    """What both processes print, which is the same; with the variables that torchrun and `accelerate launch` set."""
    shared = {"WORLD_SIZE": str(PROCESSES), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | variables
    line = [sys.executable, "-m", "tests.training.parallel_runs", *arguments]
    started = [
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env=environment(**shared, RANK=str(rank), LOCAL_RANK=str(rank)))
        for rank in range(PROCESSES)
    ]  # fmt: skip
    printed = []
    for process in started:
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        printed.append(json.loads(output.splitlines()[-1]))
    shares = [losses.pop("shares", []) for losses in printed]
    assert printed[0] == printed[1], "every process reports the loss of all"
    return dict(printed[0]) | ({"shares": shares[0]} if shares[0] else {})


def test_two_processes_have_the_losses_and_the_weights_of_one(tmp_path: Path) -> None:
    folder = models(tmp_path / "models")
    losses = in_two_processes([str(folder), str(tmp_path / "two")])
    alone = all_losses(folder, tmp_path / "one")
    require_same_losses(losses, alone)
    for file in WRITTEN:
        require_same_weights(tmp_path / "one" / file, tmp_path / "two" / file)
    trace = (tmp_path / "two" / "derta" / "training.jsonl").read_text().splitlines()
    assert len(trace) == 1, "one process writes the trace"


def require_same_losses(losses: dict[str, list[float]], alone: dict[str, list[float]]) -> None:
    assert losses.keys() == alone.keys()
    for name, expected in alone.items():
        assert len(expected) >= 2
        assert losses[name] == pytest.approx(expected, rel=1e-4, abs=1e-6), name


def require_same_weights(one: Path, two: Path) -> None:
    weights, others = load_file(one), load_file(two)
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], rtol=1e-2, atol=2e-4)


def test_sharded_models_have_the_losses_and_the_weights_of_one_process(tmp_path: Path) -> None:
    folder = models(tmp_path / "models")
    # A checkpoint of one process, from which the sharded training goes on.
    with pytest.raises(KilledError):
        resumed_losses(folder, tmp_path / "two" / "begun", KILL)
    launched = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    losses = in_two_processes([str(folder), str(tmp_path / "two"), "sharded"], **launched)
    shares = losses.pop("shares")
    assert len(shares) == 5
    # About: a process may hold a row of a small matrix more than the other.
    assert shares == pytest.approx([0.5] * 5, abs=0.02)
    whole = resumed_losses(folder, tmp_path / "one" / "begun")
    alone = supervised_losses(folder, tmp_path / "one") | {"resumed": whole[KILL - 1 :]}
    require_same_losses(losses, alone)
    # And the other way round: what two processes wrote before a kill is whole, and one process goes on from it.
    assert resumed_losses(folder, tmp_path / "two" / "killed") == pytest.approx(whole[KILL - 1 :], rel=1e-4)
    for file in WRITTEN:
        require_same_weights(tmp_path / "one" / file, tmp_path / "two" / file)
    for name in ("begun", "killed"):
        require_same_weights(tmp_path / "one" / "begun" / ADAPTER, tmp_path / "two" / name / ADAPTER)


def test_one_process_computes_everything_itself() -> None:
    alone = TrainingProcesses.join()
    assert (alone.rank, alone.count, alone.is_first) == (0, 1, True)
    assert list(alone.share([1, 2, 3])) == [1, 2, 3]
    assert alone.mean({"loss": 0.1}) == {"loss": 0.1}
    assert alone.on_first(lambda: 7) == 7
    values = torch.tensor([1.0, 2.0, 6.0])
    assert shared_mean(values) == values.mean()
    assert shared_mean(values[:0]) == 0
    assert shared_weight(5) == 1.0


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_shares_are_all_rows_once_or_each_of_too_few_everywhere(count: int, rows: int) -> None:
    shares = [list(TrainingProcesses(rank, count).share(range(rows))) for rank in range(count)]
    assert all(shares)
    together = sorted(row for share in shares for row in share)
    assert together == (list(range(rows)) if rows >= count else sorted(list(range(rows)) * count))


def test_a_launcher_of_other_processes_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="got DEEPSPEED; try torchrun"):
        processes._require_data_parallel("DistributedType.DEEPSPEED")
    processes._require_data_parallel("DistributedType.MULTI_CPU")


def test_a_training_that_calls_parts_of_its_model_refuses_to_be_sharded() -> None:
    with pytest.raises(UsageError, match="for adversarial training, got FSDP; try torchrun"):
        TrainingProcesses(0, 2, ShardingPlan()).require_whole_model("adversarial training")
    TrainingProcesses(0, 2).require_whole_model("adversarial training")
