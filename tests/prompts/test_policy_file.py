"""Policy files: ours, those of users, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from equipoise.data.splits import find_overlaps
from equipoise.errors import UsageError
from equipoise.prompts.exemplars import own_pool
from equipoise.prompts.policy import ComposedPolicy, Contextual, FewShot, Retry, SystemText
from equipoise.prompts.policy_file import NAMED, load_policy, named_text, parse_policy
from equipoise.steering.prompt_sets import OwnSet, own_prompts
from equipoise.types import Prompt, Sample

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"


@pytest.mark.parametrize("name", NAMED)
def test_every_policy_of_ours_loads_says_what_it_is_for_and_differs_from_the_others(name: str) -> None:
    policy = load_policy(name)
    assert 'about = "' in named_text(name)
    assert sum(load_policy(other).revision == policy.revision for other in NAMED) == 1
    assert "\n\n\n" not in policy.apply(Prompt.ask("x")).text


def test_the_kinds_of_our_policies() -> None:
    kinds = {name: type(load_policy(name)) for name in NAMED}
    assert kinds == {
        "safety": SystemText,
        "balanced": SystemText,
        "contextual": Contextual,
        "few-shot": FewShot,
        "interactive": Retry,
        "anew": Retry,
        "combined": ComposedPolicy,
    }


def test_our_exemplars_share_nothing_with_the_prompts_that_soft_prompts_are_made_with() -> None:
    anchors = [
        Sample(f"{name} {i}", "own", prompt.text, "answer")
        for name in get_args(OwnSet)
        for i, prompt in enumerate(own_prompts(name).prompts)
    ]
    assert find_overlaps(anchors, own_pool().samples) == ()


def test_a_file_of_a_user_finds_its_pool_beside_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps({"prompt": "A?", "reply": "a"}))
    (tmp_path / "p.toml").write_text(
        'name = "p"\n[[steps]]\nkind = "few_shot"\nk = 1\nrefusals = 0\npool = "mine.jsonl"\n'
        '[[steps]]\nkind = "system"\ntext = """\nBe kind."""\n'
    )
    policy = load_policy(str(tmp_path / "p.toml"))
    assert policy.pools[0].name == "mine"
    prompt = policy.apply(Prompt.ask("x"))
    assert prompt.system == "Be kind."
    assert prompt.messages[0].text == "A?"


BAD = {
    "an unknown key": '[[steps]]\nkind = "system"\ntext = "x"\ntemperature = 1\n',
    "an unknown key of the file": 'nmae = "x"\n[[steps]]\nkind = "system"\ntext = "x"\n',
    "an unknown kind": '[[steps]]\nkind = "sytem"\ntext = "x"\n',
    "no steps": 'name = "x"\n',
    "empty steps": "steps = []\n",
    "a template without its slot": '[[steps]]\nkind = "contextual"\ntemplate = "Say yes."\n',
    "a picture template without its slot": (
        '[[steps]]\nkind = "contextual"\ntemplate = "{request}"\npicture_template = "Look."\n'
    ),
    "a pool that is not there": '[[steps]]\nkind = "few_shot"\npool = "none.csv"\n',
    "an unknown selector": '[[steps]]\nkind = "few_shot"\nselector = "best"\n',
    "no TOML": "[[steps\n",
    "a retry anew without its slot": '[[steps]]\nkind = "interactive"\nfollow_up = "x"\nconversation = "anew"\n',
    "two interactive steps": '[[steps]]\nkind = "interactive"\nfollow_up = "x"\n' * 2,
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_is_one_clear_error(tmp_path: Path, case: str) -> None:
    file = tmp_path / "p.toml"
    file.write_text(BAD[case])
    with pytest.raises(UsageError, match=LINE):
        load_policy(str(file))
    with pytest.raises(UsageError, match=LINE):
        parse_policy(BAD[case], folder=tmp_path)


def test_the_error_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"steps\.1\.system\.temperature"):
        parse_policy(BAD["an unknown key"])


@pytest.mark.parametrize("name", ["", "kind", "none.toml"])
def test_a_policy_that_is_not_there_names_ours(name: str) -> None:
    with pytest.raises(UsageError, match="balanced"):
        load_policy(name)


@pytest.mark.parametrize(
    "step",
    [
        'kind = "contextual"\ntemplate = "no slot"',
        'kind = "system"\ntext = "Answer {request}"',
        'kind = "interactive"\nfollow_up = "Again: {request}"',
        'kind = "few_shot"\npool = "gone.jsonl"',
        'kind = "few_shot"\nk = 1\nrefusals = 0\npool = "picture.jsonl"',
    ],
)
def test_a_step_that_cannot_be_names_the_file_and_the_step(tmp_path: Path, step: str) -> None:
    (tmp_path / "picture.jsonl").write_text(json.dumps({"prompt": "A?", "reply": "a", "picture": "gone.png"}))
    (tmp_path / "p.toml").write_text(f'[[steps]]\nkind = "system"\ntext = "x"\n[[steps]]\n{step}\n')
    with pytest.raises(UsageError, match=LINE) as raised:
        load_policy(str(tmp_path / "p.toml"))
    assert f"(step 2 of {tmp_path / 'p.toml'})" in str(raised.value)


def test_a_soft_prompt_is_no_policy_and_the_error_says_how_to_name_it() -> None:
    with pytest.raises(UsageError, match=r"try dro:soft-0\.safetensors$"):
        load_policy("soft-0.safetensors")
