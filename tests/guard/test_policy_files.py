"""Policies as files: any settings that can be survive TOML; any other text is one error in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.errors import UsageError
from equipoise.guard.policy import CascadeBand, PicturePolicy, Policy, Rail, StreamPolicy, load, parse


@pytest.mark.parametrize(
    "text",
    [
        "[output]\nthreshold = nan",
        "[output]\nthreshold = inf",
        "[output]\nthreshold = -0.0001",
        "[output]\nthreshold = true\nthreshold = 1",
        "[stream]\nhold = 0",
        "[stream]\nhold = 100001",
        "[stream]\nevery = 1.5",
        "[pictures]\nseconds = 0",
        "[pictures]\nseconds = nan",
        "[pictures]\nmax_bytes = -1",
        "[pictures]\nlinks = ['https://example.com']",
        "[pictures]\nlinks = ['*']",
        "[pictures]\nlinks = ['EXAMPLE.com']",
        "[pictures]\nlinks = ['a..b']",
        "[pictures]\nlinks = ['*.*.example.com']",
        "[pictures]\naction = 'rewrite'",
        "name = ''",
        "refusal = ''",
        "rounds = 9",
        "version = '1'",
        "output = 3",
        "[output.categories]\nhate = 0.5",
        "[cascade]\nlow = 0.95",
        "[unknown]",
        "\x00",
        "a = " + "[" * 3000,
    ],
)
def test_a_setting_that_cannot_be_is_one_error_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text, "my.toml")
    assert "my.toml" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "; try " in str(refused.value)


@settings(max_examples=60)
@given(st.text(max_size=60))
def test_any_text_is_a_policy_or_a_usage_error(text: str) -> None:
    try:
        parse(text)
    except UsageError as error:
        refusal = str(error)
    else:
        refusal = "one line"
    assert len(refusal.splitlines()) == 1


@pytest.mark.parametrize("host", ["example.com", "*.example.com", "a-b.c", "localhost", "xn--bcher-kva.example"])
def test_hosts_of_links(host: str) -> None:
    assert parse(f"[pictures]\nlinks = ['{host}']").pictures.links == (host,)


probabilities = st.floats(0, 1)
policies = st.builds(
    Policy,
    name=st.text(min_size=1, max_size=10),
    mode=st.sampled_from(["enforce", "observe"]),
    rounds=st.integers(0, 8),
    output=st.builds(Rail, threshold=probabilities, action=st.sampled_from(["allow", "flag", "rewrite", "refuse"])),
    cascade=st.tuples(probabilities, probabilities).map(lambda ends: CascadeBand(low=min(ends), high=max(ends))),
    pictures=st.builds(PicturePolicy, threshold=probabilities, max_count=st.integers(1, 50)),
    stream=st.builds(StreamPolicy, hold=st.integers(1, 1000), every=st.integers(1, 1000)),
)


@given(policies)
def test_a_policy_survives_its_own_json_and_keeps_its_revision(policy: Policy) -> None:
    again = Policy.model_validate(json.loads(policy.model_dump_json()))
    assert again == policy
    assert again.revision == policy.revision
    assert len(policy.revision) == 12


@given(policies, policies)
def test_two_policies_share_a_revision_only_if_they_are_equal(one: Policy, other: Policy) -> None:
    assert (one.revision == other.revision) == (one == other)


@given(policies, st.none() | st.text(max_size=10))
def test_a_refusal_fills_in_its_fields_and_reads_nothing_else(policy: Policy, category: str | None) -> None:
    text = policy.refuse(category)
    assert policy.name.replace("{category}", category or "harm") in text or "{" in policy.name or "_" in policy.name
    assert "{policy}" not in text or "{policy}" in policy.name
    given_text = policy.model_copy(update={"refusal": "No: {} {0} {other}."}).refuse(category)
    assert given_text == "No: {} {0} {other}."


@given(policies)
def test_a_policy_cannot_be_changed_in_place(policy: Policy) -> None:
    with pytest.raises(ValueError, match="frozen"):
        policy.rounds = 3  # type: ignore[misc]


def test_the_rail_of_pictures_has_their_settings() -> None:
    policy = parse("[pictures]\nthreshold = 0.25\naction = 'flag'\nfail = 'open'")
    rail = policy.rail("pictures")
    assert (rail.enabled, rail.threshold, rail.action, rail.fail) == (True, 0.25, "flag", "open")
    assert policy.rail("input") is policy.input
    assert policy.rail("output") is policy.output


@pytest.mark.parametrize("content", [b"\xff", "rounds = 1".encode("utf-16"), "name = '\u00e9'".encode("latin-1")])
def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        load(path)
    assert str(path) in str(refused.value)


def test_a_byte_order_mark_makes_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(b"\xef\xbb\xbfrounds = 1")
    assert load(path).rounds == 1


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_ends_make_no_difference(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(ending.join(["rounds = 1", "[output]", "threshold = 0.25", ""]).encode())
    expected: dict[str, Any] = {"rounds": 1, "output": Rail(threshold=0.25)}
    assert load(path) == Policy(**expected)
