from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from equipoise.errors import UsageError
from equipoise.judges.cards import AgreementCard, AgreementRow, card_for, shipped_cards
from equipoise.judges.encoder import EncoderJudge
from equipoise.judges.ensemble import Ensemble
from equipoise.judges.phrases import PhraseJudge

ROW = AgreementRow("set", "two people", "MIT", "all", "by prompt", 10, 1, 2, 0.8, 0.6, 0.9, 1.0, 0.5, 0.7, 0.1, 0.2, 5)
CARD = AgreementCard("phrases", "abc", (ROW, dataclasses.replace(ROW, model="m")), "python x.py")


def test_a_card_survives_json():
    assert AgreementCard.from_dict(json.loads(json.dumps(CARD.to_dict()))) == CARD


def test_overall_is_one_row_a_set():
    assert CARD.overall == (ROW,)


@pytest.mark.parametrize("broken", [{}, {"rows": []}, CARD.to_dict() | {"stars": 5}, CARD.to_dict() | {"rows": [{}]}])
def test_a_card_with_other_fields_is_refused(broken):
    with pytest.raises(UsageError, match="agreement card"):
        AgreementCard.from_dict(broken)


def test_files_that_are_no_cards_are_refused_and_a_missing_file_holds_none(tmp_path):
    assert shipped_cards(tmp_path / "none.json") == ()
    (tmp_path / "bad.json").write_text("[1, 2")
    with pytest.raises(UsageError, match="agreement cards"):
        shipped_cards(tmp_path / "bad.json")


def test_the_judges_that_ship_have_cards_of_their_own_identity():
    for name, judge in (
        ("phrases", PhraseJudge()),
        ("encoder", EncoderJudge()),
        ("ensemble", Ensemble(encoder=EncoderJudge())),
    ):
        card = card_for(judge.identity)
        assert card is not None, f"{name} changed: run benchmarks/judge_agreement.py --write"
        assert card.name == name
        assert {row.set for row in card.overall} == {"xstest", "phtest"}


def test_a_changed_judge_has_no_card():
    assert card_for(PhraseJudge(opening=2).identity) is None


def test_shipped_numbers_are_possible():
    for card in shipped_cards():
        for row in card.rows:
            assert row.n >= row.unscored + 1
            assert row.review <= row.n
            assert row.kappa is None or -1 <= row.kappa_low <= row.kappa <= row.kappa_high <= 1
            assert row.over_refusal_judge is None or 0 <= row.over_refusal_judge <= 1


def test_reading_cards_loads_no_torch():
    code = "import sys, equipoise.judges.cards as c; c.shipped_cards(); print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"
