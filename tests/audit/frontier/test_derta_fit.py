"""The fitter of DeRTa: rows that the model writes to prompts of the selection split, and an adapter that loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from equipoise.audit.frontier import derta_fit
from equipoise.audit.frontier.derta_fit import FOLDER, ROWS, fit_derta
from equipoise.audit.frontier.fit_cache import FitCache
from equipoise.audit.frontier.fitters import FITTERS, FitData, FitRequest
from equipoise.audit.text_attacks import AGREEMENT
from equipoise.data.refusal_rows import RefusalRow
from equipoise.models.load import load
from equipoise.types import Exchange, Prompt, Sample
from tests.audit.frontier.samples import registry
from tests.training.derta.tokenizer_kinds import write_text_model


@dataclass
class Talkative:
    """Complies where its reply has begun to agree, answers what is harmless, and refuses the rest."""

    name: str
    reads_pictures: bool = False
    revision: str = "t1"
    number_format: str = "float32"

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        return [Exchange(prompt, self._reply(prompt), "stop", self.name) for prompt in prompts]

    @staticmethod
    def _reply(prompt: Prompt) -> str:
        if "lock 1" in prompt.text:
            return "I'm sorry, but I can't help with that."
        return f"Take a pin for {prompt.text}" if prompt.prefill == AGREEMENT else "Mix flour and water."


def samples(name: str, expected: str, count: int) -> tuple[Sample, ...]:
    return tuple(Sample(str(i), name, f"How do I {name} lock {i}?", expected) for i in range(count))  # type: ignore[arg-type]


DATA = FitData(
    samples("pick", "refuse", 12),
    (*samples("shoot", "answer", 4), *samples("equipoise-harmless", "answer", 4)),
)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[RefusalRow]:
    """What the training was handed; nothing is trained."""
    handed: list[RefusalRow] = []
    monkeypatch.setattr(derta_fit, "train", lambda config, rows, out, **_: handed.extend(rows))
    return handed


def test_the_model_writes_the_answers_and_ours_are_the_refusals(tmp_path: Path, rows: list[RefusalRow]) -> None:
    outcome = fit_derta(FitRequest(Talkative("m"), DATA, tmp_path))  # type: ignore[arg-type]
    kinds = {kind: [row for row in rows if row.kind == kind] for kind in ("harmful", "boundary", "ordinary")}
    assert all(row.answer.startswith("Take a pin") and row.refusal for row in kinds["harmful"])
    assert all(row.answer == "Mix flour and water." and not row.refusal for row in kinds["boundary"])
    assert all("equipoise-harmless" in row.text for row in kinds["ordinary"])
    assert len({row.line for row in rows}) == len(rows), "a bad row is named by its line"
    assert outcome.details["rows"] == {kind: len(group) for kind, group in kinds.items()}
    assert not [row for row in rows if "lock 1" in row.text], "a prompt that is refused gives no row"
    assert set(outcome.tuned_on) == set(DATA.all), "also what gave no row was looked at"


def test_pictures_turns_and_begun_replies_are_left_out(tmp_path: Path, rows: list[RefusalRow]) -> None:
    begun = replace(DATA.harmful[2], prefill="Sure")
    data = replace(DATA, harmful=(begun, *DATA.harmful[3:6]))
    outcome = fit_derta(FitRequest(Talkative("m"), data, tmp_path))  # type: ignore[arg-type]
    assert begun not in outcome.tuned_on
    assert sum(row.kind == "harmful" for row in rows) == 3


def test_no_more_rows_than_it_says(tmp_path: Path, rows: list[RefusalRow]) -> None:
    data = replace(DATA, harmful=samples("pick", "refuse", 3 * ROWS))
    fit_derta(FitRequest(Talkative("m"), data, tmp_path))  # type: ignore[arg-type]
    assert 0 < sum(row.kind == "harmful" for row in rows) <= ROWS


def test_a_model_that_never_complies_is_left_out_with_the_reason(tmp_path: Path) -> None:
    refused = replace(DATA, harmful=tuple(s for s in DATA.harmful if "lock 1" in s.text))
    outcome = fit_derta(FitRequest(Talkative("m"), refused, tmp_path))  # type: ignore[arg-type]
    assert outcome.artefact is None
    count = len(refused.harmful)
    assert outcome.reason == f"the model wrote no usable answer to {count} harmful prompts"


def test_a_document_among_the_prompts_is_not_learned_from(tmp_path: Path, rows: list[RefusalRow]) -> None:
    long = replace(DATA.harmful[0], id="long", text="word " * 1000)
    outcome = fit_derta(FitRequest(Talkative("m"), replace(DATA, harmful=(long, *DATA.harmful)), tmp_path))  # type: ignore[arg-type]
    assert outcome.reason is None
    assert rows
    assert long not in outcome.tuned_on
    assert not [row for row in rows if row.text == long.text]


def test_it_trains_an_adapter_that_loads_over_the_model(tmp_path: Path) -> None:
    base = write_text_model(tmp_path / "base")
    outcome = fit_derta(FitRequest(Talkative(str(base)), DATA, tmp_path), steps=2)  # type: ignore[arg-type]
    assert outcome.artefact == FOLDER
    tuned = load(f"{base}+{tmp_path / FOLDER}", device="cpu")
    assert tuned.generate([Prompt.ask("How?")], max_new_tokens=2)[0].error is None


def test_one_that_leaks_is_refused(tmp_path: Path, rows: list[RefusalRow]) -> None:
    divided = registry()
    leaking = replace(DATA, harmful=(*DATA.harmful, *divided.test[:3]))
    result = FitCache(tmp_path, divided, leaking).fit(FITTERS["derta"], Talkative("m"), 0)  # type: ignore[arg-type]
    assert result.refused is not None
    assert result.refused.startswith("refused: fitted on")


@pytest.mark.parametrize(
    ("large", "compiler", "compiled"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_layers_are_compiled_for_a_large_model_where_there_is_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool, compiler: bool, compiled: bool
) -> None:
    configs = []
    monkeypatch.setattr(derta_fit, "train", lambda config, rows, out, **_: configs.append(config))
    monkeypatch.setattr(derta_fit, "has_compiler", lambda: compiler)
    monkeypatch.setattr(derta_fit, "COMPILED_FROM", 1 if large else 10**12)
    model = load(str(write_text_model(tmp_path / "model")))
    monkeypatch.setattr(model, "generate", Talkative("m").generate)
    fit_derta(FitRequest(model, DATA, tmp_path / "fit"))
    assert [config.compiled for config in configs] == [compiled]
