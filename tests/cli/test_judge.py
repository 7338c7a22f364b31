from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from equipoise.cli.main import app
from tests.judges.fakes import Answer, Server, fails, prompt_text, says, writes

KEYS = ("id", "refusal", "harm", "answers", "degenerate", "review", "reasons", "judge")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["judge", *(str(word) for word in words)])


def judged(*words: object) -> list[dict[str, Any]]:
    result = run(*words, "--jsonl")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows: list[object] = [
        {"id": "a", "prompt": "What is this?", "response": "It is a brown dog on a lawn."},
        {"id": 2, "prompt": "What is this?", "response": "I'm sorry, but I can't help with that.", "model": "m"},
        {"id": "c", "prompt": "What is this?", "response": "", "finish": "content_filter"},
        {"id": "d", "prompt": "What is this?", "response": "\ud83d half a pair", "images": ["gone.png"]},
        {"id": "e", "prompt": "What is this?", "response": 7},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "no json", ""]), encoding="utf-8")
    return path


def test_one_line_of_json_a_row_in_order(file: Path) -> None:
    rows = judged(file, "--judge", "phrases")
    assert [row["id"] for row in rows] == ["a", 2, "c", "d", "e", None]
    assert [row["refusal"] for row in rows] == ["none", "full", "full", "none", None, None]
    assert all(key in row for row in rows for key in KEYS)
    assert [row["harm"] for row in rows] == [None, None, 0.0, None, None, None]
    assert "line 5 has a response that is no text" in rows[4]["unscored"]
    assert "line 6 is not JSON" in rows[5]["unscored"]
    assert any("gone.png" in reason for reason in rows[3]["reasons"])
    assert len({row["judge"] for row in rows}) == 1


def test_rows_come_in_the_order_of_the_file_from_workers_as_well(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Batches of one row: the two that cannot be read are batches of none.
    monkeypatch.setattr("equipoise.cli.judge.BATCH", 1)
    assert judged(file, "--judge", "phrases", "--workers", "2") == judged(file, "--judge", "phrases")


def test_one_document_with_the_same_rows(file: Path, tmp_path: Path) -> None:
    document = json.loads(run(file, "--judge", "phrases", "--json").stdout)
    assert document["rows"] == judged(file, "--judge", "phrases")
    assert (document["count"], document["unreadable"]) == (6, 2)
    assert document["judge"] == document["rows"][0]["judge"]
    both = run(file, "--judge", "phrases", "--json", "--jsonl")
    assert (both.exit_code, both.stdout) == (2, "")


def test_a_table_for_people(file: Path) -> None:
    result = run(file, "--judge", "phrases")
    assert result.exit_code == 0
    assert "refused" in result.stdout
    assert "2 rows of" in result.stderr


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"\xff\xfe", "UTF-8"), (b"prose", "JSON object"), (b"", "empty"), (None, "nothing there")],
)
def test_a_file_that_is_none_is_one_clear_error(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_bytes(content)
    result = run(path, "--json")
    assert result.exit_code == 2
    assert why in result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("order", [0, 1])
def test_options_may_come_before_or_after_the_file(file: Path, order: int) -> None:
    words = [["--judge", "phrases", "--json", str(file)], [str(file), "--json", "--judge", "phrases"]][order]
    assert run(*words).exit_code == 0


def test_a_served_judge_of_harm_and_a_guard(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-1")

    def script(body: dict[str, Any]) -> Answer:
        if "prompt" in body:
            return writes("Harmful request: no\nResponse refusal: no\nHarmful response: no")
        return says("B" if "brown dog" in prompt_text(body) else "A", tokens=[("B", {"B": 0.7, "A": 0.3})])

    with Server(script) as server:
        specs = ["--harm-judge", f"{server.url}#judge", "--harm-judge", f"guard:wildguard={server.url}#wild"]
        rows = judged(file, "--judge", "phrases", "--judge-key-env", "SOME_KEY", *specs)
    assert rows[0]["harm"] == pytest.approx(0.7)
    assert rows[0]["harm_label"] == "some"
    assert rows[0]["review"] is True
    assert rows[1]["review"] is True  # the guard sees no refusal where the phrases do
    assert rows[4]["harm"] is None
    assert {headers.get("Authorization") or headers.get("authorization") for headers in server.headers} == {
        "Bearer sk-1"
    }


def test_a_server_that_says_no_leaves_harm_unscored(file: Path) -> None:
    with Server(lambda _: fails(401)) as server:
        rows = judged(file, "--judge", "phrases", "--harm-judge", f"{server.url}#judge")
    assert [row["refusal"] for row in rows[:2]] == ["none", "full"]
    assert [row["harm"] for row in rows[:2]] == [None, None]
    assert "HTTP 401" in rows[0]["unscored"]
    assert len(server.requests) == 1


def test_a_model_that_is_asked_for_all(file: Path) -> None:
    with Server(lambda body: says("C" if "Does the reply refuse" in prompt_text(body) else "A")) as server:
        rows = judged(file, "--judge", f"{server.url}#judge")
    assert [row["refusal"] for row in rows] == ["full", "full", "full", "full", None, None]
    assert [row["harm"] for row in rows] == [0.0, 0.0, 0.0, 0.0, None, None]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--judge", "nobody"], "expected a judge"),
        (["--harm-judge", "http://localhost:1/v1"], "without a model"),
        (["--harm-judge", "nothing"], "expected a judge"),
        (["--harm-judge", "guard:nobody=http://localhost:1/v1#m"], "expected a guard among"),
        (["--judge", "encoder", "--harm-judge", "http://localhost:1/v1#m"], "try without"),
        (["--judge-key-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
    ],
)
def test_a_judge_that_cannot_be_is_one_clear_error(file: Path, options: list[str], why: str) -> None:
    result = run(file, *options)
    assert result.exit_code == 2
    assert why in result.stderr


def test_calibrate_beside_the_file(tmp_path: Path) -> None:
    replies = {"none": "It is a brown dog on a lawn.", "full": "I'm sorry, but I can't help with that."}
    labels = tmp_path / "labels.jsonl"
    labels.write_text(
        "\n".join(
            json.dumps({"id": f"{label}{i}", "prompt": f"p{i}", "response": reply, "refusal": label, "model": "m"})
            for label, reply in replies.items()
            for i in range(60)
        )
    )
    result = run("calibrate", "--labels", labels, "--judge", "phrases", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["models"]["m"]["refusal"]["kappa"] == 1.0
    assert document["models"]["m"]["refusal"]["true_positive"] == 60
    assert json.loads((tmp_path / "labels.calibration.json").read_text()) == document
    assert document["judge"] == judged(labels, "--judge", "phrases")[0]["judge"]
    shown = run("calibrate", "--labels", labels, "--judge", "phrases")
    assert "kappa" in shown.stdout


def test_a_long_file_is_not_held_in_memory(tmp_path: Path) -> None:
    """20,000 rows of 2 kB: the process may grow by a batch, not by the 40 MB of the file."""
    path = tmp_path / "long.jsonl"
    reply = "It is a dog. " * 150
    with path.open("w") as file:
        for i in range(20_000):
            file.write(json.dumps({"id": i, "prompt": "?", "response": reply}) + "\n")
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from equipoise.judges.judge_rows import batches, read_rows\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "n = sum(len(batch) for batch in batches(read_rows(Path(sys.argv[1])), 256))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    rows, kilobytes = map(int, out.split())
    assert rows == 20_000
    assert kilobytes < 20_000


def test_what_withholds_for_another_reason_is_no_refusal(tmp_path: Path) -> None:
    reply = "I cannot see images. I am a text-based model."
    rows = [{"id": at, "prompt": "What is in this picture?", "response": reply} for at in range(3)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [(row["refused"], row["kind"]) for row in judged(path, "--judge", "phrases")] == [(False, "capability")] * 3
    output = run(path, "--judge", "phrases").output
    assert "0.000 (0/3)" in " ".join(output.split()) or "(0/3)" in output
    assert "no refusal: capability" in output


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('id,prompt,response\na,Why?,"' + "It is so. " * 20_000 + '"\n', encoding="utf-8")
    (row,) = judged(path, "--judge", "phrases")
    assert (row["id"], row["unscored"] is None) == ("a", False)
