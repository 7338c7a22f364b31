"""Which weights Muon takes, and what one update does."""

from __future__ import annotations

import torch
from torch import nn

from equipoise.training.optimisers import muon_and_adamw, update


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4)])
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([nn.Linear(4, 4)])})
        self.head = nn.Linear(4, 2)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tower = Tower()


def test_muon_takes_the_matrices_of_the_layers_alone() -> None:
    tower = Model().tower
    model = Model()
    model.tower = tower
    tower.head.weight.requires_grad_(False)
    muon, adamw = muon_and_adamw(model, 0.1, 0.0)
    inner = {id(weight) for group in muon.param_groups for weight in group["params"]}
    assert inner == {id(tower.layers[0].weight), id(tower.encoder["layer"][0].weight)}
    outer = {id(weight) for group in adamw.param_groups for weight in group["params"]}
    assert outer == {id(weight) for weight in model.parameters() if weight.requires_grad} - inner


def test_an_update_cuts_gradients_to_a_norm_of_one_and_leaves_none() -> None:
    weight = nn.Parameter(torch.zeros(2))
    update((weight * torch.tensor([30.0, 40.0])).sum(), [weight], [torch.optim.SGD([weight], lr=1.0)])
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.6, -0.8]))
    assert weight.grad is None
