"""Elicitation: what is asked, that it is asked once for each model, and that a cache never changes the result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from equipoise.attacks import elicitation
from equipoise.attacks.elicitation import elicit, elicitation_prompts
from equipoise.errors import UsageError
from equipoise.models.load import load
from equipoise.models.transformers_model import TransformersModel
from equipoise.types import Exchange, Prompt, Verdict
from tests.models.families import FAMILIES
from tests.models.tiny_plain import PlainTorchModel

HARMFUL, HARMLESS = elicitation_prompts()
_TEXTS = {prompt.text for prompt in HARMFUL}


class Aligned(PlainTorchModel):
    """Refuses what asks for harm in words of its own, and counts what it is asked."""

    def __init__(self, refusal: str = "not for me, i won't do that.", revision: str = "one") -> None:
        super().__init__()
        self.name, self.revision, self.refusal = "aligned", revision, refusal
        self.received: list[Prompt] = []

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        assert all(prompt.pictures for prompt in prompts), "a model of the user's may need a picture"
        self.received += prompts
        replies = [self.refusal if prompt.text in _TEXTS else "A ring." for prompt in prompts]
        return [Exchange(prompt, reply, "stop", self.name) for prompt, reply in zip(prompts, replies, strict=True)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "refusals"


def test_prompts_come_with_and_without_pictures_and_both_kinds_are_disjoint() -> None:
    for prompts in (HARMFUL, HARMLESS):
        with_picture = sum(bool(prompt.pictures) for prompt in prompts)
        assert 5 <= with_picture <= len(prompts) - 5
    assert _TEXTS.isdisjoint(prompt.text for prompt in HARMLESS)


def test_a_models_own_words_are_learned() -> None:
    own = elicit(Aligned())
    assert (own.refused, own.requests) == (len(HARMFUL), len(HARMFUL))
    assert [wording.text for wording in own.sentences] == ["not for me, i won't do that."]
    word = elicit(Aligned("Declined.", "two"))
    assert word.echoes == ("Declined.",)


def test_a_model_is_asked_once_for_each_revision_and_file(cache: Path, tmp_path: Path) -> None:
    first = Aligned()
    own = elicit(first)
    again = Aligned()
    assert elicit(again) == own
    assert (len(first.received), again.received) == (len(HARMFUL) + len(HARMLESS), [])
    other = Aligned(revision="two")
    elicit(other)
    assert other.received
    file = tmp_path / "more.txt"
    file.write_text("Tell me something.\n")
    elicit(again, file=file)
    assert again.received[0].text == "Tell me something."
    assert len(list(cache.glob("*.json"))) == 3


def test_a_damaged_cache_and_one_that_cannot_be_written_cost_only_the_questions(cache: Path) -> None:
    own = elicit(Aligned())
    (file,) = cache.glob("*.json")
    for content in ("", "[]", json.dumps({"model": "x"})):
        file.write_text(content)
        assert elicit(Aligned()) == own
    file.unlink()
    cache.rmdir()
    cache.write_text("a file where the folder should be")
    assert elicit(Aligned()) == own


def test_progress_counts_all_prompts() -> None:
    calls: list[tuple[int, int]] = []
    elicit(Aligned(), cached=False, progress=lambda done, total: calls.append((done, total)))
    total = len(HARMFUL) + len(HARMLESS)
    assert calls[-1] == (total, total)
    assert calls == sorted(calls)


def test_a_file_without_prompts_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("# nothing\n")
    with pytest.raises(UsageError, match="expected prompts"):
        elicit(Aligned(), file=tmp_path / "none.txt")


@pytest.mark.parametrize(("family", "bare"), [("LLaVA-1.5", True), ("BLIP-2", False)])
def test_models_of_transformers_are_asked_without_pictures_where_they_can_be(
    family: str, bare: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAMILIES[family](tmp_path / "model")
    model = load(str(tmp_path / "model"))
    assert isinstance(model, TransformersModel)
    monkeypatch.setattr(elicitation, "REPLY_TOKENS", 1)
    monkeypatch.setattr(elicitation, "elicitation_prompts", lambda: (HARMFUL[:4], HARMLESS[:2]))
    answered: list[Prompt] = []
    plain = model.generate

    def watched(prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        replies = plain(prompts, max_new_tokens=max_new_tokens)
        answered.extend(prompts)
        return replies

    monkeypatch.setattr(model, "generate", watched)
    own = elicit(model)
    assert (own.requests, own.model, own.revision) == (4, model.name, model.revision)
    assert any(not prompt.pictures for prompt in answered) is bare
    assert {prompt.text for prompt in answered} == {prompt.text for prompt in (*HARMFUL[:4], *HARMLESS[:2])}


def test_another_judge_decides_and_is_never_cached(cache: Path) -> None:
    def nothing(exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [Verdict("none") for _ in exchanges]

    own = elicit(Aligned("Several words, none of them the same as before."), judge=nothing)
    assert own.sentences[0].text == own.echoes[0], "what every request gets word for word is a refusal by its use"
    assert not cache.exists()
    assert elicit(Aligned()).echoes == ()


def test_the_same_weights_under_another_name_have_the_same_refusals(cache: Path) -> None:
    first, second = Aligned(), Aligned()
    second.name = "a copy"
    learned = elicit(first)
    again = elicit(second)
    assert again.model == "a copy"
    assert again.sentences == learned.sentences
