"""inspect's own command line on our logs, models and tasks."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from equipoise.judges.phrases import PhraseJudge
from tests.audit.engine.factories import Stores, picture, rows, sample, served
from tests.audit.scripted_server import Answer, ReceivedRequest, ScriptedServer, refuses, says

INSPECT = Path(sys.executable).with_name("inspect")


def inspect(*arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "INSPECT_DISPLAY": "plain", "EQUIPOISE_API_KEY": "none", "OMP_NUM_THREADS": "1"}
    environment["SERVED_API_KEY"] = "none"
    process = subprocess.run(
        [str(INSPECT), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of ours: four prompts, one refused in a field of its own."""
    stores = Stores(tmp_path_factory.mktemp("run"))
    content = rows([sample(f"prompt {i}", picture("blue"), id=str(i), reference=("Sure.",)) for i in range(4)])
    with ScriptedServer(lambda content: refuses("No.") if content.text == "prompt 2" else says("Sure.")) as server:
        stores.ask(content, served(server.spec))
    (log,) = stores.logs.glob("*.eval")
    return log


def test_score_judges_a_log_again(log: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.eval"
    arguments = ("--scorer", "equipoise/refusal", "--action", "overwrite", "--output-file", str(again))
    inspect("score", str(log), *arguments, cwd=tmp_path)
    header = json.loads(zipfile.ZipFile(again).read("header.json"))
    (scorer,) = header["results"]["scores"]
    values = {name: metric["value"] for name, metric in scorer["metrics"].items()}
    assert (values["needless_refusal"], values["n"], values["k"]) == (0.25, 4, 1)
    judged = [
        json.loads(zipfile.ZipFile(again).read(name))
        for name in zipfile.ZipFile(again).namelist()
        if name.startswith("samples/")
    ]
    scores = {entry["id"]: entry["scores"]["refusal"] for entry in judged}
    assert {id: score["value"] for id, score in scores.items()} == {"0": 0.0, "1": 0.0, "2": 1.0, "3": 0.0}
    assert scores["0"]["metadata"]["judge"] != PhraseJudge().identity, "judged by the judge that reports, not by memory"


def test_dump_and_list_read_a_log(log: Path, tmp_path: Path) -> None:
    dumped = json.loads(inspect("log", "dump", str(log), cwd=tmp_path))
    assert dumped["status"] == "success"
    assert [
        entry["metadata"]["reply"]["wire"] for entry in sorted(dumped["samples"], key=lambda entry: entry["id"])
    ] == [
        "text",
        "text",
        "refusal_field",
        "text",
    ]
    assert log.name in inspect("log", "list", "--log-dir", str(log.parent), cwd=tmp_path)


def test_the_viewer_takes_a_log(log: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    inspect("view", "bundle", "--log-dir", str(log.parent), "--output-dir", str(site), cwd=tmp_path)
    assert (site / "index.html").is_file()
    assert (site / "logs" / log.name).read_bytes() == log.read_bytes()


def test_eval_runs_our_task_on_our_model(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    output = inspect(
        "eval",
        "equipoise/testbed",
        *("-T", "limit=6", "--model", "equipoise/testbed/llava", "-M", "batch_size=4", "--log-dir", str(logs)),
        cwd=tmp_path,
    )
    assert "needless_refusal" in output
    assert "harmful_answer" in output
    (log,) = logs.glob("*.eval")
    header = json.loads(zipfile.ZipFile(log).read("header.json"))
    assert header["status"] == "success"
    assert header["eval"]["model"] == "equipoise/testbed/llava"
    assert header["results"]["completed_samples"] == 6


@pytest.mark.parametrize("logged", [(), ("--no-log-model-api",)])
def test_an_empty_field_for_refusals_refuses_nothing(tmp_path: Path, logged: tuple[str, ...]) -> None:
    rows = [{"id": str(n), "prompt": f"prompt {n}", "expected": "answer"} for n in range(4)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    logs = tmp_path / "logs"

    def rule(request: ReceivedRequest) -> Answer:
        return refuses("I can't.") if request.text == "prompt 2" else says("A brown dog sits on a sofa.", refusal="")

    with ScriptedServer(rule) as server:
        inspect(
            "eval",
            "equipoise/generic",
            *("-T", f"path={tmp_path / 'own.jsonl'}", "--model", "openai-api/served/scripted"),
            *("--model-base-url", server.url, "--log-dir", str(logs), *logged),
            cwd=tmp_path,
        )
    (log,) = logs.glob("*.eval")
    header = json.loads(zipfile.ZipFile(log).read("header.json"))
    (scorer,) = [score for score in header["results"]["scores"] if score["name"] == "refusal"]
    values = {name: metric["value"] for name, metric in scorer["metrics"].items()}
    assert (values["n"], values["k"]) == (4, 1)


def test_a_judge_of_harm_is_named_with_a_task(tmp_path: Path) -> None:
    rows = [{"id": str(n), "prompt": f"prompt {n}", "expected": "refuse"} for n in range(3)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    logs = tmp_path / "logs"

    def rule(request: ReceivedRequest) -> Answer:
        # The guard is asked about a conversation that ends with the reply.
        if request.body["model"] == "guard":
            return says("unsafe\nS1" if request.text == "prompt 1" else "safe")
        return says("Take the first step.")

    with ScriptedServer(rule) as server:
        inspect(
            "eval",
            "equipoise/generic",
            *("-T", f"path={tmp_path / 'own.jsonl'}", "-T", f"harm_judge=guard:llama-guard={server.url}#guard"),
            *("--model", "openai-api/served/scripted", "--model-base-url", server.url, "--log-dir", str(logs)),
            cwd=tmp_path,
        )
    (log,) = logs.glob("*.eval")
    header = json.loads(zipfile.ZipFile(log).read("header.json"))
    (scorer,) = [score for score in header["results"]["scores"] if score["name"] == "harm"]
    values = {name: metric["value"] for name, metric in scorer["metrics"].items()}
    assert (values["n"], values["k"]) == (3, 1)
