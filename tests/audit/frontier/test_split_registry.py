"""What may be fitted on and what is reported on stay apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.audit.frontier.split_registry import FrontierSplits, content_hash, read_declared
from equipoise.data.catalogue import Suite
from equipoise.errors import UsageError
from equipoise.types import Sample
from tests.audit.frontier.samples import planted_suite


def test_the_parts_are_whole_and_apart() -> None:
    suite = planted_suite(60)
    registry = FrontierSplits.of([suite])
    parts = registry.parts
    assert {s.id for s in (*parts.selection, *parts.development, *parts.test)} == {s.id for s in suite.samples}
    assert registry.leaks(parts.selection) == ()
    assert sum(len(part.samples) for part in registry.test_suites) == len(parts.test)
    document = registry.to_json()
    assert document["suites"][0]["test"] == len(parts.test)
    assert document["test_sha256"] != document["selection_sha256"]


def test_another_seed_is_another_division() -> None:
    first, second = (FrontierSplits.of([planted_suite(60)], seed).to_json() for seed in (0, 1))
    assert first["test_sha256"] != second["test_sha256"]


def test_a_test_sample_is_recognised_by_its_wording_alone() -> None:
    registry = FrontierSplits.of([planted_suite(60)])
    copied = Sample("x", "elsewhere", registry.parts.test[0].text.upper() + "!", "answer")
    assert [overlap.kind for overlap in registry.leaks([copied])] == ["wording"]
    with pytest.raises(UsageError, match=r"expected surgical:x fitted apart from the test split, got 1 related"):
        registry.require_apart("surgical:x", [copied])


def test_a_suite_without_a_test_part_is_refused() -> None:
    with pytest.raises(UsageError, match="expected samples in the test split, got none"):
        FrontierSplits.of([Suite("empty", (), "")])


def test_declared_prompts_are_read_from_a_file(tmp_path: Path) -> None:
    registry = FrontierSplits.of([planted_suite(60)])
    file = tmp_path / "tuned.txt"
    file.write_text("nothing of the kind\n" + registry.parts.test[0].text + "\n")
    declared = read_declared(file)
    assert len(declared) == 2
    assert len(registry.leaks(declared)) == 1


def test_the_hash_of_content_sees_text_and_expectation() -> None:
    one, two = (Sample("a", "s", "w1", expected) for expected in ("answer", "refuse"))
    assert content_hash([one]) != content_hash([two])
    assert content_hash([one]) == content_hash([one])


def test_related_samples_of_two_suites_fall_into_one_part() -> None:
    suite = planted_suite(60)
    twin = Suite("twin", tuple(Sample(s.id, "twin", s.text, s.expected) for s in suite.samples), "")
    parts = FrontierSplits.of([suite, twin]).parts
    for part in (parts.selection, parts.development, parts.test):
        texts = [sample.text for sample in part]
        assert len(texts) == 2 * len(set(texts)), "every text is there from both suites"


def test_suites_that_are_for_tests_alone_give_nothing_to_fit_on() -> None:
    samples = tuple(Sample(str(i), "mossbench", f"w{i} w{i + 1} w{i + 2}", "answer") for i in range(30))
    parts = FrontierSplits.of([Suite("mossbench", samples, "")]).parts
    assert len(parts.test) == 30
    assert parts.selection == ()


def test_the_order_of_the_samples_changes_no_part() -> None:
    suite = planted_suite(60)
    turned = Suite("own", tuple(reversed(suite.samples)), "")
    first, second = (FrontierSplits.of([part]).parts.test for part in (suite, turned))
    assert {sample.id for sample in first} == {sample.id for sample in second}


def test_a_shared_picture_is_a_leak() -> None:
    from tests.audit.frontier.pictures import BytesPicture

    shared = BytesPicture(b"same bytes")
    samples = tuple(
        Sample(str(i), "own", f"w{i} w{i + 1}", "answer", pictures=(BytesPicture(str(i).encode()),)) for i in range(30)
    )
    divided = FrontierSplits.of([Suite("own", samples, "")])
    test = divided.parts.test[0]
    assert divided.leaks([Sample("x", "other", "anything else", "answer", pictures=test.pictures)])
    assert not divided.leaks([Sample("x", "other", "anything else", "answer", pictures=(shared,))])
