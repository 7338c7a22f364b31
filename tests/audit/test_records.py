"""The run folder: append-only, whole after a kill, and aware of edits."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.audit.append_only_log import AppendOnlyLog
from equipoise.audit.recorded_exchange import to_exchange
from equipoise.audit.records import FORMAT, AuditRun, ReplyRow, SampleRow, VerdictRow
from equipoise.errors import UsageError
from equipoise.types import Sample, Turn, Verdict

SAMPLE = Sample(id="1", suite="s", text="What is it?", expected="answer", reference=("blue", "navy"), category="c")
ASKED = {"model": "m@1", "max_new_tokens": 8}


def reply(key: str, text: str = "blue", error: str | None = None) -> ReplyRow:
    return ReplyRow(key, text, "error" if error else "stop", "text", "m@1", error=error)


def row(sample: Sample = SAMPLE, variant: str = "plain") -> SampleRow:
    return SampleRow.of(sample, variant, ASKED, ())


def make_run(folder: Path) -> AuditRun:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"format": FORMAT, "judge": {"identity": "j"}}))
    return AuditRun.open(folder)


def test_the_key_changes_with_all_that_decides_a_reply_and_the_content_only_with_the_sample() -> None:
    first = row()
    assert first == row()
    others = [
        SampleRow.of(SAMPLE, "perturbed", ASKED, ()),
        SampleRow.of(SAMPLE, "plain", {**ASKED, "model": "m@2"}, ()),
    ]
    assert len({first.key, *(other.key for other in others)}) == 3
    assert {other.content for other in others} == {first.content}
    assert row(replace(SAMPLE, expected="refuse")).content != first.content
    assert SampleRow.of(SAMPLE, "plain", ASKED, ("a.png",)).content != first.content


def test_the_lines_of_a_run_folder_are_flat_and_stay_as_earlier_versions_wrote_them(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    sample = replace(SAMPLE, system="Be brief.", intent="The colour.")
    sample_row = SampleRow.of(sample, "plain", ASKED, ("a.png",))
    run.samples().append([sample_row])
    run.verdicts().append([VerdictRow("k", "j", Verdict("full", "none", reasons=("a", "b"), harm_probability=0.25))])
    (line,) = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert line == (
        '{"key": "26554e13a06c922ead066648f27383253507a6fc4e4ee29301143baee6ae3c73", '
        '"content": "90235f33def4f80925d2b428253722b09f49a0492086253f2a5dbe8a017591f6", '
        '"variant": "plain", "suite": "s", "id": "1", '
        '"text": "What is it?", "expected": "answer", "pictures": ["a.png"], "system": "Be brief.", "category": "c", '
        '"cluster": "1", "reference": ["blue", "navy"], "harmful_reference": null, "intent": "The colour.", '
        '"source": "", "licence": "", "problem": null, "check": "9e5654026a498c94"}'
    )
    (line,) = (tmp_path / "verdicts.jsonl").read_text().splitlines()
    assert line == (
        '{"key": "k", "judge": "j", "refusal": "full", "harm": "none", "answers": null, "degenerate": null, '
        '"unscored": null, "reasons": ["a", "b"], "harm_probability": 0.25, "review_refusal": false, '
        '"review_harm": false, "check": "d6e6abdb3657bec9"}'
    )
    assert list(run.samples().rows()) == [sample_row]
    (verdict_row,) = run.verdicts().rows()
    assert verdict_row.verdict == Verdict("full", "none", reasons=("a", "b"), harm_probability=0.25)


@given(st.lists(st.text(max_size=40), max_size=8), st.integers(0, 200))
def test_what_was_appended_is_read_back_and_a_torn_tail_is_dropped(
    tmp_path_factory: pytest.TempPathFactory, replies: list[str], torn: int
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "replies.jsonl"
    rows = [reply(str(number), text) for number, text in enumerate(replies)]
    ledger = AppendOnlyLog(path, ReplyRow)
    ledger.append(rows)
    assert list(AppendOnlyLog(path, ReplyRow).rows()) == rows
    if not rows:
        return
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    path.write_bytes(whole[: min(last + torn, len(whole) - 1)])
    again = AppendOnlyLog(path, ReplyRow)
    assert list(again.rows()) == rows[:-1]
    again.append(rows[-1:])
    assert list(AppendOnlyLog(path, ReplyRow).rows()) == rows


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("blue", "grey"),
        lambda text: text.replace('"finish": "stop"', '"finish": "length"'),
        lambda text: "{}\n" + text,
        lambda text: "not json\n" + text,
        lambda text: "[1, 2]\n" + text,
        lambda text: text.replace('"seconds"', '"minutes"'),
    ],
)
def test_an_edited_row_is_an_error_that_names_the_line(tmp_path: Path, edit) -> None:
    path = tmp_path / "replies.jsonl"
    ledger = AppendOnlyLog(path, ReplyRow)
    ledger.append([reply("1")])
    path.write_text(edit(path.read_text()))
    with pytest.raises(UsageError, match=r"line 1 of .*replies\.jsonl"):
        list(AppendOnlyLog(path, ReplyRow).rows())


def test_a_full_disk_is_one_error_and_what_was_there_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    first = AppendOnlyLog(path, ReplyRow)
    first.append([reply("1")])
    # The size limit of a process stands for the disk that fills in the middle of a row.
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from equipoise.audit.records import AppendOnlyLog, ReplyRow\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "path = Path(sys.argv[1]); size = path.stat().st_size + 20\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        "AppendOnlyLog(path, ReplyRow).append([ReplyRow('2', 'red', 'stop', 'text', 'm@1')])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert "OutputError: cannot write" in done.stderr
    assert "goes on where this stopped" in done.stderr
    assert list(AppendOnlyLog(path, ReplyRow).rows()) == [reply("1")]
    again = AppendOnlyLog(path, ReplyRow)
    again.append([reply("3")])
    assert [row_.key for row_ in AppendOnlyLog(path, ReplyRow).rows()] == ["1", "3"]


def test_cases_say_why_something_has_no_verdict(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rows = [row(replace(SAMPLE, id=str(number))) for number in range(4)]
    rows.append(row(replace(SAMPLE, id="gone", problem="picture x.png is missing")))
    run.samples().append(rows)
    run.replies().append([reply(rows[0].key), reply(rows[1].key), reply(rows[2].key, "", "timed out")])
    run.verdicts().append([VerdictRow(rows[0].key, "j", Verdict("none", answers=True, reasons=("a", "b")))])
    run.verdicts().append([VerdictRow(rows[1].key, "another judge", Verdict("full"))])
    cases = run.cases()
    assert [case.verdict.unscored for case in cases] == [
        None,
        "not judged yet",
        "no reply: timed out",
        "not asked yet",
        "picture x.png is missing",
    ]
    assert cases[0].verdict == Verdict("none", answers=True, reasons=("a", "b"))
    assert [case.pending for case in cases] == [False, False, True, True, False]
    assert [case.unfinished for case in cases] == [False, True, True, True, False]
    # What a judge writes as its reason decides nothing.
    run.verdicts().append([VerdictRow(rows[1].key, "j", Verdict(None, unscored="not judged yet"))])
    assert not run.cases()[1].unfinished
    assert run.cases("another judge")[1].verdict.refusal == "full"


def test_a_second_try_replaces_a_reply_that_failed(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (only,) = rows = [row()]
    run.samples().append(rows)
    run.replies().append([reply(only.key, "", "timed out")])
    run.replies().append([reply(only.key)])
    (case,) = run.cases()
    assert case.reply == reply(only.key)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"judge": 1}', '{"format": 99}'])
def test_what_is_no_run_folder_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        AuditRun.open(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match="expected"):
        AuditRun.open(tmp_path)


def test_a_recorded_reply_goes_to_judges_with_its_sample() -> None:
    exchange = to_exchange(SAMPLE, replace(reply("1", ""), wire="policy_error"))
    assert (exchange.prompt.text, exchange.wire, exchange.sample) == (SAMPLE.text, "policy_error", SAMPLE)


def test_earlier_turns_are_kept_and_leave_the_hashes_of_other_samples_alone() -> None:
    plain = SampleRow.of(SAMPLE, "plain", ASKED, ())
    assert "earlier" not in plain.to_json()
    talk = replace(SAMPLE, earlier=(Turn("user", "Look.", 0), Turn("assistant", "I see.")))
    row = SampleRow.of(talk, "plain", ASKED, ())
    assert row.content != plain.content
    assert SampleRow.from_json(json.loads(json.dumps(row.to_json()))).sample.earlier == talk.earlier


def test_the_kind_of_a_verdict_is_kept() -> None:
    row = VerdictRow("k", "j", Verdict("full", kind="capability"))
    assert VerdictRow.from_json(json.loads(json.dumps(row.to_json()))).verdict.kind == "capability"
