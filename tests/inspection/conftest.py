"""A fitted estimator that several tests show, and figures that are closed."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
from sklearn.datasets import load_digits

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from tests._networks import SmallNetwork


@pytest.fixture(autouse=True)
def _leaves_no_trace():
    """Close figures, and check that no global setting of matplotlib changed."""
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    plt.close("all")


@pytest.fixture(scope="session")
def network():
    return SmallNetwork()


@pytest.fixture(scope="session")
def digits():
    data = load_digits()
    return data.images[:120] / 16, data.target[:120]


@pytest.fixture(scope="session")
def probe(network, digits):
    X, y = digits
    return FineTunedClassifier(network, freeze="all").fit(X[:60], y[:60])


@pytest.fixture(scope="session")
def extractor(network, digits):
    return PretrainedFeatureExtractor(network).fit(digits[0][:2])
