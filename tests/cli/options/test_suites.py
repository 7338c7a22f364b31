"""Which suites a model is asked where nobody names any, and that drawn ones are found by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from equipoise.cli.options.suites import EMBEDDED, default_suites, load_suites
from equipoise.errors import UsageError
from tests.cli.fakes import BrightnessModel, TextOnlyModel

PICTURES, TEXT, SERVED = BrightnessModel("toy/target"), TextOnlyModel(), SimpleNamespace(name="served")


@pytest.mark.parametrize(
    ("name", "model", "suites"),
    [
        ("reference/mllm", PICTURES, ("scenes", "contrast")),
        ("reference/lm", TEXT, ("contrast",)),
        ("toy/text", TEXT, ("everyday", "contrast")),
        ("testbed/llava", PICTURES, EMBEDDED),
        ("org/name", PICTURES, EMBEDDED),
        ("http://localhost/v1#name", SERVED, EMBEDDED),
        ("inspect:openai/x", None, EMBEDDED),
    ],
)
def test_a_model_gets_the_suites_that_it_is_for(name: str, model: object, suites: tuple[str, ...]) -> None:
    assert default_suites(name, model) == suites


@pytest.mark.parametrize("model", [PICTURES, TEXT])
@pytest.mark.parametrize("name", ["reference/x", "org/x"])
def test_defaults_can_be_loaded_and_a_text_model_gets_no_pictures(name: str, model: object) -> None:
    specs = default_suites(name, model)
    loaded = load_suites(specs, None, 8, 0)
    assert tuple(suite.name for suite in loaded) == specs
    if model is TEXT:
        assert not any(sample.pictures for suite in loaded for sample in suite.samples)


def test_drawn_suites_take_the_seed_and_published_ones_the_folder(tmp_path: Path) -> None:
    first, second = (load_suites(("scenes", "testbed"), None, 4, seed) for seed in (0, 1))
    assert [suite.name for suite in first] == ["scenes", "testbed"]
    assert all(one.sha256 != other.sha256 for one, other in zip(first, second, strict=True))
    with pytest.raises(UsageError, match="expected a copy of xstest"):
        load_suites(("scenes", "xstest"), tmp_path, 4, 0)


def test_begun_replies_are_no_list_of_samples() -> None:
    assert load_suites(("recovery-depth", "contrast"), None, 4, 0)[0].name == "contrast"
