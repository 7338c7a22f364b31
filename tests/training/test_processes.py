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
from equipoise.training.processes import TrainingProcesses, shared_mean, shared_weight
from tests.child_process import environment
from tests.guard.tiny_models import decoder, encoder
from tests.models.families.llava import llava
from tests.training.derta.tokenizer_kinds import write_text_model
from tests.training.parallel_runs import all_losses

PROCESSES = 2


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


def test_two_processes_have_the_losses_and_the_weights_of_one(tmp_path: Path) -> None:
    folder, port = models(tmp_path / "models"), free_port()
    # What torchrun and `accelerate launch` set.
    shared = {"WORLD_SIZE": str(PROCESSES), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    line = [sys.executable, "-m", "tests.training.parallel_runs", str(folder), str(tmp_path / "two")]
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
    assert printed[0] == printed[1], "every process reports the loss of all"
    alone = all_losses(folder, tmp_path / "one")
    assert printed[0].keys() == alone.keys()
    for name, losses in alone.items():
        assert len(losses) >= 2
        assert printed[0][name] == pytest.approx(losses, rel=1e-4, abs=1e-6), name
    for file in ("detoxifier/model.safetensors", "derta/adapter_model.safetensors"):
        one, two = (load_file(tmp_path / where / file) for where in ("one", "two"))
        assert one.keys() == two.keys()
        for weight in one:
            torch.testing.assert_close(one[weight], two[weight], rtol=1e-2, atol=2e-4)
    trace = (tmp_path / "two" / "derta" / "training.jsonl").read_text().splitlines()
    assert len(trace) == 1, "one process writes the trace"


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


def test_a_launcher_of_sharded_models_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from equipoise.training import processes

    with pytest.raises(UsageError, match="got FSDP; try torchrun"):
        processes._require_data_parallel("DistributedType.MULTI_GPU", fsdp=True)
    with pytest.raises(UsageError, match="got DEEPSPEED"):
        processes._require_data_parallel("DistributedType.DEEPSPEED", fsdp=False)
    processes._require_data_parallel("DistributedType.MULTI_CPU", fsdp=False)
