from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
import torch
from PIL import Image

from equipoise.errors import ModelError, UsageError
from equipoise.generation.attribution import attribute_words
from equipoise.generation.grown_prompts import GrownSearch
from equipoise.generation.mutation import MutatedSearch
from equipoise.generation.refusal_target import find_refusal_target
from equipoise.generation.victims import OpenVictim, SampledVictim
from equipoise.generation.vocabulary_map import VocabularyMap
from equipoise.generation.writer import SampledWriter
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.text_model import TextModel
from equipoise.types import Exchange, Prompt, Verdict
from tests.generation.fakes import WordVictim
from tests.models.tiny_plain import PlainTorchModel
from tests.steering.planted import planted_model, sorry_judge

TEXTS = ["w1 w2 w3", "w1 w2 attack", "w1 w2 w5 w6", "w1 shoot w2"]


class CountedModel:
    """Refuses every third reply."""

    name = "counted"

    def __init__(self) -> None:
        self.asked = 0

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        exchanges = []
        for prompt in prompts:
            reply = "Sorry, no." if self.asked % 3 == 0 else "Sure, with pleasure."
            exchanges.append(Exchange(prompt, reply, "stop", self.name))
            self.asked += 1
        return exchanges


def test_scores_are_the_log_probability_of_the_refusal(chatty: TextModel, victim: OpenVictim) -> None:
    with torch.no_grad():
        plain = chatty.log_prob(None, [Prompt.ask(text) for text in TEXTS], ["Sorry"] * 4, end=False).mean
    assert victim.scores(TEXTS) == pytest.approx(plain.tolist(), abs=1e-4)
    unshared = OpenVictim(chatty, "Sorry", sorry_judge, shared_prefix=False)
    assert unshared.scores(TEXTS) == pytest.approx(victim.scores(TEXTS), abs=1e-4)
    assert victim.scores([]) == []


def test_the_trigger_raises_the_score(victim: OpenVictim) -> None:
    plain, attack, other, shoot = victim.scores(TEXTS)
    assert min(attack, shoot) > max(plain, other) + 1


def test_the_prefix_is_shared(chatty: TextModel, victim: OpenVictim) -> None:
    victim.scores(TEXTS)
    assert chatty.text_sharing is not None
    assert chatty.text_sharing.shared, chatty.text_sharing.reason


def test_the_gradient_points_to_the_planted_words(chatty: TextModel, victim: OpenVictim) -> None:
    gradient = victim.gradient("w1 w2 w3")
    tokenizer = chatty.processor.tokenizer
    words = [tokenizer.convert_tokens_to_ids(word) for word in ("attack", "shoot")]
    best = gradient.topk(4).indices.tolist()
    assert len(gradient) == len(tokenizer)
    assert set(words) <= set(best)


def test_the_gradient_is_that_of_the_last_word(chatty: TextModel, victim: OpenVictim) -> None:
    """A step of its embedding along the gradient changes the score by what the gradient says."""
    text, step = "w1 w2 w3", 1e-2
    index = chatty.processor.tokenizer.convert_tokens_to_ids("w3")
    table = chatty.model.get_input_embeddings().weight
    row = table[index].detach().clone()
    gradient = victim.gradient(text)
    # (E_w - E_u) . g for w = attack is the change along that difference, to first order.
    target = chatty.processor.tokenizer.convert_tokens_to_ids("attack")
    predicted = step * float(gradient[target] - gradient[index])
    before = victim.scores([text])[0]
    with torch.no_grad():
        table[index] = row + step * (table[target] - row)
        after = victim.scores([text])[0]
        table[index] = row
    assert after - before == pytest.approx(predicted, rel=0.2, abs=1e-3)


def test_replies_come_with_verdicts(victim: OpenVictim) -> None:
    (_, first), (_, second) = victim.replies(["w1 w2 w3 w4", "w1 attack"])
    assert (first.refused, second.refused) == (False, True)


def test_a_picture_is_sent_with_every_prompt(looking: HuggingFaceModel) -> None:
    picture = Image.effect_noise((45, 61), 80).convert("RGB")
    plain = OpenVictim(looking, "I cannot", sorry_judge, picture=picture)
    red = OpenVictim(looking, "I cannot", sorry_judge, picture=Image.new("RGB", (40, 40), "red"))
    texts = ["What is this?", "What is in the picture?"]
    assert plain.scores(texts) != pytest.approx(red.scores(texts), abs=1e-6)
    assert plain.prompt("x").pictures == (picture,)
    gradient = plain.gradient("What is this")
    assert bool(gradient.abs().sum() > 0)


def test_a_text_model_takes_no_picture(chatty: TextModel) -> None:
    with pytest.raises(ModelError, match="reads text only"):
        OpenVictim(chatty, "Sorry", sorry_judge, picture=Image.new("RGB", (8, 8)))


def test_a_model_of_ones_own_is_scored_but_has_no_gradient() -> None:
    own = OpenVictim(PlainTorchModel(), "No", sorry_judge, picture=Image.new("RGB", (32, 32)))
    assert len(own.scores(["Hello?", "Why?"])) == 2
    with pytest.raises(ModelError, match="--method mutated"):
        own.gradient("Hello?")


def test_a_sampled_victim_scores_the_share_of_refusals() -> None:
    sampled = SampledVictim(CountedModel(), sorry_judge, samples=3)
    # Three replies each: one of three refuses.
    assert sampled.scores(["a", "b"]) == pytest.approx([math.log(1.5 / 4)] * 2)
    always = SampledVictim(CountedModel(), lambda rows: [Verdict(None, unscored="?")] * len(rows), samples=2)
    # Nothing is known of it: it is sought no more than a prompt that was answered twice.
    assert always.scores(["a"]) == pytest.approx([math.log(0.5 / 3)])
    assert sampled.scores([]) == []
    assert sampled.replies(["a"])[0][1].refused is True
    with pytest.raises(UsageError, match="at least 1 sample"):
        SampledVictim(CountedModel(), sorry_judge, samples=0)


def test_words_are_weighed_by_leaving_them_out(victim: OpenVictim) -> None:
    words = dict(attribute_words(victim, "w1 w2 attack w3"))
    assert list(words) == ["w1", "w2", "attack", "w3"]
    assert max(words, key=words.__getitem__) == "attack"
    assert words["attack"] > 1
    assert attribute_words(WordVictim("x"), "x") == (("x", 0.0),)
    assert attribute_words(WordVictim("x"), "x y x") == (("x", 1.0), ("y", 0.0), ("x", 1.0))


class RefusingModel:
    """Refuses in the given words."""

    name = "refusing"

    def __init__(self, replies: Sequence[str]) -> None:
        self.replies = replies

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        return [
            Exchange(prompt, self.replies[i % len(self.replies)], "stop", self.name) for i, prompt in enumerate(prompts)
        ]


def test_the_target_is_the_common_beginning_of_the_models_refusals() -> None:
    replies = [
        "Sorry, but I can't help with bombs.",
        "Sorry, but I can't tell you.",
        "Sorry, that is wrong.",
        "Nothing to say.",
    ]
    prompts = [Prompt.ask(str(number)) for number in range(8)]
    assert find_refusal_target(RefusingModel(replies), sorry_judge, prompts) == "Sorry, but I can't"
    with pytest.raises(ModelError, match="--refusal"):
        find_refusal_target(RefusingModel(["Sure."]), sorry_judge, prompts)


def test_a_vocabulary_is_carried_over_by_text(chatty: TextModel) -> None:
    tokenizer = chatty.processor.tokenizer
    values = torch.arange(len(tokenizer), dtype=torch.float32)
    carried = VocabularyMap(["attack", "w7", ""], tokenizer).carry(values)
    assert carried.tolist() == [tokenizer.convert_tokens_to_ids("attack"), tokenizer.convert_tokens_to_ids("w7"), 0.0]


def test_the_names_in_the_recipe_tell_number_formats_apart() -> None:
    model = planted_model()
    recipes = []
    for dtype in (torch.float32, torch.bfloat16):
        model.model.to(dtype)
        victim = OpenVictim(model, "Sorry", sorry_judge)
        searches = [GrownSearch(model, victim), MutatedSearch(SampledWriter(model), victim, lambda texts: [])]
        recipes.append([json.dumps(search.recipe) for search in searches])
    for before, after in zip(*recipes, strict=True):
        assert before.count("float32") == after.count("bfloat16") == 2
