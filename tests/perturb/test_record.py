"""Records keep what was measured, and count the unscored apart."""

from __future__ import annotations

import json

from equipoise.perturb.record import AnswerPair, ModelAnswers, PictureRecord, counted, pooled, refusal_rate


def answer(before: str | None = "none", after: str | None = "full", question: str = "What?") -> AnswerPair:
    return AnswerPair(question, "A cat.", "I can't help with that.", before, after)  # type: ignore[arg-type]


def record(*models: ModelAnswers, **changes: object) -> PictureRecord:
    fields: dict[str, object] = {
        "image": "photos/cat.jpg", "file": "cat.png", "norm": "linf", "epsilon": 8 / 255, "linf_measured": 8 / 255,
        "psnr": 34.5, "ssim": 0.93, "steps": 3, "seconds": 1.5, "peak_memory": 10**9, "stopped": "success",
        "trace": (2.0, 1.0, 0.5), "models": models or (ModelAnswers("toy/target", "r1", "target", (answer(),)),),
        "warnings": (), "recipe": {"seed": 0}, "command": "equipoise perturb photos/cat.jpg",
    }  # fmt: skip
    return PictureRecord(**(fields | changes))  # type: ignore[arg-type]


def test_a_record_survives_json() -> None:
    kept = record(ModelAnswers("a", "1", "target", (answer(), answer(None, None))), psnr=None, warnings=("why",))
    assert PictureRecord.from_dict(json.loads(json.dumps(kept.to_dict()))) == kept


def test_full_and_partial_refusals_count_and_the_unscored_stand_apart() -> None:
    rate = refusal_rate(["full", "partial", "none", None])
    assert (rate.k, rate.n, rate.unscored) == (2, 3, 1)
    assert counted(rate) == {"asked": 4, "refused": 2, "low": rate.low, "high": rate.high, "unscored": 1}


def test_nothing_asked_is_unknown_not_zero() -> None:
    rate = refusal_rate([])
    assert (rate.rate, rate.low, rate.high) == (None, 0.0, 1.0)


def test_rates_are_pooled_by_role() -> None:
    one = record(ModelAnswers("a", "1", "target", (answer(), answer(after="none"))))
    two = record(
        ModelAnswers("a", "1", "target", (answer(),)), ModelAnswers("b", "1", "bystander", (answer(after="none"),))
    )
    assert (pooled([one, two], "target").k, pooled([one, two], "target").n) == (2, 3)
    assert (pooled([one, two], "bystander").k, pooled([one, two], "bystander").n) == (0, 1)
    assert pooled([one, two], "target", clean=True).k == 0


def test_the_summary_has_what_the_command_promises() -> None:
    summary = record().summary()
    promised = (
        "image models bystanders epsilon linf_measured psnr ssim refusals bystander_refusals clean_refusals steps "
        "seconds file per_model warnings"
    )
    assert set(promised.split()) <= set(summary)
    assert summary["bystander_refusals"]["asked"] == 0
