import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from torch import nn

from sktransfer import (
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    config_context,
)
from sktransfer.backbones import load_backbone, model_card
from sktransfer.inputs import ImagePreprocessing, VectorPreprocessing

IMAGES = np.random.RandomState(0).randint(0, 256, (6, 16, 16, 3), dtype=np.uint8)
TABLE = np.random.RandomState(0).rand(6, 5)


def make_vector_network():
    return nn.Sequential(nn.LazyLinear(4), nn.ReLU())


@pytest.fixture
def image_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())


@pytest.fixture
def image_backbone(image_network):
    preprocessing = ImagePreprocessing(
        size=(16, 16), resize=16, interpolation="bilinear", mean=(0,) * 3, std=(1,) * 3
    )
    return load_backbone(image_network, preprocessing=preprocessing)


def test_tags_of_images():
    tags = get_tags(FineTunedClassifier()).input_tags
    assert tags.three_d_array and tags.string and not tags.two_d_array
    tags = get_tags(FineTunedClassifier(image_shape=(4, 4))).input_tags
    assert tags.three_d_array and tags.two_d_array


def test_tags_of_vectors():
    tags = get_tags(FineTunedClassifier(make_vector_network())).input_tags
    assert tags.two_d_array and not tags.three_d_array and not tags.string


def test_table_is_checked_by_sklearn():
    extractor = PretrainedFeatureExtractor(make_vector_network).fit(TABLE)
    assert extractor.n_features_in_ == 5
    assert isinstance(extractor.preprocessing_, VectorPreprocessing)
    assert extractor.value_range_ is None
    with pytest.raises(ValueError, match="X has 4 features, but Pretrained"):
        extractor.transform(TABLE[:, :4])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        extractor.transform(np.full((1, 5), np.nan))


def test_feature_names_are_checked():
    frame = pd.DataFrame(TABLE, columns=list("abcde"))
    extractor = PretrainedFeatureExtractor(make_vector_network).fit(frame)
    assert extractor.feature_names_in_.tolist() == list("abcde")
    with pytest.raises(ValueError, match="feature names should match"):
        extractor.transform(frame.rename(columns={"a": "z"}))


def test_flat_rows_of_images_keep_their_number_of_columns(image_backbone):
    extractor = PretrainedFeatureExtractor(image_backbone, image_shape=(16, 16, 3))
    flat = IMAGES.reshape(6, -1)
    features = extractor.fit_transform(flat)
    assert extractor.n_features_in_ == 768
    np.testing.assert_array_equal(
        features, PretrainedFeatureExtractor(image_backbone).fit_transform(IMAGES)
    )
    with pytest.raises(ValueError, match="X has 10 features"):
        extractor.transform(flat[:, :10])


def test_images_of_any_kind_give_the_same_features(image_backbone):
    extractor = PretrainedFeatureExtractor(image_backbone).fit(IMAGES)
    expected = extractor.transform([Image.fromarray(image) for image in IMAGES])
    for axes in ((0, 1, 2, 3), (0, 3, 1, 2)):
        for kind in (np.asarray, torch.tensor, list):
            features = extractor.transform(kind(IMAGES.transpose(axes)))
            np.testing.assert_array_equal(features, expected)


def test_value_range_of_fit_is_used_in_transform(image_backbone):
    extractor = PretrainedFeatureExtractor(image_backbone)
    features = extractor.fit(IMAGES / 255).transform(IMAGES / 255)
    assert extractor.value_range_ == (0.0, 1.0)
    dark = (IMAGES / 255).round()[:1] * 0
    both = np.concatenate([IMAGES[1:] / 255, dark])
    np.testing.assert_array_equal(extractor.transform(both)[:-1], features[1:])


def test_backbone_parameter_is_never_changed(image_backbone):
    model = FineTunedClassifier(image_backbone, freeze="none", max_epochs=1, lr=0.1)
    before = {k: v.clone() for k, v in image_backbone.module.state_dict().items()}
    model.fit(IMAGES, [0, 1] * 3)
    assert model.backbone is image_backbone
    assert model.backbone_ is not image_backbone
    for name, value in image_backbone.module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.requires_grad for p in image_backbone.module.parameters())
    trained = model.backbone_.module.state_dict()
    assert not all(torch.equal(trained[name], before[name]) for name in before)


def test_random_weights_depend_on_random_state():
    features = [
        PretrainedFeatureExtractor(make_vector_network, random_state=seed)
        .fit_transform(TABLE)
        .tolist()
        for seed in (0, 0, 1)
    ]
    assert features[0] == features[1] != features[2]


def test_fit_touches_no_global_generator():
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    PretrainedFeatureExtractor(make_vector_network).fit(TABLE)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    same = np.random.get_state()[1] == numpy_state  # noqa: NPY002
    assert same.all()


def test_image_network_given_as_a_module_warns(image_network):
    extractor = PretrainedFeatureExtractor(image_network, image_size=16)
    with pytest.warns(UserWarning, match="does not say which preprocessing"):
        extractor.fit(IMAGES)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 4},
        {"batch_size": 0},
        {"value_range": "wide"},
        {"device": 3},
    ],
)
def test_parameters_are_validated(changes):
    (name,) = changes
    for estimator in (PretrainedFeatureExtractor(), FineTunedClassifier()):
        with pytest.raises(ValueError, match=f"The '{name}' parameter of"):
            clone(estimator).set_params(**changes).fit(IMAGES, [0, 1] * 3)


def test_unknown_device():
    extractor = PretrainedFeatureExtractor(make_vector_network, device="gpu")
    with pytest.raises(ValueError, match="`device` must be 'auto', 'acc"):
        extractor.fit(TABLE).transform(TABLE)


def test_unknown_backbone():
    extractor = PretrainedFeatureExtractor("efficientnet_lite9")
    with pytest.raises(ValueError, match="no backbone 'efficientnet_lite9'"):
        extractor.fit(IMAGES)
    with pytest.raises(TypeError, match="`backbone` must be a name, an nn.Module"):
        PretrainedFeatureExtractor(3).fit(IMAGES)


def test_model_card_of_a_fitted_estimator():
    X, y = load_digits(n_class=2, return_X_y=True)
    X, y = X.reshape(-1, 8, 8)[:20] / 16, y[:20]
    model = FineTunedClassifier(freeze="all", image_size=32).fit(X, y)
    card = model.model_card_
    assert (card.license, card.name) == ("apache-2.0", "efficientnet_lite0")
    trained = card.trained
    assert trained["strategy"] == "linear probe"
    assert (trained["samples"], trained["classes"]) == (20, ["0", "1"])
    assert (trained["freeze_depth"], trained["outputs"]) == (9, 2)
    assert model_card(model) == card
    assert pickle.loads(pickle.dumps(model)).model_card_ == card
    with config_context(slim_pickles=True):
        assert pickle.loads(pickle.dumps(model)).model_card_ == card


def test_model_card_of_features():
    X = load_digits().images[:2] / 16
    extractor = PretrainedFeatureExtractor(image_size=32, stage=[1, 4]).fit(X)
    trained = extractor.model_card_.trained
    assert trained["strategy"] == "features"
    assert trained["stages"] == ["stem", "blocks.2"]


def test_model_card_before_fit():
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        FineTunedClassifier().model_card_  # noqa: B018
