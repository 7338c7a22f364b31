"""Mitigations in words that need no documentation."""

from __future__ import annotations

import pytest

from equipoise.audit.frontier.description import POLICIES, WORDS, describe
from equipoise.audit.frontier.fitters import FITTERS
from equipoise.audit.frontier.variant import default_variants
from equipoise.countermeasures.catalogue import CATALOGUE
from equipoise.prompts.policy_file import load_policy


@pytest.mark.parametrize("reads", [True, False])
def test_every_default_row_has_words_of_its_own(reads: bool) -> None:
    names = default_variants(reads_pictures=reads, attacked=reads, served=False)
    phrases = [describe(name) for name in names]
    assert len(set(phrases)) == len(names)
    assert not any(name in phrase.split() for name in FITTERS for phrase in phrases), "names explain nothing"


def test_chains_settings_files_and_adapters_have_words() -> None:
    assert describe("plain") == "the model as it is"
    chain = describe("prompt:few-shot then guard:detoxifier=model")
    assert chain == f"{POLICIES['few-shot']}; then {WORDS['guard']}"
    assert describe("prompt") == POLICIES["balanced"]
    assert describe("prompt:mine.toml") == "your own change of every request"
    assert describe("crop:seed=3") == CATALOGUE["crop"].about
    assert describe("ORG/NAME+adapter") == describe("+adapter") == "further trained weights"


def test_only_names_that_exist_are_described() -> None:
    assert set(WORDS) <= {*FITTERS, *CATALOGUE}
    for name in POLICIES:
        load_policy(name)
