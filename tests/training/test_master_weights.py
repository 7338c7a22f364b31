"""Masters keep what bfloat16 rounds away."""

from __future__ import annotations

import torch
from torch import nn

from equipoise.training.master_weights import MasterWeights


def weight(value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.full((4,), value, dtype=torch.bfloat16))


def test_small_updates_add_up() -> None:
    learned = weight()
    masters = MasterWeights([learned])
    optimiser = torch.optim.SGD(masters.masters, lr=1e-3)
    for _ in range(20):
        learned.grad = torch.ones(4, dtype=torch.bfloat16) / 2
        masters.take_gradients(10.0)
        optimiser.step()
        masters.publish()
    # One step of 0.0005 is below the spacing of bfloat16 near 1, which is 0.004.
    assert torch.allclose(masters.masters[0], torch.full((4,), 0.99), atol=1e-5)
    assert learned.detach()[0].item() < 1.0


def test_gradients_move_and_their_norm_is_clipped() -> None:
    learned = weight()
    masters = MasterWeights([learned])
    learned.grad = torch.full((4,), 3.0, dtype=torch.bfloat16)
    masters.take_gradients(1.0)
    assert learned.grad is None
    assert masters.masters[0].grad is not None
    assert abs(float(masters.masters[0].grad.norm()) - 1.0) < 1e-4


def test_a_weight_without_gradient_is_left() -> None:
    masters = MasterWeights([weight(), weight()])
    masters.weights[0].grad = torch.ones(4, dtype=torch.bfloat16)
    masters.take_gradients(1.0)
    assert masters.masters[1].grad is None


def test_a_state_is_restored_to_the_bit_and_published() -> None:
    first = MasterWeights([weight()])
    with torch.no_grad():
        first.masters[0].fill_(1.2345678)
    second = MasterWeights([weight(0.0)])
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.masters[0], first.masters[0])
    assert torch.equal(second.weights[0], first.masters[0].to(torch.bfloat16))
