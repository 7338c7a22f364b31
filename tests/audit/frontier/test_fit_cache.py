"""Fits by the hash of what decides them: made once, refitted where anything changed, refused where they leak."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.frontier.fit_cache import DOCUMENT, SECONDS, CachedFit, FitCache
from equipoise.audit.frontier.fitters import FitData, FitOutcome, FitRequest, Fitter
from equipoise.data.split_registry import SplitRegistry
from equipoise.types import Sample
from tests.audit.frontier.planted import SorryJudge
from tests.audit.frontier.samples import registry


@dataclass(frozen=True)
class NamedModel:
    """A model of which only the weights count."""

    revision: str = "r1"
    name: str = "toy"
    number_format: str = "float32"


class CountingFit:
    """Writes a file; counts how often it was called."""

    def __init__(self, *, artefact: str | None = "x.bin", extra: tuple[Sample, ...] = (), error: bool = False) -> None:
        self.artefact, self.extra, self.error = artefact, extra, error
        self.requests: list[FitRequest] = []

    def __call__(self, request: FitRequest) -> FitOutcome:
        self.requests.append(request)
        request.progress("half", 1, 2)
        if self.error:
            raise KeyboardInterrupt
        if self.artefact:
            (request.folder / self.artefact).write_bytes(b"weights")
        return FitOutcome(self.artefact, (*request.data.harmful, *self.extra), "too few", ("small",), {"auc": 0.9})


@pytest.fixture
def divided() -> SplitRegistry:
    return registry()


@pytest.fixture
def data(divided: SplitRegistry) -> FitData:
    selection = divided.parts.selection
    return FitData(
        tuple(sample for sample in selection if sample.expected == "refuse"),
        tuple(sample for sample in selection if sample.expected == "answer"),
    )


def fitter(fit: Callable[[FitRequest], FitOutcome], **fields: Any) -> Fitter:
    return Fitter("toy", "a toy", "harmful prompts", fit, **fields)


def test_a_fit_is_made_once(tmp_path: Path, divided: SplitRegistry, data: FitData) -> None:
    fit = CountingFit()
    first = FitCache(tmp_path, divided, data).fit(fitter(fit), NamedModel(), 0)  # type: ignore[arg-type]
    second = FitCache(tmp_path, divided, data).fit(fitter(fit), NamedModel(), 0)  # type: ignore[arg-type]
    assert len(fit.requests) == 1
    assert first == second
    assert first.path is not None
    assert first.path.read_bytes() == b"weights"
    assert first.tuned_on == {"own": len(data.harmful)}
    assert (first.doubts, first.details) == (["small"], {"auc": 0.9})


@pytest.mark.parametrize("change", ["model", "seed", "version", "data", "judge"])
def test_whatever_decides_a_fit_makes_another(
    tmp_path: Path, divided: SplitRegistry, data: FitData, change: str
) -> None:
    fit = CountingFit()
    cache = FitCache(tmp_path, divided, data)
    cache.fit(fitter(fit), NamedModel(), 0)  # type: ignore[arg-type]
    if change == "data":
        cache = FitCache(tmp_path, divided, replace(data, harmful=data.harmful[1:]))
    if change == "judge":
        cache = FitCache(tmp_path, divided, data, judge=SorryJudge())  # type: ignore[arg-type]
    model = NamedModel("r2") if change == "model" else NamedModel()
    row = fitter(fit, version=2 if change == "version" else 1)
    cache.fit(row, model, int(change == "seed"))  # type: ignore[arg-type]
    assert len(fit.requests) == 2
    assert len(list(tmp_path.glob("toy-*"))) == 2


def test_an_interrupted_fit_is_no_fit_and_its_time_counts(
    tmp_path: Path, divided: SplitRegistry, data: FitData
) -> None:
    broken = CountingFit(error=True)
    cache = FitCache(tmp_path, divided, data)
    with pytest.raises(KeyboardInterrupt):
        cache.fit(fitter(broken), NamedModel(), 0)  # type: ignore[arg-type]
    (folder,) = tmp_path.glob("toy-*")
    assert not (folder / DOCUMENT).exists()
    (folder / SECONDS).write_text(json.dumps({"seconds": 100.0}))
    finished = cache.fit(fitter(CountingFit()), NamedModel(), 0)  # type: ignore[arg-type]
    assert finished.seconds >= 100.0, "the time of the process that was killed"


def test_a_result_that_was_deleted_is_fitted_again(tmp_path: Path, divided: SplitRegistry, data: FitData) -> None:
    fit = CountingFit()
    cache = FitCache(tmp_path, divided, data)
    first = cache.fit(fitter(fit), NamedModel(), 0)  # type: ignore[arg-type]
    assert first.path is not None
    first.path.unlink()
    assert cache.get(fitter(fit), NamedModel(), 0) is None  # type: ignore[arg-type]
    assert cache.fit(fitter(fit), NamedModel(), 0).path is not None  # type: ignore[arg-type]
    assert len(fit.requests) == 2


def test_that_nothing_was_fitted_is_kept_as_well(tmp_path: Path, divided: SplitRegistry, data: FitData) -> None:
    fit = CountingFit(artefact=None)
    cache = FitCache(tmp_path, divided, data)
    for _ in range(2):
        result = cache.fit(fitter(fit), NamedModel(), 0)  # type: ignore[arg-type]
        assert (result.path, result.reason) == (None, "too few")
    assert len(fit.requests) == 1, "a search that gives nothing takes as long as one that does"


def test_a_fit_on_a_test_sample_is_kept_as_refused(tmp_path: Path, divided: SplitRegistry, data: FitData) -> None:
    fit = CountingFit(extra=divided.parts.test[:2])
    cache = FitCache(tmp_path, divided, data)
    for _ in range(2):
        result = cache.fit(fitter(fit), NamedModel(), 0)  # type: ignore[arg-type]
        assert result.refused is not None
        assert result.refused.startswith("refused: fitted on 2 samples")
    assert len(fit.requests) == 1


def test_a_reworded_copy_of_a_test_sample_is_no_way_round(
    tmp_path: Path, divided: SplitRegistry, data: FitData
) -> None:
    test = divided.parts.test[0]
    copied = Sample("new", "elsewhere", test.text.upper(), "answer")
    result = FitCache(tmp_path, divided, data).fit(fitter(CountingFit(extra=(copied,))), NamedModel(), 0)  # type: ignore[arg-type]
    assert result.refused is not None


def test_a_fit_is_handed_the_selection_part_and_no_test_sample(
    tmp_path: Path, divided: SplitRegistry, data: FitData
) -> None:
    fit = CountingFit()
    FitCache(tmp_path, divided, data).fit(fitter(fit), NamedModel(), 3)  # type: ignore[arg-type]
    (request,) = fit.requests
    handed = {(sample.suite, sample.id) for sample in request.data.all}
    assert not handed & {(sample.suite, sample.id) for sample in divided.parts.test}
    assert request.seed == 3
    assert request.shared == tmp_path / "shared"


def test_progress_reaches_the_caller_and_the_budget(tmp_path: Path, divided: SplitRegistry, data: FitData) -> None:
    stages: list[tuple[str, int, int]] = []
    ticks: list[int] = []
    cache = FitCache(tmp_path, divided, data, tick=lambda: ticks.append(1))
    cache.fit(fitter(CountingFit()), NamedModel(), 0, lambda *stage: stages.append(stage))  # type: ignore[arg-type]
    assert stages == [("half", 1, 2)]
    assert ticks == [1]


def test_the_document_does_not_hold_where_it_lies(tmp_path: Path, divided: SplitRegistry, data: FitData) -> None:
    """A folder that was moved is still valid."""
    fit = CountingFit()
    FitCache(tmp_path / "a", divided, data).fit(fitter(fit), NamedModel(), 0)  # type: ignore[arg-type]
    (tmp_path / "a").rename(tmp_path / "b")
    moved = FitCache(tmp_path / "b", divided, data).get(fitter(fit), NamedModel(), 0)  # type: ignore[arg-type]
    assert moved is not None
    assert moved.path is not None
    assert moved.path.exists()
    assert isinstance(moved, CachedFit)


def test_another_number_format_is_fitted_anew(tmp_path: Path, divided: SplitRegistry, data: FitData) -> None:
    fit = CountingFit()
    cache = FitCache(tmp_path, divided, data)
    for name in ("float32", "bfloat16", "float32"):
        cache.fit(fitter(fit), NamedModel(number_format=name), 0)  # type: ignore[arg-type]
    assert len(fit.requests) == 2
