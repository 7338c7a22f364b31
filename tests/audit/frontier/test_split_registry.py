"""What may be fitted on and what is reported on stay apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.audit.frontier.split_registry import SplitRegistry, content_hash, read_declared
from equipoise.data.catalogue import Suite
from equipoise.errors import UsageError
from equipoise.types import Sample
from tests.audit.frontier.samples import planted_suite


def test_the_parts_are_whole_and_apart() -> None:
    suite = planted_suite(60)
    registry = SplitRegistry.of([suite])
    parts = registry.parts
    assert {s.id for s in (*parts.selection, *parts.development, *parts.test)} == {s.id for s in suite.samples}
    assert registry.leaks(parts.selection) == ()
    assert sum(len(part.samples) for part in registry.test_suites) == len(parts.test)
    document = registry.to_json()
    assert document["suites"][0]["test"] == len(parts.test)
    assert document["test_sha256"] != document["selection_sha256"]


def test_another_seed_is_another_division() -> None:
    first, second = (SplitRegistry.of([planted_suite(60)], seed).to_json() for seed in (0, 1))
    assert first["test_sha256"] != second["test_sha256"]


def test_a_test_sample_is_recognised_by_its_wording_alone() -> None:
    registry = SplitRegistry.of([planted_suite(60)])
    copied = Sample("x", "elsewhere", registry.parts.test[0].text.upper() + "!", "answer")
    assert [overlap.kind for overlap in registry.leaks([copied])] == ["wording"]
    with pytest.raises(UsageError, match=r"expected surgical:x fitted apart from the test split, got 1 related"):
        registry.require_apart("surgical:x", [copied])


def test_a_suite_without_a_test_part_is_refused() -> None:
    with pytest.raises(UsageError, match="expected samples in the test split, got none"):
        SplitRegistry.of([Suite("empty", (), "")])


def test_declared_prompts_are_read_from_a_file(tmp_path: Path) -> None:
    registry = SplitRegistry.of([planted_suite(60)])
    file = tmp_path / "tuned.txt"
    file.write_text("nothing of the kind\n" + registry.parts.test[0].text + "\n")
    declared = read_declared(file)
    assert len(declared) == 2
    assert len(registry.leaks(declared)) == 1


def test_the_hash_of_content_sees_text_and_expectation() -> None:
    one, two = (Sample("a", "s", "w1", expected) for expected in ("answer", "refuse"))
    assert content_hash([one]) != content_hash([two])
    assert content_hash([one]) == content_hash([one])
