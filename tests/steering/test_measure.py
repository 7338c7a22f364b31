from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from equipoise.errors import ModelError
from equipoise.report.direction_page import dose_plot, layer_plot, plane_plot, render, write
from equipoise.steering.direction import Direction
from equipoise.steering.find import FindResult
from equipoise.steering.measure import DirectionMeasurer, MeasureSettings, measure_direction
from equipoise.steering.measurement import DirectionMeasurement, NullComparison
from equipoise.steering.openers import RefusalOpeners
from equipoise.steering.prompt_sets import own_prompts
from equipoise.steering.stage_folder import StageFolder
from equipoise.steering.steerable import Steerable
from tests.steering.planted import prompts, sorry_judge
from tests.steering.towers import picture_model

SETS = {
    "harmful": prompts("new harmful", 20, "attack", seed=1),
    "harmless": prompts("new harmless", 20, seed=1),
    "pseudo_harmful": prompts("new pseudo", 12, "shoot", seed=1),
}
QUICK = MeasureSettings(coefficients=(-1.0, 0.5, 1.0), null_prompts=8, reply_tokens=3)


def measurer(steerable: Steerable, result: FindResult, **more) -> DirectionMeasurer:
    assert result.direction is not None
    return DirectionMeasurer(steerable, result.direction, SETS, QUICK, judge=sorry_judge, **more)


@pytest.fixture(scope="module")
def measurement(planted_steerable: Steerable, planted_result: FindResult) -> DirectionMeasurement:
    assert planted_result.openers is not None
    return measure_direction(measurer(planted_steerable, planted_result), planted_result.openers)


def test_ablation_and_addition_move_refusals_with_intervals(measurement: DirectionMeasurement) -> None:
    plain, ablated, added = measurement.conditions
    assert plain.rates["harmful"].rate == 1
    assert plain.rates["harmless"].rate == 0
    assert ablated.rates["harmful"].rate == 0
    assert added.rates["harmless"].rate == 1
    change = ablated.changes["harmful"]
    assert change.change == -1
    assert -1 <= change.low <= change.high < -0.5
    assert plain.changes == {}


def test_the_dose_response_grows(measurement: DirectionMeasurement) -> None:
    rates = [part.rates["harmless"].rate for part in measurement.dose]
    assert rates == sorted(rates)
    assert [part.coefficient for part in measurement.dose] == [-1.0, 0.5, 1.0]
    assert measurement.dose[0].rates["harmful"].rate == 0


def test_random_directions_are_at_chance_and_the_planted_one_is_not(measurement: DirectionMeasurement) -> None:
    for null in measurement.null:
        assert len(null.random) == 20
        assert null.stronger == 0
        assert null.p == pytest.approx(1 / 21)
        # Ends of what random directions do lie near the plain model, the direction's effect far away.
        assert max(abs(value - null.plain) for value in null.random) < 0.8 * abs(null.value - null.plain)


def test_a_random_direction_is_not_significant(planted_steerable: Steerable, planted_result: FindResult) -> None:
    assert planted_result.direction is not None
    assert planted_result.openers is not None
    random = planted_result.direction.random_like(1234)
    part = DirectionMeasurer(planted_steerable, random, SETS, QUICK, judge=sorry_judge)
    result = measure_direction(part, planted_result.openers)

    assert min(null.p for null in result.null) > 0.05
    assert result.conditions[1].rates["harmful"].rate == 1
    assert abs(result.agreement) < 0.6


def test_layers_separate_from_the_first_read_of_the_planted_unit_on(measurement: DirectionMeasurement) -> None:
    assert measurement.layers[0].harmful == 0.5
    assert all(layer.harmful == 1 for layer in measurement.layers[1:])
    assert all(layer.contrast is not None and layer.contrast > 0.9 for layer in measurement.layers[1:])
    assert measurement.split_half > 0.95
    assert measurement.agreement > 0.98


def test_side_damage_and_pictures_are_reported(measurement: DirectionMeasurement) -> None:
    prose, own = measurement.entropies
    assert (prose.name, own.name) == ("ordinary text", "own replies")
    assert own.tokens >= 20
    assert own.added > own.plain + 1
    assert abs(own.ablated - own.plain) < 0.5
    assert measurement.picture.cosine is None
    assert measurement.picture.reason == "the model reads no pictures"


def test_a_killed_measurement_goes_on(
    planted_steerable: Steerable, planted_result: FindResult, measurement, tmp_path
) -> None:
    class Killed(Exception):
        pass

    def kill(stage: str, done: int, _total: int) -> None:
        if stage == "random directions" and done == 3:
            raise Killed

    assert planted_result.openers is not None
    part = measurer(planted_steerable, planted_result, stages=StageFolder(tmp_path, {}), progress=kill)
    with pytest.raises(Killed):
        measure_direction(part, planted_result.openers)
    assert len(json.loads((tmp_path / "null.json").read_text())) == 6
    part = measurer(planted_steerable, planted_result, stages=StageFolder(tmp_path, {}))
    resumed = measure_direction(part, planted_result.openers)

    assert resumed.null == measurement.null
    assert resumed.layers == measurement.layers
    assert resumed.entropies == measurement.entropies


def test_another_model_is_refused(tiny_llama: Steerable, planted_result: FindResult) -> None:
    with pytest.raises(ModelError, match="direction find"):
        measure_direction(measurer(tiny_llama, planted_result), RefusalOpeners(((6,),), 1, 0))


def test_a_direction_of_text_is_compared_with_that_of_drawn_requests(tmp_path: Path) -> None:
    model = picture_model("Idefics3", tmp_path)
    steerable = Steerable.of(model)
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    direction = Direction(vector, layer=1, position=-2, model=model.name, revision=model.revision)
    sets = {name: own_prompts(name).first(3) for name in ("harmful", "harmless")}
    part = DirectionMeasurer(steerable, direction, sets, MeasureSettings((1.0,), 20, 2, 2), judge=sorry_judge)

    transfer = measure_direction(part, RefusalOpeners(((6,),), 1, 0)).picture

    assert transfer.reason is None
    assert transfer.cosine is not None
    assert -1 <= transfer.cosine <= 1
    assert transfer.auroc is not None
    assert 0 <= transfer.auroc <= 1


def test_p_counts_ties_against_the_direction() -> None:
    assert NullComparison("bypass", 0, -1.0, (-1.0, 0.0, 1.0)).p == 0.5
    assert NullComparison("induce", 0, 5.0, (4.0, 4.5, 3.0)).p == 0.25


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.titles: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes) -> None:
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)
        self.links += [value for key, value in attributes if key in ("src", "href") and value]

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open[-1:] == ["title"]:
            self.titles.append(data)


def test_the_page_shows_every_plot_and_loads_nothing(measurement: DirectionMeasurement, tmp_path: Path) -> None:
    page = _Page(write(measurement, tmp_path, found_with=["harmful"]).read_text(encoding="utf-8"))

    assert page.open == []
    assert not page.links
    text = render(measurement)
    for heading in (
        "Both axes",
        "Separation by layer",
        "Dose and response",
        "Against random directions",
        "nats per token",
    ):
        assert heading in text
    assert any("coefficient 0.5: harmless" in title for title in page.titles)
    assert any(title.startswith("ablated:") for title in page.titles)
    assert "found with the same prompts" not in text
    assert "found with the same prompts" in write(measurement, tmp_path, found_with=["harmful"]).read_text()


def test_plots_stand_where_the_numbers_say(measurement: DirectionMeasurement) -> None:
    layers = layer_plot(measurement).series[0].dots
    assert layers[0].y > layers[1].y
    assert [dot.x for dot in layers] == sorted(dot.x for dot in layers)
    dose = {series.name: series for series in dose_plot(measurement).series}
    assert set(dose) == {"harmful", "harmless", "pseudo harmful"}
    assert len(dose["harmless"].dots) == 4
    plain, ablated, added = plane_plot(measurement).series
    assert ablated.dots[0].y < plain.dots[0].y, "more harmful prompts answered stands higher"
    assert added.dots[0].x >= plain.dots[0].x
    assert all(
        dot.left <= dot.x <= dot.right and dot.high <= dot.y <= dot.low for s in (plain, added) for dot in s.dots
    )
