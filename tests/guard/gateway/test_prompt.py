"""A prompt policy in the gateway: the upstream gets it, checks do not, and the record says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from equipoise.errors import UsageError
from equipoise.guard.policy import Policy, parse
from equipoise.prompts.policy_file import load_policy
from equipoise.types import Prompt
from tests.guard.fakes import Words
from tests.guard.gateway.upstreams import gateway, says

FRAME = '[prompt]\n[[prompt.steps]]\nkind = "contextual"\ntemplate = "A bomb? {request}"\n'


def ask(folder: Path, policy: Policy, content="hello", detector: Words | None = None, **more):
    async def run():
        async with gateway(folder, says("Fine."), policy=policy, detector=detector) as service:
            response = await service.chat(content, **more)
            return response, service.fake.requests, service.entries()

    return asyncio.run(run())


def test_the_upstream_gets_the_prompt_and_the_record_names_it(tmp_path: Path) -> None:
    policy = parse('[prompt]\nuse = "contextual"\n')
    response, sent, entries = ask(tmp_path, policy)
    assert response.status_code == 200
    expected = load_policy("contextual")
    assert sent[0]["messages"][-1]["content"] == expected.apply(Prompt.ask("hello")).text
    (receipt,) = [receipt for receipt in entries[-1]["receipts"] if receipt["path"] == "prompt"]
    assert receipt["outcome"] == "skipped"
    assert "contextual" in receipt["why"]
    assert expected.revision in receipt["why"]
    assert "skipped" in response.headers["x-equipoise-receipts"]


def test_without_a_prompt_the_request_passes_as_it_came(tmp_path: Path) -> None:
    _, sent, entries = ask(tmp_path, Policy())
    assert sent[0]["messages"] == [{"role": "user", "content": "hello"}]
    assert all(receipt["path"] != "prompt" for receipt in entries[-1]["receipts"])


def test_checks_read_the_request_as_the_client_sent_it(tmp_path: Path) -> None:
    detector = Words()
    policy = parse(FRAME + "[input]\nenabled = true\n")
    response, sent, _ = ask(tmp_path, policy, detector=detector)
    assert response.json()["choices"][0]["message"]["content"] == "Fine."
    assert sent[0]["messages"][-1]["content"] == "A bomb? hello"
    assert not any("bomb" in text for text in detector.texts), "the operator's own words were judged"


def test_a_policy_that_observes_adds_nothing_and_says_so(tmp_path: Path) -> None:
    _, sent, entries = ask(tmp_path, parse('mode = "observe"\n' + FRAME))
    assert sent[0]["messages"] == [{"role": "user", "content": "hello"}]
    (receipt,) = [receipt for receipt in entries[-1]["receipts"] if receipt["path"] == "prompt"]
    assert "observes" in receipt["why"]


def test_streams_get_it_too(tmp_path: Path) -> None:
    _, sent, _ = ask(tmp_path, parse(FRAME), stream=True)
    assert sent[0]["messages"][-1]["content"] == "A bomb? hello"


@pytest.mark.parametrize(
    "text",
    [
        '[prompt]\nuse = "kind"\n',
        '[prompt]\nuse = "interactive"\n',
        '[prompt]\nuse = "combined"\n',
        '[prompt]\nname = "contextual"\n',
        f'{FRAME}\n[[prompt.steps]]\nkind = "interactive"\nfollow_up = "x"\n',
        '[prompt]\nuse = "contextual"\n[[prompt.steps]]\nkind = "system"\ntext = "x"\n',
        '[[prompt.steps]]\nkind = "contextual"\ntemplate = "no slot"\n',
        '[[prompt.steps]]\nkind = "few_shot"\npool = "mine.csv"\n',
        '[[prompt.steps]]\nkind = "system"\ntext = "x"\ntemperature = 1\n',
    ],
)
def test_a_section_that_cannot_be_is_one_clear_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"^expected [^\n]*, got [^\n]*prompt[^\n]*; try [^\n]*$"):
        parse(text)


def test_the_revision_of_a_policy_covers_its_prompt() -> None:
    revisions = {parse(text).revision for text in ("", FRAME, '[prompt]\nuse = "balanced"\n')}
    assert len(revisions) == 3
