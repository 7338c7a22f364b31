from __future__ import annotations

from pathlib import Path

import pytest
import torch

from equipoise.countermeasures.catalogue import defend, parse
from equipoise.countermeasures.steered_model import SteeredModel
from equipoise.errors import ModelError, UsageError
from equipoise.models.load import load
from equipoise.models.text_model import TextModel
from equipoise.steering.conditional import ConditionalAddition, HarmCondition
from equipoise.steering.direction import Direction
from equipoise.steering.interventions import Ablation, Addition
from equipoise.types import Prompt
from tests.models.tiny_plain import PlainTorchModel
from tests.steering.planted import planted_directions, planted_model
from tests.steering.towers import picture_model

HARMFUL, SUSPICIOUS, HARMLESS = (Prompt.ask(f"w1 {word} w2 w3") for word in ("attack", "shoot", "w4"))


@pytest.fixture(scope="module")
def model() -> TextModel:
    return planted_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("directions")
    harm, suspicion = planted_directions()
    settings = {"layer": 2, "position": -1, "model": "planted", "revision": "planted-0"}
    refusal = Direction(6 * harm, kind="refusal", **settings)
    refusal.save(folder / "refusal.safetensors")
    Direction(suspicion, kind="false-refusal", **settings).save(folder / "surgical.safetensors")
    condition = HarmCondition(harm, 0.0, 1, 0.5, "difference")
    ConditionalAddition(condition, refusal).save(folder / "conditional.safetensors")
    return folder


def replies(model) -> list[str]:
    return [e.reply for e in model.generate([HARMFUL, SUSPICIOUS, HARMLESS], max_new_tokens=2)]


def test_every_mitigation_does_what_its_name_says(model: TextModel, folder: Path) -> None:
    assert replies(model) == ["Sorry", "Sorry", "Sure"]
    surgical = defend(model, [f"surgical:{folder}/surgical.safetensors"])
    assert replies(surgical) == ["Sorry", "Sure", "Sure"]
    ablated = defend(model, [f"steer:{folder}/refusal.safetensors,ablate"])
    assert replies(ablated)[0] == "Sure"
    added = defend(model, [f"steer:{folder}/refusal.safetensors,add,1.5"])
    assert replies(added)[2].startswith("Sorry")
    conditional = defend(model, [f"conditional:{folder}/conditional.safetensors"])
    assert [reply.startswith("Sorry") for reply in replies(conditional)] == [True, True, False]
    assert replies(model) == ["Sorry", "Sorry", "Sure"], "the model itself was changed"


def test_a_steered_model_scores_replies_as_it_writes_them(model: TextModel, folder: Path) -> None:
    ablated = defend(model, [f"steer:{folder}/refusal.safetensors,ablate"])
    chances = ablated.log_prob(None, [HARMFUL] * 2, ["Sorry", "Sure"]).tokens[:, 0].exp()
    assert chances[0] < 0.1 < 0.9 < chances[1]


def test_settings_may_come_without_their_names() -> None:
    assert parse("steer:a.safetensors,ablate,0.5").values == {
        "file": "a.safetensors",
        "mode": "ablate",
        "coefficient": "0.5",
    }
    assert parse("steer:coefficient=2,a.safetensors").values["file"] == "a.safetensors"
    assert parse("surgical:file=b").values == {"file": "b", "coefficient": "1"}
    with pytest.raises(UsageError, match="as key=value"):
        parse("steer:a,add,1,2")
    with pytest.raises(UsageError, match="as key=value"):
        parse("noise:0.1")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("surgical:", "file of a direction"),
        ("surgical:{}/refusal.safetensors", "false-refusal vector"),
        ("conditional:{}/refusal.safetensors", "expected a condition"),
        ("steer:{}/refusal.safetensors,remove", "add or steer"),
        ("steer:{}/missing.safetensors,add", "direction find"),
        ("steer:{}/refusal.safetensors,add,nan", "a number for coefficient"),
    ],
)
def test_what_cannot_be_is_one_clear_error(model: TextModel, folder: Path, spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        defend(model, [spec.format(folder)])


def test_a_direction_of_another_model_is_refused_before_the_first_prompt(folder: Path) -> None:
    with pytest.raises(ModelError, match="direction find"):
        defend(planted_model(seed=1), [f"steer:{folder}/refusal.safetensors,ablate"])
    with pytest.raises(UsageError, match="of transformers"):
        defend(PlainTorchModel(), [f"steer:{folder}/refusal.safetensors,ablate"])


def test_the_revision_tells_interventions_apart(model: TextModel, folder: Path) -> None:
    specs = [
        "steer:{}/refusal.safetensors,add",
        "steer:{}/refusal.safetensors,ablate",
        "surgical:{}/surgical.safetensors",
    ]
    revisions = {defend(model, [spec.format(folder)]).revision for spec in specs}
    assert len(revisions) == 3
    assert defend(model, [f"steer:file={folder}/refusal.json,mode=add"]).revision in revisions


def test_gradients_in_the_pixels_flow_through_the_edit_and_prefixes_are_steered(tmp_path: Path) -> None:
    picture = picture_model("LLaVA-1.5", tmp_path)
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    direction = Direction(4 * vector, layer=1, position=-1, model=picture.name, revision=picture.revision)
    pixels = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(1))
    prompts = [Prompt.ask("What is this?"), Prompt.ask("Why is it here?")]
    steered = SteeredModel(picture, Addition(direction), "steer")

    losses, gradient = steered.loss_and_grad(pixels, prompts, ["No.", "Yes."])
    plain_losses, plain_gradient = picture.loss_and_grad(pixels, prompts, ["No.", "Yes."])
    with picture.plain_batches():
        alone, alone_gradient = steered.loss_and_grad(pixels, prompts, ["No.", "Yes."])

    assert not torch.allclose(losses, plain_losses, atol=1e-3)
    assert (gradient - plain_gradient).norm() > 1e-2 * plain_gradient.norm()
    torch.testing.assert_close(losses, alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradient, alone_gradient, atol=1e-5, rtol=1e-3)
    assert picture.sharing == "shared prefix"


PIXELS = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(1))
QUESTIONS = [Prompt.ask("What is this?"), Prompt.ask("Why is it here?")]


def random_direction(picture, seed: int, length: float = 4.0) -> Direction:
    vector = length * torch.randn(32, generator=torch.Generator().manual_seed(seed))
    return Direction(vector, layer=1, position=-1, model=picture.name, revision=picture.revision)


def gated(picture, threshold: float) -> SteeredModel:
    weight = torch.randn(32, generator=torch.Generator().manual_seed(7))
    condition = HarmCondition(weight, 0.0, 1, threshold, "probe")
    return SteeredModel(picture, ConditionalAddition(condition, random_direction(picture, 3)), "conditional")


def test_a_shut_gate_hides_no_gradient_from_an_attack(tmp_path: Path) -> None:
    """The loss of a shut gate is the plain one; its gradient also says how to open the gate."""
    picture = picture_model("LLaVA-1.5", tmp_path)
    shut = gated(picture, 1e9)

    losses, gradient = shut.loss_and_grad(PIXELS, QUESTIONS, ["No.", "Yes."])
    plain_losses, plain_gradient = picture.loss_and_grad(PIXELS, QUESTIONS, ["No.", "Yes."])

    torch.testing.assert_close(losses, plain_losses, atol=1e-4, rtol=1e-4)
    assert (gradient - plain_gradient).norm() > 1e-3 * plain_gradient.norm()


def test_the_gradient_of_a_gate_raises_the_score_where_steering_helps_the_attacker(tmp_path: Path) -> None:
    picture = picture_model("LLaVA-1.5", tmp_path)
    shut, opened = gated(picture, 1e9), gated(picture, -1e9)
    question, reply = QUESTIONS[:1], ["No."]
    helps = bool(opened.loss_and_grad(PIXELS, question, reply)[0] < shut.loss_and_grad(PIXELS, question, reply)[0])
    _, gradient = shut.loss_and_grad(PIXELS, question, reply)
    _, plain_gradient = picture.loss_and_grad(PIXELS, question, reply)
    # The part of the gradient that comes from the gate, followed downhill.
    step = (PIXELS - 0.05 * (gradient - plain_gradient).sign()).clamp(0, 1)

    def score(pixels: torch.Tensor) -> float:
        with shut.intervention.applied(shut.steerable) as gates, torch.no_grad():
            picture.log_prob(pixels, question, reply)
            return float(gates.scores[0])

    assert (score(step) > score(PIXELS)) is helps


@pytest.mark.parametrize("kind", ["surgical", "steer", "conditional"])
def test_an_attack_through_the_edit_lowers_the_loss_of_the_steered_model(tmp_path: Path, kind: str) -> None:
    """Adaptive: descent on the steered model's own gradient does more to it than descent on the plain model's."""
    picture = picture_model("LLaVA-1.5", tmp_path)
    models = {
        "surgical": SteeredModel(picture, Ablation(random_direction(picture, 4)), "surgical"),
        "steer": SteeredModel(picture, Addition(random_direction(picture, 5, 20.0)), "steer"),
        "conditional": gated(picture, -1e9),
    }
    target = models[kind]

    def descended(model) -> float:
        pixels = PIXELS.clone()
        for _ in range(8):
            _, gradient = model.loss_and_grad(pixels, QUESTIONS, ["No."] * 2)
            pixels = (pixels - 0.02 * gradient.sign()).clamp(0, 1)
        return float(target.loss_and_grad(pixels, QUESTIONS, ["No."] * 2)[0].sum())

    start = float(target.loss_and_grad(PIXELS, QUESTIONS, ["No."] * 2)[0].sum())
    adaptive = descended(target)
    assert adaptive < start
    assert adaptive <= descended(picture) + 1e-3


def test_the_gradient_of_a_gate_survives_checkpointing(tmp_path: Path) -> None:
    """The score comes from another layer than the one that it moves, and both are computed again going backwards."""
    plain = picture_model("LLaVA-1.5", tmp_path)
    saving = load(str(tmp_path), device="cpu", gradient_checkpointing=True)
    condition = HarmCondition(torch.randn(32, generator=torch.Generator().manual_seed(7)), 0.0, 0, 1e9, "probe")
    gradients = []
    for model in (plain, saving):
        steered = SteeredModel(model, ConditionalAddition(condition, random_direction(model, 3)), "conditional")
        gradients.append(steered.loss_and_grad(PIXELS, QUESTIONS, ["No.", "Yes."])[1])
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-3)
    assert (gradients[0] - plain.loss_and_grad(PIXELS, QUESTIONS, ["No.", "Yes."])[1]).norm() > 0
