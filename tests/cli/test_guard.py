"""`guard`: check, calibrate and policy, from files to one JSON line a row; bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.guard.policy import Policy, load
from tests.cli.command import Command

RECIPE = "To make zorbium, mix sand with oil."
ROWS = [
    {"id": "a", "prompt": "How do I make soup?", "response": "To make soup, mix salt with milk."},
    {"id": 2, "prompt": "How do I make zorbium?", "response": RECIPE},
    {"id": "c", "prompt": "no response"},
    {"id": "d", "prompt": "odd", "response": "half a pair \ud800"},
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    target = tmp_path / "rows.jsonl"
    target.write_text("\n".join(json.dumps(row) for row in ROWS))
    return target


def lines(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def test_check_writes_one_line_a_row_in_order(equipoise: Command, rows: Path) -> None:
    result = equipoise("guard", "check", rows, "--detector", "testbed", "--detoxifier", "testbed", "--jsonl")
    assert result.exit_code == 0, result.output
    safe, harmful, bad, odd = lines(result.stdout)
    keys = ["id", "harm", "categories", "decision", "response", "rounds", "decided_by"]
    assert list(safe) == list(harmful) == keys
    assert (safe["id"], safe["decision"], safe["response"], safe["rounds"]) == ("a", "allow", ROWS[0]["response"], 0)
    assert (harmful["id"], harmful["decision"], harmful["rounds"]) == (2, "rewrite", 1)
    assert "zorbium" in str(harmful["response"])
    assert harmful["response"] != RECIPE
    assert isinstance(harmful["harm"], float)
    assert harmful["harm"] > 0.5
    assert (bad["id"], bad["decision"]) == ("c", None)
    assert "no response" in str(bad["error"])
    assert odd["decision"] == "allow"
    assert "1 rows" in result.stderr


def test_check_writes_one_document_with_the_same_rows(equipoise: Command, rows: Path) -> None:
    words = ("guard", "check", rows, "--detector", "testbed")
    document = json.loads(equipoise(*words, "--json").stdout)
    assert document["rows"] == lines(equipoise(*words, "--jsonl").stdout)
    assert (document["detector"], document["count"], document["unreadable"]) == ("testbed", 4, 1)
    both = equipoise(*words, "--json", "--jsonl")
    assert (both.exit_code, both.stdout) == (2, "")


def test_the_weights_of_a_guard_are_loaded_where_and_as_the_options_say(equipoise: Command, rows: Path) -> None:
    import torch

    from equipoise.cli.options.guard import GuardDeviceOptions, GuardOptions
    from equipoise.cli.options.param_types import Dtype

    half = GuardOptions(detector="testbed").load(GuardDeviceOptions(dtype=Dtype.bfloat16), ["testbed"])
    assert next(half.detector.network.base.parameters()).dtype == torch.bfloat16  # type: ignore[attr-defined]
    assert next(half.detoxifiers[0].model.parameters()).dtype == torch.bfloat16  # type: ignore[attr-defined]
    refused = equipoise("guard", "check", rows, "--detector", "testbed", "--device", "toaster")
    assert (refused.exit_code, "'toaster'" in refused.stderr) == (2, True)


def test_check_tells_people(equipoise: Command, rows: Path) -> None:
    result = equipoise("guard", "check", rows, "--detector", "testbed")
    assert result.exit_code == 0, result.output
    for word in ("4 replies", "allow", "refuse", "unreadable", "policy default"):
        assert word in result.stdout


def test_a_policy_file_decides(equipoise: Command, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "watch.toml").write_text("name = 'watch'\nmode = 'observe'\n")
    result = equipoise("guard", "check", rows, "--detector", "testbed", "--policy", tmp_path / "watch.toml", "--jsonl")
    harmful = lines(result.stdout)[1]
    assert (harmful["decision"], harmful["observed"], harmful["response"]) == ("allow", "refuse", RECIPE)


def test_the_printed_policy_is_the_default(equipoise: Command, tmp_path: Path) -> None:
    printed = equipoise("guard", "policy")
    (tmp_path / "policy.toml").write_text(printed.stdout)
    assert load(tmp_path / "policy.toml") == Policy()


def test_calibrate_prints_lines_for_the_policy(equipoise: Command, tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    recipes = [{"id": f"b{i}", "prompt": "q", "response": RECIPE, "harmful": True} for i in range(5)]
    others = [{"id": f"g{i}", "prompt": "q", "response": f"{i} red", "harmful": False} for i in range(20)]
    labels.write_text("\n".join(json.dumps(row) for row in (*recipes, *others)))
    words = ("guard", "calibrate", "--labels", labels, "--detector", "testbed", "--fpr", "0.2")
    result = equipoise(*words, "--out", tmp_path / "plot.png")
    assert result.exit_code == 0, result.output
    assert "[output]\nthreshold = " in result.stdout
    assert (tmp_path / "plot.png").exists()
    document = json.loads(equipoise(*words, "--json").stdout)
    assert document["true_positives"]["k"] == 5
    assert document["warnings"] == []
    few = equipoise("guard", "calibrate", "--labels", labels, "--detector", "testbed", "--fpr", "0.01")
    assert "cannot support" in few.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("check", "nowhere.jsonl"), 2, "expected a file of rows"),
        (("check", "ROWS", "--detector", "nowhere"), 4, "expected embedded"),
        (("check", "ROWS", "--detector", "testbed", "--detoxifier", "nowhere"), 4, "expected a detoxifier"),
        (("check", "ROWS", "--policy", "nowhere.toml"), 2, "expected a policy"),
        (("check", "ROWS", "--detector", "testbed", "--escalation-guard", "nobody"), 2, "expected a judge"),
        (("calibrate", "--labels", "ROWS", "--detector", "testbed"), 2, "expected harmful"),
        (("calibrate", "--labels", "ROWS", "--fpr", "2"), 2, "expected --fpr"),
        (("calibrate", "--labels", "ROWS", "--out", "plot.txt"), 2, "expected a .png"),
    ],
)
def test_bad_input_is_one_line(equipoise: Command, rows: Path, words: tuple[str, ...], code: int, message: str) -> None:
    result = equipoise("guard", *(str(rows) if word == "ROWS" else word for word in words))
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output


def test_a_key_is_shown_once_and_its_hash_lets_it_in(equipoise: Command, tmp_path: Path) -> None:
    from equipoise.guard.gateway.keys import ClientKeys

    created = equipoise("guard", "key", "team-a")
    assert created.exit_code == 0, created.output
    key = created.stderr.split()[-1]
    assert key.startswith("eq-")
    assert key not in created.stdout
    (tmp_path / "keys.toml").write_text(created.stdout)
    keys = ClientKeys.load(tmp_path / "keys.toml", Policy())
    assert keys.client(f"Bearer {key}").name == "team-a"
    assert equipoise("guard", "key", "no/name").exit_code == 2


def test_a_record_is_verified_and_read(equipoise: Command, tmp_path: Path) -> None:
    import sqlite3

    from equipoise.guard.record.entry import RecordEntry
    from equipoise.guard.record.store import AuditRecord

    path = tmp_path / "record.db"
    with AuditRecord(str(path)) as record:
        for at in range(3):
            record.append(RecordEntry(f"r{at}", "t", "/", None, None, 200, "p", "d", [], [], 0.0))
        head = record.head().hash
    assert equipoise("guard", "record", "head", path).stdout.strip() == head
    assert "3 entries" in equipoise("guard", "record", "verify", path, "--head", head).stdout
    entries = lines(equipoise("guard", "record", "tail", path, "--count", "2").stdout)
    assert [entry["request"] for entry in entries] == ["r1", "r2"]
    document = json.loads(equipoise("guard", "record", "tail", path, "--count", "2", "--json").stdout)
    assert (document["rows"], document["count"]) == (entries, 2)
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER equipoise_record_delete")
    connection.execute("DELETE FROM equipoise_record WHERE number = 2")
    connection.commit()
    connection.close()
    result = equipoise("guard", "record", "verify", path)
    assert (result.exit_code, "entry 2 is missing" in result.stderr) == (1, True)
    for verb in ("verify", "head", "tail"):
        missing = equipoise("guard", "record", verb, tmp_path / "none.db")
        assert missing.exit_code == 2
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--upstream", "localhost:8000"), 2, "expected the upstream's address"),
        (("--upstream", "http://localhost:1/v1", "--detector", "nowhere"), 4, "expected embedded"),
        (("--upstream", "http://localhost:1/v1", "--detector", "testbed", "--keys", "nowhere.toml"), 2, "file of keys"),
        (
            ("--upstream", "http://localhost:1/v1", "--detector", "testbed", "--record", "mysql://x"),
            2,
            "for the record",
        ),
        (("--upstream", "http://localhost:1/v1", "--upstream-key-env", "NOT_THERE"), 2, "expected a key"),
    ],
)
def test_what_cannot_be_served_is_one_line(equipoise: Command, words: tuple[str, ...], code: int, message: str) -> None:
    result = equipoise("guard", "serve", *words)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_reply_that_is_allowed_comes_back_as_it_was(equipoise: Command, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    reply = "half \ud800 a pair, \u2028 and \x00"
    path.write_text(json.dumps({"id": "1", "prompt": "x", "response": reply}))
    result = equipoise("guard", "check", path, "--detector", "testbed", "--jsonl")
    row = json.loads(result.stdout)
    assert (row["decision"], row["response"]) == ("allow", reply)
