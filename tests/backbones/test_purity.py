import copy
import random
from dataclasses import make_dataclass

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.backbones._boundaries import tensors_in
from sktransfer.backbones._purity import is_near, run_once


class Layers(nn.Module):
    """Three linear layers; a function changes the input."""

    def __init__(self, change):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.calls = 0
        self.register_buffer("seen", torch.zeros(()))
        self.random = np.random.default_rng(0)
        self.change = change

    def forward(self, x):
        return self.c(self.b(self.a(self.change(self, x))))


def backbone_of(change):
    return load_backbone(Layers(change), random_state=0)


def counts(network, x):
    network.calls += 1
    return x


def counts_in_buffer(network, x):
    network.seen += 1
    return x + network.seen


def draws(network, x):
    return x + torch.randn_like(x)


def draws_from_its_own(network, x):
    return x + network.random.random()


def normalises_by_batch(network, x):
    return x / x.norm()


def looks_for_constant_rows(network, x):
    """Give another output if rows are constant, like padding."""
    return x * (2 * (x.var(1).amin() > 1e-6) - 1)


def remembers_the_first(network, x):
    if not network.calls:
        network.calls = 1
        network.first = x.mean()
    return x + network.first


IMPURITIES = {
    counts: "a forward pass changes its attribute 'calls'",
    counts_in_buffer: "a forward pass changes its buffer 'seen'",
    draws: "it draws from the generator of torch",
    draws_from_its_own: "a forward pass changes its attribute 'random'",
    normalises_by_batch: "what it makes of a sample depends on the other samples of",
    looks_for_constant_rows: "what it makes of a sample depends on the other samples",
    remembers_the_first: "what it makes of a sample depends on the samples before it",
}


@pytest.mark.filterwarnings("ignore:Layers is a single stage")
@pytest.mark.parametrize(("change", "reason"), IMPURITIES.items())
def test_impurity_is_found_and_raises_one_warning(change, reason):
    backbone = backbone_of(change)
    text = (
        "^Samples go through Layers one at a time, and none of its activations are "
        f"stored: {reason}"
    )
    with pytest.warns(UserWarning, match=text) as warned:
        assert backbone.impurity.startswith(reason)
    assert len([w for w in warned if "one at a time" in str(w.message)]) == 1
    assert copy.deepcopy(backbone).impurity == backbone.impurity
    assert backbone.network.calls == 0
    assert backbone.network.seen == 0


@pytest.mark.parametrize(
    ("draw", "library"),
    [(np.random.rand, "numpy.random"), (random.random, "random")],
    ids=["numpy", "python"],
)
@pytest.mark.filterwarnings("ignore:Layers cannot be traced")
def test_draws_of_other_libraries(draw, library):
    backbone = backbone_of(lambda network, x: x + draw())
    with pytest.warns(UserWarning, match=f"it draws from the generator of {library}"):
        assert backbone.stage_names == ["network"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "change",
    [
        lambda network, x: setattr(network, "last", x) or x,
        lambda network, x: x.mul_(2),
        lambda network, x: 2 * x if torch.is_grad_enabled() else x,
    ],
    ids=["keeps", "overwrites", "gradients"],
)
def test_pure_network_raises_no_warning(change):
    backbone = backbone_of(change)
    assert backbone.impurity is None
    assert backbone.stage_names == ["a", "b", "c"]


class Fives(nn.Linear):
    def forward(self, x):
        if len(x) == 5:
            raise ValueError("no five of them")
        return super().forward(x)


def test_network_that_cannot_be_run_on_the_drawn_inputs():
    backbone = load_backbone(nn.Sequential(Fives(3, 3), nn.Linear(3, 2)))
    text = "it cannot be run on 5 samples at once \\(ValueError: no five of them\\)"
    with pytest.warns(UserWarning, match=text):
        assert backbone.stage_names == ["0", "1"]


class LooksUp(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.a = nn.Embedding(1, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.a(self.table(x.long()).mean(1))


@pytest.mark.filterwarnings("error")
def test_network_that_takes_indices():
    assert load_backbone(LooksUp(), n_features=4).impurity is None


def test_find_impurity_changes_nothing():
    module = Layers(draws_from_its_own).eval()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    backbone = load_backbone(module)
    with pytest.warns(UserWarning, match="one at a time"):
        backbone.stages  # noqa: B018
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1][1])  # noqa: NPY002
    assert random.getstate() == states[2]
    assert backbone.network.random.random() == np.random.default_rng(0).random()


def test_run_once_takes_the_first_input_that_the_network_accepts():
    assert run_once(nn.Linear(3, 2), torch.zeros(5, 3)).x.min() < 0
    assert run_once(LooksUp(), torch.zeros(5, 4)).x.min() >= 0
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run_once(nn.Linear(3, 2), torch.zeros(5, 4))


@pytest.mark.parametrize(("n_calls", "found"), [(2, []), (9, ["random"])])
def test_a_network_draws_if_it_does_so_in_every_run(n_calls, found):
    calls = [random.random] * n_calls  # of another thread, if they are few

    class Beside(nn.Linear):
        def forward(self, x):
            if calls:
                calls.pop()()
            return super().forward(x)

    assert run_once(Beside(3, 2), torch.zeros(5, 3)).drawn == found


def test_tensors_in_containers():
    a, b, c = torch.zeros(3).split(1)
    pair = make_dataclass("Pair", ["x", "y"])
    assert tensors_in({"k": [a, (b, None)], "p": pair(c, 1)}) == [a, b, c]


def test_is_near():
    one, nan = torch.ones(2), torch.tensor([1.0, float("nan")])
    assert is_near([one], [one + 1e-6], 1e-5)
    assert not is_near([one], [one + 1e-4], 1e-5)
    assert is_near([nan], [nan], 1e-5) and not is_near([one], [nan], 1e-5)
    assert not is_near([one], [], 1e-5)
