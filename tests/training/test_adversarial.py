"""Adversarial training: what learns, what is refused, what is left behind."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from equipoise.errors import ModelError, UsageError
from equipoise.judges.phrases import judge_reply
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.training import adversarial, inner_attack, kept_refusals
from equipoise.training.adversarial import AdversarialTrainingConfig, train
from equipoise.training.adversarial_examples import AdversarialExample, from_testbed
from equipoise.training.trainable_parts import part_of
from equipoise.types import Prompt
from tests.models.families.llava import llava_next
from tests.training.fakes import REFUSAL, KilledError, kill_at, noise, noted, tiny

TINY = AdversarialTrainingConfig(steps=3, pictures=3, questions=2, inner_steps=2, warmup=1, learning_rate=1e-3, side=32)


@pytest.fixture(autouse=True)
def _few_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_refusals, "CHECKED_QUESTIONS", 3)


def trained(folder: Path, out: Path, recipe: AdversarialTrainingConfig = TINY, **more: Any) -> dict[str, Tensor]:
    """Weights of the result, in full precision."""
    options: dict[str, Any] = {"source": "noise", "save_dtype": torch.float32, "checkpoint_every": 2} | more
    return load_file(train(tiny(folder), recipe, noise, out, **options) / "model.safetensors")


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("parts", [("vision",), ("projector", "language")])
def test_the_chosen_parts_alone_change(
    llava_folder: Path, tmp_path: Path, parts: tuple[str, ...], rank: int | None
) -> None:
    before = load_file(llava_folder / "model.safetensors")
    after = trained(llava_folder, tmp_path, replace(TINY, parts=parts, rank=rank))
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {part_of(name) for name in changed} == set(parts)
    if rank is None:
        # All but what has no gradient: LLaVA does not look at the last of the tower's two layers.
        assert len(changed) > 0.4 * sum(part_of(name) in parts for name in before)
    else:
        assert all(before[name].ndim == 2 for name in changed)
        assert "lm_head.weight" not in changed


@pytest.mark.parametrize("rank", [None, 2])
def test_a_killed_run_resumed_gives_the_same_weights(llava_folder: Path, tmp_path: Path, rank: int | None) -> None:
    recipe = replace(TINY, steps=4, rank=rank)
    with pytest.raises(KilledError):
        trained(llava_folder, tmp_path / "killed", recipe, progress=kill_at(3))
    one, other = (trained(llava_folder, tmp_path / name, recipe) for name in ("through", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_saved_can_be_loaded_and_asked(llava_folder: Path, tmp_path: Path) -> None:
    folder = train(tiny(llava_folder), replace(TINY, rank=2), noise, tmp_path, source="noise")
    assert folder == tmp_path / "model"
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    (reply,) = load(str(folder), device="cpu").generate(
        [Prompt.ask("What is it?", noise(np.random.default_rng(0)).picture)], max_new_tokens=4
    )
    assert reply.finish in ("stop", "length")


@pytest.mark.parametrize("rank", [None, 2])
def test_a_share_of_what_was_learned_lies_between_the_old_and_the_new(
    llava_folder: Path, tmp_path: Path, rank: int | None
) -> None:
    recipe = replace(TINY, rank=rank)
    old, new = load_file(llava_folder / "model.safetensors"), trained(llava_folder, tmp_path, recipe)
    # The same folder: nothing is trained again, the finished training is written with another share.
    half = trained(llava_folder, tmp_path, recipe, blend=0.5)
    for name, weight in half.items():
        torch.testing.assert_close(weight, (old[name].float() + new[name]) / 2, rtol=1e-4, atol=1e-6)
    with pytest.raises(UsageError, match=r"expected a share .*, got 0; try 1"):
        trained(llava_folder, tmp_path, recipe, blend=0.0)


def test_the_checkpoint_holds_the_whole_recipe(llava_folder: Path, tmp_path: Path) -> None:
    trained(llava_folder, tmp_path)
    recipe = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["recipe"]
    own = {"parts": ["vision", "projector"], "source": "noise", "model": tiny(llava_folder).revision}
    later = ("kept", "kept_steps")
    assert recipe == {name: value for name, value in vars(TINY).items() if name not in later} | own
    assert replace(TINY, kept=0.3).to_dict().keys() == vars(TINY).keys()
    with pytest.raises(UsageError, match="got another epsilon, source; try a new folder"):
        trained(llava_folder, tmp_path, replace(TINY, epsilon="4/255"), source="other")


def test_a_step_learns_the_replies(llava_folder: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    recipe = replace(TINY, steps=10, parts=("vision", "projector", "language"), learning_rate=1e-2)
    trained(llava_folder, tmp_path, recipe, progress=noted(losses))
    assert losses[-1] < 0.6 * losses[0]


def test_refusals_are_attacked_in_the_other_direction_and_learned(
    llava_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[int, float, list[str]]] = []
    original = inner_attack.InnerAttack.__call__

    def watched(self: inner_attack.InnerAttack, examples: Any, *given: Any) -> list[Tensor]:
        called.append((self.steps, self.untargeted, [reply for one in examples for _, reply in one.turns]))
        return original(self, examples, *given)

    monkeypatch.setattr(inner_attack.InnerAttack, "__call__", watched)
    recipe = replace(TINY, steps=1, pictures=4, attacked=0.5, kept=0.25, kept_steps=1, inner_steps=3)
    trained(llava_folder, tmp_path, recipe)
    (towards, share, replies), (away, kept_share, kept) = called
    assert (towards, share, len(replies)) == (3, TINY.untargeted, 4)
    assert (away, kept_share, kept) == (1, 1.0, [REFUSAL])
    traced = json.loads((tmp_path / "training.jsonl").read_text().splitlines()[-1])
    assert {"attacked", "kept", "clean"} <= traced.keys()
    assert traced["loss"] == pytest.approx((2 * traced["attacked"] + traced["kept"] + traced["clean"]) / 4, rel=1e-4)


def test_the_other_direction_changes_what_is_learned_and_nothing_without_its_share(
    llava_folder: Path, tmp_path: Path
) -> None:
    runs = {share: trained(llava_folder, tmp_path / str(share), replace(TINY, kept=share)) for share in (0.0, 0.3)}
    assert any(not torch.equal(runs[0.0][name], runs[0.3][name]) for name in runs[0.0])
    same = trained(llava_folder, tmp_path / "steps", replace(TINY, kept_steps=5))
    assert all(torch.equal(runs[0.0][name], same[name]) for name in same)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": 1.5}, "share of kept in 0..1, got 1.5"),
        ({"kept_steps": 0}, "kept_steps of at least 1, got 0"),
        ({"attacked": 0.6, "kept": 0.6}, "shares of attacked and kept that are at most 1 together"),
    ],
)
def test_shares_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(TINY, **changes)


def test_kept_refusals_need_examples_that_hold_one(
    llava_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adversarial, "sample_refused", lambda *given: [])
    monkeypatch.setattr(adversarial, "count_refusals", lambda *given: 0)
    monkeypatch.setattr(adversarial, "MOST_DRAWS", 3)

    def answers(rng: np.random.Generator) -> AdversarialExample:
        return AdversarialExample(noise(rng).picture, (("What?", "A red circle."),))

    with pytest.raises(UsageError, match="got 3 without any in a row"):
        train(tiny(llava_folder), replace(TINY, kept=0.3), answers, tmp_path, source="noise")


@pytest.mark.parametrize("attacked", [0.0, 1.0])
def test_all_or_none_of_the_pictures_may_be_attacked(llava_folder: Path, tmp_path: Path, attacked: float) -> None:
    trained(llava_folder, tmp_path, replace(TINY, steps=1, attacked=attacked))
    traced = (tmp_path / "training.jsonl").read_text()
    assert ("attacked" in traced, "clean" in traced) == (attacked == 1.0, attacked == 0.0)


def test_pictures_of_many_sizes_and_numbers_of_tiles_also_with_less_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llava_next(tmp_path / "next")
    recipe = replace(TINY, steps=2, side=None, pictures=5)
    losses: dict[bool, list[float]] = {False: [], True: []}
    recomputing: list[int] = []
    original = inner_attack.recomputed_activations

    def counted(model: nn.Module, **options: Any) -> AbstractContextManager[None]:
        recomputing.append(1)
        return original(model, **options)

    monkeypatch.setattr(inner_attack, "recomputed_activations", counted)
    for less in losses:
        model = tiny(tmp_path / "next", gradient_checkpointing=less)
        train(model, recipe, noise, tmp_path / str(less), source="noise", progress=noted(losses[less]))
        assert bool(recomputing) == less
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def test_examples_without_refusals_are_refused(llava_folder: Path, tmp_path: Path) -> None:
    def answers(rng: np.random.Generator) -> AdversarialExample:
        return AdversarialExample(noise(rng).picture, (("What?", "A red circle."),))

    with pytest.raises(UsageError, match=r"some examples whose answer is a refusal, got none, .*; try"):
        train(tiny(llava_folder), TINY, answers, tmp_path / "out", source="noise")
    assert not (tmp_path / "out").exists()


def test_a_run_that_takes_refusals_away_writes_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real forgetting: what is counted first is refused, what is learned afterwards are answers to everything."""
    monkeypatch.setattr(kept_refusals, "CHECKED_QUESTIONS", 4)
    forbidden = []
    for seed in range(60):
        example = from_testbed(np.random.default_rng([9, seed]))
        forbidden += [
            AdversarialExample(example.picture, (turn,))
            for turn in example.turns
            if judge_reply(*turn).refusal == "full"
        ][:1]
    drawn: list[int] = []

    def draw(rng: np.random.Generator) -> AdversarialExample:
        drawn.append(1)
        example = forbidden[int(rng.integers(len(forbidden)))]
        if len(drawn) <= 4:
            return example
        return AdversarialExample(example.picture, ((example.turns[0][0], "A red circle."),))

    recipe = AdversarialTrainingConfig(
        steps=5, pictures=4, attacked=0.0, warmup=1, learning_rate=2e-3, parts=("vision", "projector", "language")
    )
    model = load("testbed/llava", device="cpu")
    assert isinstance(model, HuggingFaceModel)
    with pytest.raises(ModelError, match=r"to go on refusing what it should .*so nothing is written; try"):
        train(model, recipe, draw, tmp_path, source="mine")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("before", "after", "written"), [(10, 9, True), (10, 8, False), (0, 0, True), (3, 5, True)])
def test_how_many_refusals_must_be_kept(
    llava_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int, written: bool
) -> None:
    counts = iter([before, after])
    monkeypatch.setattr(adversarial, "count_refusals", lambda model, exchanges: next(counts))
    if written:
        trained(llava_folder, tmp_path, replace(TINY, steps=1))
    else:
        with pytest.raises(ModelError, match=f"{before} of 3 questions before.*got {after} afterwards"):
            trained(llava_folder, tmp_path, replace(TINY, steps=1))
    assert (tmp_path / "model").exists() == written


@pytest.mark.parametrize("killed", [False, True])
def test_flags_modes_hooks_and_random_numbers_are_left_as_they_were(
    llava_folder: Path, tmp_path: Path, killed: bool
) -> None:
    model = tiny(llava_folder)
    model.model.lm_head.requires_grad_(False)
    flags = {name: weight.requires_grad for name, weight in model.model.named_parameters()}
    # transformers leaves hooks of its own with the first call.
    model.log_prob(torch.rand(3, 32, 32), [Prompt.ask("What?")], ["That."])
    hooks = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.model.modules()]
    random = torch.get_rng_state()
    try:
        train(model, TINY, noise, tmp_path, source="noise", progress=kill_at(2) if killed else None)
    except KilledError:
        assert killed
    assert {name: weight.requires_grad for name, weight in model.model.named_parameters()} == flags
    assert [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.model.modules()] == hooks
    assert not any(module.training or "forward" in vars(module) for module in model.model.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_mixed_precision_may_change_from_one_training_to_the_next(llava_folder: Path, tmp_path: Path) -> None:
    weights = [
        trained(llava_folder, tmp_path / name, replace(TINY, steps=1), mixed_precision=name) for name in ("no", "bf16")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("name", "message"), [("fp16", "a GPU for mixed precision fp16"), ("fine", "got 'fine'; try no")]
)
def test_mixed_precision_that_cannot_be(llava_folder: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trained(llava_folder, tmp_path, mixed_precision=name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "steps of at least 1, got 0"),
        ({"pictures": 0}, "pictures of at least 1"),
        ({"questions": 0}, "questions of at least 1"),
        ({"inner_steps": 0}, "inner_steps of at least 1"),
        ({"attacked": 1.1}, "share of attacked in 0..1, got 1.1"),
        ({"untargeted": float("nan")}, "share of untargeted"),
        ({"epsilon": "0"}, "epsilon above 0"),
        ({"epsilon": "2"}, "epsilon of at most 1"),
        ({"epsilon": "0.001"}, "at least 1/255"),
        ({"epsilon": "eight"}, "a number or a fraction"),
        ({"side": 0}, "side of at least 1"),
        ({"rank": 0}, "rank of at least 1"),
        ({"learning_rate": 0.0}, "learning rate above 0"),
        ({"learning_rate": float("nan")}, "learning rate above 0"),
        ({"parts": ()}, "expected parts of"),
        ({"parts": ("ears",)}, "got ears"),
    ],
)
def test_recipes_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"{message}.*; try "):
        AdversarialTrainingConfig(**given)
