import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.adaptation import centroid_labels, information_loss
from sktransfer.adaptation._shot import (
    CentroidLabels,
    shot_objective,
    weighted_cross_entropy,
)
from sktransfer.training import (
    Data,
    Network,
    Recipe,
    Seen,
    cross_entropy,
    train,
)

GENERATOR = torch.Generator().manual_seed(0)
Z = torch.randn(30, 5, generator=GENERATOR)
SCORES = torch.randn(6, 3, generator=GENERATOR)
Y = torch.arange(6) % 3


def make_network():
    torch.manual_seed(0)
    return Network(nn.Linear(5, 4), nn.Identity(), nn.Linear(4, 3))


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_pseudo_labels_count_as_in_the_paper(weight):
    found = weighted_cross_entropy(weight)(SCORES, Y)
    torch.testing.assert_close(found, 0.3 * weight * cross_entropy(SCORES, Y))


def test_information_is_minimised_besides():
    added = shot_objective(2.0).function(Seen(None, SCORES), None, 0.0)
    torch.testing.assert_close(added, information_loss(SCORES))
    assert shot_objective(2.0).weight == 2.0
    assert shot_objective(2.0).draw(4, 0) is None


def test_labels_are_made_anew_before_each_epoch():
    network, labels, seen = make_network(), torch.full((30,), 2), []
    with torch.no_grad():
        expected = centroid_labels(network.describe(Z), network(Z))

    class Look(CentroidLabels):
        def on_epoch_begin(self, net, **kwargs):
            super().on_epoch_begin(net)
            seen.append(self.labels.clone())

    train(
        network,
        Data(Z, labels, np.ones(30)),
        loss=weighted_cross_entropy(1.0),
        recipe=Recipe(max_epochs=3, lr=0.1, batch_size=10),
        device=torch.device("cpu"),
        seed=0,
        objective=shot_objective(1.0),
        callbacks=[look := Look(Z, labels, 10)],
    )
    assert look.activations is None
    assert len(seen) == 3 and torch.equal(seen[0], expected)
    assert not torch.equal(seen[0], seen[2])
    assert torch.equal(labels, seen[2])
