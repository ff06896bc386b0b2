import numpy as np
import pytest
import torch

from sktransfer import PretrainedFeatureExtractor
from sktransfer.activations import forward_sizes, process_store
from sktransfer.backbones import load_backbone
from tests._transformers import make_texts, save_network

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Return a tiny BERT."""
    return load_backbone(save_network(tmp_path_factory.mktemp("bert")))


def test_positions_of_texts_are_limited_on_a_cpu(bert):
    sizes = forward_sizes(bert, "auto", CPU)
    assert sizes == {"batch_size": 16, "most_positions": 256}


@pytest.mark.parametrize(
    ("batch_size", "device"), [(5, CPU), ("auto", torch.device("cuda"))], ids=str
)
def test_positions_are_not_limited(bert, batch_size, device):
    assert forward_sizes(bert, batch_size, device)["most_positions"] is None


def test_positions_of_images_are_not_limited():
    backbone = load_backbone("efficientnet_lite0", weights=None)
    assert forward_sizes(backbone, "auto", CPU)["most_positions"] is None


def test_features_of_a_text_are_the_same_beside_any_others(bert):
    texts = make_texts(40)[0]
    extractor = PretrainedFeatureExtractor(bert).fit(texts)
    together = extractor.transform(texts)
    process_store().clear()
    alone = [extractor.transform([text])[0] for text in texts[:5]]
    np.testing.assert_array_equal(alone, together[:5])
