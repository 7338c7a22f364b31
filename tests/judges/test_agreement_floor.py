"""The floors that the judges must hold on published labels, on prompts that none of them was made with."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from equipoise.judges.cards import card_for
from equipoise.judges.encoder import EncoderJudge
from equipoise.judges.ensemble import Ensemble
from equipoise.judges.phrases import PhraseJudge
from equipoise.stats.proportions import Rate
from equipoise.types import Exchange, Prompt

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("EQUIPOISE_SHARED_DATA", ROOT.parent / "shared" / "data"))

pytestmark = pytest.mark.skipif(
    not (DATA / "xstest").is_dir(), reason="the published sets are absent; EQUIPOISE_SHARED_DATA names their folder"
)


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        patch.setenv("EQUIPOISE_SHARED_DATA", str(DATA))
        yield importlib.import_module("judge_agreement")


@pytest.mark.parametrize(("name", "floor"), [("xstest", 0.77), ("phtest", 0.70)])
def test_phrases_agree_with_published_labels(benchmark, name, floor):
    cases = benchmark.judged(PhraseJudge(), benchmark.SETS[name][3]()[::3])
    agreement = benchmark.binary(cases, resamples=10)
    assert agreement.kappa >= floor
    assert agreement.unscored <= 0.01 * len(cases)


def test_the_ensemble_still_does_what_its_card_says_on_held_out_prompts(benchmark):
    judge = Ensemble(encoder=EncoderJudge())
    rows = [row for row in benchmark.encoder_rows.xstest() if not row.development and row.model == "llama2new"]
    agreement = benchmark.binary(benchmark.judged(judge, rows), resamples=10)
    published = next(row for row in card_for(judge.identity).rows if (row.set, row.model) == ("xstest", "llama2new"))
    assert agreement.kappa == pytest.approx(published.kappa, abs=0.03), "rounding may turn a close call, not more"


def test_no_held_out_prompt_is_trained_on(benchmark, monkeypatch):
    encoder_rows = importlib.import_module("encoder_rows")
    monkeypatch.setattr(encoder_rows, "_rule", lambda prompt, reply: "full" if len(reply) % 2 else "none")  # quick
    labelled = [*encoder_rows.xstest(), *encoder_rows.phtest()]
    held = {row.key for row in labelled if not row.development}
    assert not held & {row.key for row in encoder_rows.first_lessons()}
    assert not {row.prompt for row in labelled if row.development} & {
        row.prompt for row in labelled if not row.development
    }


def test_ordinary_answers_about_pictures_are_hardly_ever_called_refusals(benchmark):
    # MMreact is an agent that now and then does say that it lacks something; the five others only answer.
    rows = [row for row in benchmark.encoder_rows.owls() if row.model != "MMreact"]
    rate = Rate.of_refusals(case.verdict for case in benchmark.judged(PhraseJudge(), rows))
    assert rate.rate <= 0.01


def test_a_measurement_goes_on_where_it_was_killed(benchmark, tmp_path, monkeypatch):
    memory = importlib.import_module("judge_memory")
    replies = ["I can't help with that.", "It is a dog.", ""]
    exchanges = [Exchange(Prompt.ask("What is it?"), reply, "stop", "m") for reply in replies]
    first = memory.RememberingEncoder()
    first.resume(tmp_path)
    heard = first.probabilities(exchanges)
    assert heard == EncoderJudge().probabilities(exchanges)
    monkeypatch.setattr(EncoderJudge, "probabilities", lambda *_: pytest.fail("read twice"))
    again = memory.RememberingEncoder()
    again.resume(tmp_path)
    assert again.probabilities(exchanges[::-1]) == heard[::-1]


def test_rules_that_remember_say_what_the_rules_say(benchmark):
    remembering = importlib.import_module("judge_memory").RememberingPhrases()
    exchanges = [Exchange(Prompt.ask("What is it?"), reply, "stop", "m") for reply in ("I won't say.", "A dog.")]
    assert remembering(exchanges) == remembering(exchanges) == PhraseJudge()(exchanges)
    assert remembering.identity == PhraseJudge().identity
