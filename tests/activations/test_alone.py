import random

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.activations._alone import run_alone
from sktransfer.backbones import load_backbone


class Impure(nn.Module):
    """Draws, counts and looks at its batch."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.calls = 0

    def forward(self, x):
        self.count += 1
        self.calls += 1
        drawn = random.random() + np.random.rand() + torch.rand(())  # noqa: NPY002
        return x * drawn + self.count + self.calls + len(x) + x.mean()


@pytest.mark.filterwarnings("ignore:Samples go through Sequential one at a time")
def test_samples_alone_are_what_they_are_in_company():
    backbone = load_backbone(nn.Sequential(nn.Linear(3, 3), Impure(), nn.Linear(3, 2)))
    section = backbone.section("input", "output").freeze()
    x = torch.randn(5, 3)
    whole = run_alone(section, x, section)
    parts = [run_alone(section, row, section) for row in x.split([2, 3])]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole.flip(0), run_alone(section, x.flip(0), section))
    assert backbone.module[1].calls == backbone.module[1].count == 0


@pytest.mark.filterwarnings("ignore:Samples go through Sequential one at a time")
def test_state_of_what_holds_a_section_is_put_back():
    backbone = load_backbone(nn.Sequential(nn.Linear(3, 3), Impure(), nn.Linear(3, 2)))
    network = nn.Sequential(backbone.section("0", "output").freeze(), nn.Flatten())
    x = torch.randn(2, 3)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    run_alone(network, x, network)
    assert backbone.module[1].calls == 0
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == state[1:]  # noqa: NPY002
