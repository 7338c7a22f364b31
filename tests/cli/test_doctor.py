"""`equipoise doctor`: versions, extras and the reference base as they are on this machine."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from equipoise.cli import doctor as module
from equipoise.cli.doctor import Requirement, examine, read_requirements
from equipoise.cli.main import app
from equipoise.models.families import ModelFamily
from tests.reference.tiny_base import write_placeholder_base


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    return tmp_path / "smollm2-135m-instruct"


def test_without_the_base_it_names_the_command() -> None:
    part = examine().reference_base
    assert (part.works, part.advice) == (False, "equipoise reference install")


def test_with_the_base_it_names_the_folder(cache: Path) -> None:
    write_placeholder_base(cache)
    part = examine().reference_base
    assert part.works
    assert str(cache) in part.title


def test_a_damaged_base_does_not_work_and_the_advice_replaces_it(cache: Path) -> None:
    weights = write_placeholder_base(cache) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2])
    part = examine().reference_base
    assert not part.works
    assert part.advice.endswith(": equipoise reference install --force")


def test_the_json_document_holds_every_part() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    document = json.loads(result.stdout)
    assert document["healthy"] is True
    assert document["versions"]["torch"] == metadata.version("torch")
    assert document["reference_base"]["name"] == "base"
    assert {part["name"] for part in document["extras"]} >= {"guard", "lora", "tokenizers"}


def test_every_extra_of_the_metadata_is_shown_with_its_purpose() -> None:
    extras = {needed.extra for needed in read_requirements() if needed.extra}
    assert extras <= set(module.EXTRA_TITLES)
    assert extras <= {part.name for part in examine().extras}


def test_a_distribution_that_is_not_installed_has_no_requirements() -> None:
    assert read_requirements("equipoise-no-such-distribution") == ()


def test_a_missing_requirement_is_unhealthy_and_has_a_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Requirement("equipoise-no-such-distribution", ">=1,<2", None)
    monkeypatch.setattr(module, "read_requirements", lambda: (absent,))
    report = examine()
    assert not report.healthy
    assert report.pip_line == "pip install 'equipoise-no-such-distribution>=1,<2'"
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "Something required is missing." in result.stdout


def test_families_are_those_of_the_table_and_a_model_of_the_second_mapping_works() -> None:
    families = {part.name: part for part in examine().families}
    assert {"llava", "aya_vision", "glm4v", "vipllava", "lfm2_vl"} <= set(families)
    assert (families["phi4_multimodal"].works, families["phi4_multimodal"].advice) == (True, "")
    assert families["blip"].advice.startswith("can be asked, not attacked: ")
    assert "florence2" not in families


def test_a_family_that_needs_another_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ModelFamily("llava", "There", "checked", "needs json", package="json")
    missing = ModelFamily("llava", "Missing", "checked", "needs none_such", package="none_such")
    monkeypatch.setattr("equipoise.cli.doctor.FAMILIES", (there, missing))
    assert [(part.works, part.advice) for part in examine().families] == [
        (True, ""),
        (False, "needs none_such; try pip install none_such"),
    ]


def test_a_family_that_transformers_lacks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = ModelFamily("a-type-of-tomorrow", "Tomorrow", "checked")
    monkeypatch.setattr(module, "FAMILIES", (odd,))
    (part,) = examine().families
    assert (part.works, part.name) == (False, "a-type-of-tomorrow")
    assert "try another version" in part.advice
