"""The space of refusals: its formulae on cases computed by hand, its components and its probes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from equipoise.errors import UsageError
from equipoise.prompts.refusal_space import (
    LinearProbe,
    RefusalSpace,
    SpaceData,
    accuracy,
    choose_components,
    fit_paper_probe,
    fit_probe,
    fit_space,
)

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def hand_space(scale: float = 1.0) -> RefusalSpace:
    """m = 2 of 4 coordinates; f_r = 2 g_1 + 1, f_h = -g_1 + 3 g_2."""
    return RefusalSpace(
        {"text": torch.tensor([1.0, 0.0, 0.0, 0.0]).double()},
        torch.eye(4)[:, :2].double(),
        torch.full((2,), scale).double(),
        LinearProbe(torch.tensor([2.0, 0.0]).double(), 1.0),
        LinearProbe(torch.tensor([-1.0, 3.0]).double(), 0.0),
    )


def test_the_loss_is_that_of_the_paper_on_a_case_computed_by_hand() -> None:
    # h - h0 = (0.5, -0.2, 2, 0) for a harmless request and (-1, 0, 0, 4) for a harmful one.
    states = torch.tensor([[1.5, 0.8, 3.0, 1.0], [4.0, 2.0, 0.0, 7.0]])
    anchors = torch.tensor([[1.0, 1.0, 1.0, 1.0], [5.0, 2.0, 0.0, 3.0]])
    loss = hand_space().loss(
        states, anchors, torch.tensor([1.0, 0.0]), ["text", "text"], harm_weight=0.01, rest_weight=0.001
    )
    # f_r moves by 2 * 0.5 = 1 and by 2 * -1 = -2; biases and means cancel.
    refusal = (-math.log(sigmoid(1.0)) - math.log(1 - sigmoid(-2.0))) / 2
    # f_h moves by -0.5 - 0.6 = -1.1 and by 1.
    harm = (-math.log(sigmoid(-1.1)) - math.log(1 - sigmoid(1.0))) / 2
    # The other two coordinates: (4 + 0 + 0 + 16) / (2 rows * 2 coordinates).
    rest = 20 / 4
    assert float(loss["refusal"]) == pytest.approx(refusal, rel=1e-5)
    assert float(loss["harm"]) == pytest.approx(harm, rel=1e-5)
    assert float(loss["rest"]) == pytest.approx(rest, rel=1e-5)
    assert float(loss["total"]) == pytest.approx(refusal + 0.01 * harm + 0.001 * rest, rel=1e-5)


def test_the_loss_at_the_text_itself_is_log_two_and_no_rest() -> None:
    states = torch.randn(3, 4)
    loss = hand_space().loss(states, states, torch.tensor([1.0, 0.0, 1.0]), ["text"] * 3, harm_weight=1, rest_weight=1)
    assert float(loss["refusal"]) == pytest.approx(math.log(2))
    assert float(loss["harm"]) == pytest.approx(math.log(2))
    assert float(loss["rest"]) == 0


def test_a_scale_divides_the_components_and_leaves_the_rest() -> None:
    states, anchors = torch.randn(5, 4), torch.randn(5, 4)
    one, two = hand_space(), hand_space(2.0)
    assert torch.allclose(one.components(states, ["text"] * 5), 2 * two.components(states, ["text"] * 5))
    assert torch.equal(one.rest_distance(states, anchors), two.rest_distance(states, anchors))


def test_the_rest_is_that_of_any_completing_basis() -> None:
    random = torch.Generator().manual_seed(0)
    orthonormal, _ = torch.linalg.qr(torch.randn(6, 6, generator=random).double())
    space = RefusalSpace(
        {"text": torch.zeros(6)}, orthonormal[:, :2], torch.ones(2), *[LinearProbe(torch.ones(2), 0.0)] * 2
    )
    states, anchors = torch.randn(4, 6, generator=random).double(), torch.randn(4, 6, generator=random).double()
    coordinates = (states - anchors) @ orthonormal[:, 2:]
    assert torch.allclose(space.rest_distance(states, anchors), coordinates.square().mean())


def test_the_rest_keeps_its_precision_where_the_space_holds_nearly_all() -> None:
    states = torch.tensor([[1e4, 0.0, 1e-3, 0.0]])
    assert float(hand_space().rest_distance(states, torch.zeros(1, 4))) == pytest.approx(1e-6 / 2, rel=1e-4)


def planted(count: int = 40, width: int = 8, *, gap: float = 4.0, seed: int = 0) -> SpaceData:
    """Requests whose harm is coordinate 0 and whose compliance is coordinate 1, with a picture in every second one."""
    random = torch.Generator().manual_seed(seed)
    states = 0.3 * torch.randn(count, width, generator=random)
    harmless = (torch.arange(count) % 4 < 2).float()
    comply = (torch.arange(count) % 3 > 0).float()
    states[:, 0] += gap * (harmless - 0.5)
    states[:, 1] += gap * (comply - 0.5)
    pictured = torch.arange(count) % 2 == 1
    states[pictured, 2] += 30.0
    modalities = tuple("picture" if flag else "text" for flag in pictured.tolist())
    return SpaceData(states, modalities, comply, harmless, tuple(range(count)))


def test_that_there_is_a_picture_is_no_component_where_modalities_are_centred() -> None:
    data = planted()
    centred = fit_space(data, 2)
    assert float(centred.basis[2].abs().max()) < 0.1
    assert float(centred.basis[:2].square().sum()) == pytest.approx(2.0, abs=0.05)
    together = fit_space(data, 1, by_modality=False)
    assert float(together.basis[2].abs()) > 0.99
    components = centred.components(data.states.double(), data.modalities)
    assert accuracy(centred.compliance, components, data.comply) == 1.0
    assert accuracy(centred.harmlessness, components, data.harmless) == 1.0


def test_components_are_orthonormal_standardised_and_by_falling_variance() -> None:
    space = fit_space(planted(), 4)
    assert torch.allclose(space.basis.T @ space.basis, torch.eye(4).double(), atol=1e-9)
    data = planted()
    assert torch.allclose(space.components(data.states.double(), data.modalities).std(0), torch.ones(4).double())
    assert list(space.explained) == sorted(space.explained, reverse=True)
    assert sum(space.explained) <= 1
    raw = fit_space(data, 4, standardise=False)
    assert torch.equal(raw.scale, torch.ones(4).double())


def test_cross_validation_takes_as_many_components_as_hold_something() -> None:
    count, losses = choose_components(planted(count=80), (1, 2, 6))
    assert count == 2
    assert losses[1] > 2 * losses[2]
    assert choose_components(planted(count=80), (1, 2, 6))[1] == losses


def test_a_request_is_never_on_both_sides_of_a_fold() -> None:
    data = planted(count=40, gap=0.0)
    random = torch.Generator().manual_seed(3)
    # Each request under four prompts, all but equal: whoever sees one of them knows the labels of the others.
    states = torch.cat([data.states + 1e-3 * torch.randn(data.states.shape, generator=random) for _ in range(4)])
    labels = torch.randint(0, 2, (40,), generator=random).float()
    copies = SpaceData(states, data.modalities * 4, labels.repeat(4), labels.repeat(4), data.requests * 4)
    _, losses = choose_components(copies, (6,))
    assert losses[6] > 2 * math.log(2) * 0.95, "random labels of unseen requests were predicted"


class TestProbes:
    def data(self, scale: float) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(1)
        labels = (torch.arange(200) % 2).float()
        features = torch.randn(200, 4, generator=random)
        features[:, 0] += 2.5 * (labels - 0.5) * 2
        return features * scale, labels

    @pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
    def test_the_solver_reaches_the_optimum_at_every_scale_of_standardised_components(self, scale: float) -> None:
        features, labels = self.data(scale)
        probe = fit_probe(features / features.std(0), labels)
        assert accuracy(probe, features / features.std(0), labels) > 0.98

    def test_it_is_the_minimum_of_the_stated_loss(self) -> None:
        features, labels = self.data(1.0)
        features, labels = features.double(), labels.double()

        def value(weight: Tensor, bias: float) -> float:
            loss = functional.binary_cross_entropy_with_logits(features @ weight + bias, labels)
            return float(loss + 0.005 * weight.square().sum())

        probe = fit_probe(features, labels)
        best = value(probe.weight, probe.bias)
        for index in range(4):
            for step in (-1e-2, 1e-2):
                moved = probe.weight.clone()
                moved[index] += step
                assert value(moved, probe.bias) > best
        assert value(probe.weight, probe.bias + 1e-2) > best < value(probe.weight, probe.bias - 1e-2)

    def test_soft_labels_are_met_on_average(self) -> None:
        labels = torch.tensor([0.2, 0.4, 0.9, 0.5])
        probe = fit_probe(torch.zeros(4, 1), labels)
        assert sigmoid(probe.bias) == pytest.approx(0.5, abs=1e-6)

    def test_the_papers_probe_stops_early_on_small_components_and_not_on_large_ones(self) -> None:
        features, labels = self.data(1.0)
        large = fit_paper_probe(features * 3, labels, folds=2)
        assert accuracy(large, features * 3, labels) > 0.95
        small = fit_paper_probe(features * 0.05, labels, folds=2)
        assert float(small.weight.norm()) < 0.6 * float(fit_probe(features / features.std(0), labels).weight.norm())
        assert fit_paper_probe(features * 0.05, labels, folds=2).weight.equal(small.weight)


@pytest.mark.parametrize(
    ("change", "count"),
    [({"comply": torch.ones(40)}, 2), ({"harmless": torch.zeros(40)}, 2), ({}, 0), ({}, 8), ({}, 40)],
)
def test_a_space_that_cannot_be_is_one_clear_error(change: dict[str, Tensor], count: int) -> None:
    data = planted()
    values = {**vars(data), **change}
    with pytest.raises(UsageError, match=LINE):
        fit_space(SpaceData(**values), count)


def test_too_few_anchors_for_folds_are_one_clear_error() -> None:
    data = planted(count=40)
    few = data.rows([0, 3])
    with pytest.raises(UsageError, match=LINE):
        choose_components(few)
