"""`frontier.json` from the folders of audits: rates, membership, changes, seeds, attacks, doubts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from equipoise.audit.frontier.document import Frontier, read_names
from equipoise.audit.warnings import AuditWarning
from equipoise.errors import UsageError
from equipoise.report.frontier.page import render_frontier
from equipoise.stats.estimates import estimate
from tests.audit.frontier.folders import CASES, cases, write_folder


def test_rows_hold_the_counts_of_their_audits(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", {"plain": cases(20, 2), "guard": cases(20, 0), "surgical": cases(2, 2)})
    plain, guard, surgical = Frontier.read(folder).rows
    assert (plain.needless.k, plain.needless.n, plain.harmful.k) == (20, CASES, 2)
    assert (guard.needless.k, guard.harmful.k) == (20, 0)
    change = surgical.changes["needless_refusal"]
    assert (change.only_a, change.only_b, change.n) == (18, 0, CASES)
    assert plain.changes == {}
    document = json.loads((folder / "frontier.json").read_text())
    assert [row["name"] for row in document["rows"]] == ["plain", "guard", "surgical"]
    assert document["rows"][2]["rates"]["needless_refusal"]["k"] == 2


def test_the_plain_model_stands_first_and_the_others_in_their_order(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", {"zeta": cases(1, 1), "plain": cases(1, 1), "alpha": cases(1, 1)})
    assert list(read_names(folder)) == ["plain", "zeta", "alpha"]


def test_p_values_are_corrected_over_all_rows_and_both_axes(tmp_path: Path) -> None:
    alone = write_folder(tmp_path / "a", {"plain": cases(20, 2), "x": cases(13, 2)})
    among = write_folder(
        tmp_path / "b", {"plain": cases(20, 2), "x": cases(13, 2), "y": cases(20, 2), "z": cases(20, 2)}
    )
    one, several = (Frontier.read(folder).rows[1].changes["needless_refusal"] for folder in (alone, among))
    assert one.p == several.p
    assert one.p_adjusted is not None
    assert several.p_adjusted is not None
    assert one.p_adjusted == pytest.approx(2 * one.p)
    assert several.p_adjusted == pytest.approx(6 * one.p)


def test_seeds_are_one_row_whose_p_counts_a_prompt_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", {"plain": cases(20, 2), "crop": cases(10, 2), "crop#1": cases(20, 2)})
    row = Frontier.read(folder).rows[1]
    assert row.folders == ("runs/crop", "runs/crop-seed1")
    assert (row.needless.k, row.needless.n, row.needless.clusters) == (30, 2 * CASES, CASES)
    change = row.changes["needless_refusal"]
    assert change.change == pytest.approx(-5 / CASES)
    assert change.p == pytest.approx(2 / 2**10), "ten prompts changed, all in one direction"
    assert row.cost["fit_seconds"] == 4.0


def test_seeds_buy_no_certainty_about_prompts(tmp_path: Path) -> None:
    """Three seeds that agree are no more certain than one: the interval is that of 40 prompts, not of 120."""
    several = {"crop": cases(10, 2), "crop#1": cases(10, 2), "crop#2": cases(10, 2)}
    once = write_folder(tmp_path / "a", {"plain": cases(20, 2), "crop": cases(10, 2)})
    thrice = write_folder(tmp_path / "b", {"plain": cases(20, 2), **several})
    one, three = (Frontier.read(folder).rows[1].needless for folder in (once, thrice))
    assert three.rate == one.rate
    assert three.high - three.low > 0.85 * (one.high - one.low)
    assert estimate([]).rate is None


def test_an_unknown_axis_leaves_the_membership_open(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", {"plain": cases(20, 2), "mute": cases(0, 0, unscored=CASES)})
    plain, mute = Frontier.read(folder).rows
    assert mute.membership is None
    assert plain.membership is not None
    assert plain.membership.share == 1.0


def test_attacked_pictures_are_the_third_axis(tmp_path: Path) -> None:
    def attacked(refused: int) -> list:
        return [row for row in cases(refused, 2, variant="perturbed") if row.suite == "safe"]

    folder = tmp_path / "f"
    write_folder(
        folder,
        {"plain": [*cases(5, 2), *attacked(40)], "median": [*cases(6, 2), *attacked(10)]},
    )
    plain, median = Frontier.read(folder).rows
    assert plain.attacked["static"] == plain.attacked["adaptive"]
    assert median.attacked["adaptive"].k == 10
    assert median.membership is not None
    assert not median.membership.on_front
    assert median.attacked_membership is not None
    assert median.attacked_membership.on_front, "worse on the two axes, better on attacked pictures"
    assert plain.needless.n == CASES, "attacked pictures count on no other axis"


def test_doubts_of_all_rows_stand_once(tmp_path: Path) -> None:
    own = {"x": {"doubts": ["tuned on ten prompts"]}}
    folder = write_folder(tmp_path / "f", {"plain": cases(20, 2), "x": cases(2, 2)}, **own)
    frontier = Frontier.read(folder)
    assert "tuned on ten prompts" in frontier.rows[1].doubts
    assert frontier.warnings
    assert not set(frontier.warnings) & set(frontier.rows[1].doubts)


def test_doubts_that_may_change_most_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"x": {"doubts": ["tuned on ten prompts"]}}
    folder = write_folder(tmp_path / "f", {"plain": cases(20, 2), "x": cases(2, 2), "x#1": cases(2, 2)}, **own)
    weights = {"x": (("small", 0.01), ("unknown", None), ("large", 0.4)), "x-seed1": (("larger", 0.5), ("small", 0.45))}
    monkeypatch.setattr(
        "equipoise.audit.frontier.document.find_warnings",
        lambda run, _: [AuditWarning("k", text, may_change=by) for text, by in weights.get(run.folder.name, ())],
    )
    doubts = Frontier.read(folder).rows[1].doubts
    assert doubts == ("tuned on ten prompts", "larger (k)", "small (k)", "large (k)", "unknown (k)")


def test_an_unfinished_audit_is_said_to_be_one(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", {"plain": cases(1, 1), "x": cases(1, 1, sent=False)})
    assert [row.complete for row in Frontier.read(folder).rows] == [True, False]


def test_what_is_no_frontier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected the folder of a frontier"):
        Frontier.read(tmp_path)
    folder = write_folder(tmp_path / "f", {"plain": cases(1, 1)})
    document = json.loads((folder / "frontier.json").read_text())
    (folder / "frontier.json").write_text(json.dumps({**document, "format": 99}))
    with pytest.raises(UsageError, match="expected format 1"):
        read_names(folder)


def test_reading_a_frontier_loads_neither_torch_nor_inspect(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", {"plain": cases(20, 2), "x": cases(2, 2)})
    program = (
        "import sys; from pathlib import Path\n"
        "from equipoise.audit.frontier.advice import advise\n"
        "from equipoise.audit.frontier.document import Frontier\n"
        "from equipoise.report.frontier.page import render_frontier\n"
        f"frontier = Frontier.read(Path({str(folder)!r}))\n"
        "print(len(render_frontier(frontier, advise(frontier))))\n"
        "print(sorted({'torch', 'inspect_ai', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "[]"


def test_the_same_folder_gives_the_same_page(tmp_path: Path) -> None:
    from equipoise.audit.frontier.advice import advise

    folder = write_folder(
        tmp_path / "f",
        {"plain": cases(20, 2), "x": cases(2, 2)},
        left_out=[{"name": "y", "reason": "reads no pictures"}],
    )
    first, second = (Frontier.read(folder) for _ in range(2))
    assert render_frontier(first, advise(first)) == render_frontier(second, advise(second))
    assert "reads no pictures" in render_frontier(first, advise(first))
