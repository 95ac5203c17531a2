"""What the updater promises beyond the contract."""

from __future__ import annotations

import torch
from taoke_schedulefree.options import AdamW as Options
from taoke_schedulefree.updater import AdamW


def test_the_average_is_what_is_left_inside_and_training_goes_on_outside() -> None:
    """On (w - 1)^2: the average of the weights is another point than that at which gradients are taken."""
    weight = torch.nn.Parameter(torch.tensor([3.0]))
    updater = AdamW(Options()).build([{"params": [weight], "lr": 0.1}])
    for _ in range(50):
        updater.zero_grad()
        (weight - 1).square().sum().backward()
        updater.step()
    between = weight.item()
    with updater.averaged():
        inside = weight.item()
    assert inside != between
    assert abs(weight.item() - between) < 1e-5
