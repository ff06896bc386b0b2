import numpy as np
import torch

from sktransfer.training import Probabilities

SCORES = torch.tensor([[2.0, -1.0, 0.5], [-3.0, -2.0, -2.5]])


def test_one_class_is_right():
    outputs = Probabilities()
    torch.testing.assert_close(outputs(SCORES), torch.softmax(SCORES, dim=1))
    assert outputs.decide(outputs(SCORES).numpy()).tolist() == [0, 1]


def test_labels_are_right_or_not():
    outputs = Probabilities(multilabel=True)
    torch.testing.assert_close(outputs(SCORES), torch.sigmoid(SCORES))
    decided = outputs.decide(outputs(SCORES).numpy())
    np.testing.assert_array_equal(decided, [[1, 0, 1], [0, 0, 0]])
