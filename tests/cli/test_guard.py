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
    found = equipoise("guard", "check", rows, "--detector", "testbed", "--detoxifier", "testbed", "--json")
    assert found.exit_code == 0, found.output
    safe, harmful, bad, odd = lines(found.stdout)
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
    assert "1 rows" in found.stderr


def test_check_tells_people(equipoise: Command, rows: Path) -> None:
    found = equipoise("guard", "check", rows, "--detector", "testbed")
    assert found.exit_code == 0, found.output
    for word in ("4 replies", "allow", "refuse", "unreadable", "policy default"):
        assert word in found.stdout


def test_a_policy_file_decides(equipoise: Command, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "watch.toml").write_text("name = 'watch'\nmode = 'observe'\n")
    found = equipoise("guard", "check", rows, "--detector", "testbed", "--policy", tmp_path / "watch.toml", "--json")
    harmful = lines(found.stdout)[1]
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
    found = equipoise(*words, "--out", tmp_path / "plot.png")
    assert found.exit_code == 0, found.output
    assert "[output]\nthreshold = " in found.stdout
    assert (tmp_path / "plot.png").exists()
    document = json.loads(equipoise(*words, "--json").stdout)
    assert document["true_positives"]["k"] == 5
    assert document["warnings"] == []
    few = equipoise("guard", "calibrate", "--labels", labels, "--detector", "testbed", "--fpr", "0.01")
    assert "cannot support" in few.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("check", "nowhere.jsonl"), 2, "expected a file of rows"),
        (("check", "ROWS", "--detector", "nowhere"), 4, "expected embedded"),
        (("check", "ROWS", "--detector", "testbed", "--detoxifier", "nowhere"), 4, "expected a detoxifier"),
        (("check", "ROWS", "--policy", "nowhere.toml"), 2, "expected a policy"),
        (("check", "ROWS", "--detector", "testbed", "--big", "nobody"), 2, "expected a judge"),
        (("calibrate", "--labels", "ROWS", "--detector", "testbed"), 2, "expected harmful"),
        (("calibrate", "--labels", "ROWS", "--fpr", "2"), 2, "expected --fpr"),
        (("calibrate", "--labels", "ROWS", "--out", "plot.txt"), 2, "expected a .png"),
    ],
)
def test_bad_input_is_one_line(equipoise: Command, rows: Path, words: tuple[str, ...], code: int, says: str) -> None:
    found = equipoise("guard", *(str(rows) if word == "ROWS" else word for word in words))
    assert found.exit_code == code, found.output
    assert says in found.stderr
    assert found.stdout == ""
    assert "Traceback" not in found.output


def test_a_key_is_shown_once_and_its_hash_lets_it_in(equipoise: Command, tmp_path: Path) -> None:
    from equipoise.guard.gateway.keys import ClientKeys

    made = equipoise("guard", "key", "team-a")
    assert made.exit_code == 0, made.output
    key = made.stderr.split()[-1]
    assert key.startswith("eq-")
    assert key not in made.stdout
    (tmp_path / "keys.toml").write_text(made.stdout)
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
    assert [each["request"] for each in entries] == ["r1", "r2"]
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER equipoise_record_delete")
    connection.execute("DELETE FROM equipoise_record WHERE number = 2")
    connection.commit()
    connection.close()
    found = equipoise("guard", "record", "verify", path)
    assert (found.exit_code, "entry 2 is missing" in found.stderr) == (1, True)
    for verb in ("verify", "head", "tail"):
        missing = equipoise("guard", "record", verb, tmp_path / "none.db")
        assert missing.exit_code == 2
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
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
def test_what_cannot_be_served_is_one_line(equipoise: Command, words: tuple[str, ...], code: int, says: str) -> None:
    found = equipoise("guard", "serve", *words)
    assert found.exit_code == code, found.output
    assert says in found.stderr
    assert "Traceback" not in found.output


def test_a_reply_that_is_allowed_comes_back_as_it_was(equipoise: Command, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    said = "half \ud800 a pair, \u2028 and \x00"
    path.write_text(json.dumps({"id": "1", "prompt": "x", "response": said}))
    result = equipoise("guard", "check", path, "--detector", "testbed", "--json")
    found = json.loads(result.stdout)
    assert (found["decision"], found["response"]) == ("allow", said)
