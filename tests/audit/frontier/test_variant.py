"""`--with`: specs, chains, fitters and adapters."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.audit.frontier.time_budget import TimeBudget, guessed_ratio
from equipoise.audit.frontier.variant import default_variants, parse_variant
from equipoise.errors import UsageError


def test_a_name_alone_is_fitted_and_a_file_is_given(tmp_path: Path) -> None:
    file = tmp_path / "s.safetensors"
    file.write_bytes(b"")
    fitted, given = parse_variant("surgical", "m"), parse_variant(f"surgical:{file}", "m")
    assert [fitter.name for fitter in fitted.fitters] == ["surgical"]
    assert not fitted.links[0].is_given
    assert given.fitters == ()
    assert given.links[0].is_given


def test_a_chain_keeps_its_order_and_settings() -> None:
    variant = parse_variant("surgical:coefficient=0.5  then guard:policy=p.toml", "m")
    assert variant.name == "surgical:coefficient=0.5 then guard:policy=p.toml"
    assert variant.specs([Path("v"), None], 0) == ("surgical:file=v,coefficient=0.5", "guard:policy=p.toml")


def test_a_seed_is_filled_in_where_the_user_gave_none() -> None:
    assert parse_variant("crop", "m").specs([None], 2) == ("crop:seed=2",)
    assert parse_variant("crop:lowest=0.9", "m").specs([None], 2) == ("crop:lowest=0.9,seed=2",)
    assert not parse_variant("crop:seed=1", "m").takes_seed
    assert not parse_variant("crop:seed = 1", "m").takes_seed
    assert parse_variant("crop : seed = 1", "m").specs([None], 2) == ("crop : seed = 1",)
    assert not parse_variant("median", "m").takes_seed
    assert parse_variant("surgical", "m").takes_seed


@pytest.mark.parametrize("text", ["+folder", "ORG/NAME+folder"])
def test_an_adapter_stands_first(text: str) -> None:
    variant = parse_variant(f"{text} then guard", "ORG/NAME")
    assert variant.links[0].adapter == "folder"
    assert variant.links[0].is_given
    assert variant.specs([None, None], 0) == ("guard",)
    with pytest.raises(UsageError, match="expected an adapter first in the chain"):
        parse_variant(f"guard then {text}", "ORG/NAME")


def test_a_policy_or_a_guard_alone_is_known_however_it_is_spelt() -> None:
    policies = {text: parse_variant(text, "m").policy_alone for text in ("prompt", "prompt:", "prompt : file = anew")}
    assert policies == {"prompt": "balanced", "prompt:": "balanced", "prompt : file = anew": "anew"}
    assert parse_variant("guard : read=yes", "m").guard_alone
    for text in ("surgical", "derta", "+folder", "prompt then guard"):
        assert parse_variant(text, "m").policy_alone is None
        assert not parse_variant(text, "m").guard_alone


@pytest.mark.parametrize("path", ["runs/a,b/file", " runs/file", "runs/file "])
def test_a_fitted_file_that_no_spec_can_hold_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="expected file of surgical without a comma and without blanks"):
        parse_variant("surgical", "m").specs([Path(path)], 0)
    assert parse_variant("derta", "m").specs([Path(path)], 0) == (), "an adapter's folder stands in no spec"


@pytest.mark.parametrize("text", ["", "plain", "nonsense", "guard:nothing=1", "steer", "+", "derta:steps=3"])
def test_what_is_no_mitigation_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        parse_variant(text, "m")


def test_folders_have_plain_names() -> None:
    slug = parse_variant("guard:policy=a/b c.toml", "m").slug
    assert "/" not in slug
    assert " " not in slug


def test_defaults_fit_the_model() -> None:
    assert default_variants(reads_pictures=True, attacked=False, served=True)[0] == "guard"
    text = default_variants(reads_pictures=False, attacked=True, served=False)
    pictures = default_variants(reads_pictures=True, attacked=True, served=False)
    assert "crop" not in text
    assert "crop" in pictures
    for name in pictures:
        parse_variant(name, "m")


def test_the_budget_counts_earlier_commands(tmp_path: Path) -> None:
    file = tmp_path / "spent.json"
    file.write_text('{"seconds": 540.0}')
    budget = TimeBudget(file, 600.0)
    assert budget.shortfall(30.0) is None
    assert budget.shortfall(120.0) == "budget: needs about 2.0 min, 1.0 min of 10.0 min left"
    assert TimeBudget(tmp_path / "none.json", None).shortfall(1e9) is None
    budget.tick(final=True)
    assert TimeBudget(file, 600.0).seconds >= 540.0


def test_guesses_multiply_along_a_chain() -> None:
    assert guessed_ratio([]) == 1.0
    assert guessed_ratio(["vote:copies=7"]) == 7.0
    assert guessed_ratio(["guard", "median"]) == pytest.approx(1.5 * 1.2)


def test_the_sources_of_a_mitigation_are_its_files_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, adapter = tmp_path / "my.toml", tmp_path / "adapter"
    policy.write_text("a = 1")
    adapter.mkdir()
    (adapter / "weights").write_text("w")
    variant = parse_variant(f"m+{adapter} then prompt:{policy}", "m")
    before = variant.sources()
    assert before.keys() == {str(policy), str(adapter)}
    assert variant.sources() == before
    (adapter / "weights").write_text("x")
    policy.write_text("a = 2")
    after = variant.sources()
    assert all(after[name] != before[name] for name in before)
    for name in ("balanced", "default", "embedded", "crop"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for text in ("prompt:balanced", "guard", "recover", "guard:detector=embedded"):
        assert parse_variant(text, "m").sources() == {}, "a word alone is something that ships"
    (tmp_path / "house").write_text("a policy without a suffix")
    assert parse_variant("prompt:house", "m").sources().keys() == {"house"}
    policy.unlink()
    assert variant.sources().keys() == {str(adapter)}
