import copy

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timm.models.vision_transformer import VisionTransformer

from sktransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
)
from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing
from sktransfer.inspection import explain
from sktransfer.inspection._differentiable import Differentiable
from sktransfer.inspection._unwrap import read

SIDE, PATCH = 32, 8


def planted(n, seed):
    """Return images of noise with a red or a blue patch, classes and its corners."""
    rng = np.random.default_rng(seed)
    X = rng.integers(60, 190, (n, SIDE, SIDE, 1), dtype=np.uint8).repeat(3, axis=3)
    y, corners = np.arange(n) % 2, rng.integers(0, SIDE - PATCH, (n, 2))
    for image, label, (top, left) in zip(X, y, corners, strict=True):
        patch = image[top : top + PATCH, left : left + PATCH]
        patch[:] = ((220, 30, 30), (30, 30, 220))[label]
    return X, y, corners


def pointing_game(explanations, corners, tolerance=1):
    """Return the share of maps whose maximum is on the patch (Zhang et al., 2016)."""
    places = [np.unravel_index(e.values.argmax(), (SIDE, SIDE)) for e in explanations]
    offsets = np.array(places) - corners
    hits = (-tolerance <= offsets) & (offsets < PATCH + tolerance)
    return hits.all(axis=1).mean()


@pytest.fixture(scope="module")
def finder(network):
    """A pipeline that tells red from blue patches, and new images."""
    features = PretrainedFeatureExtractor(network, stage="2")
    model = make_pipeline(features, StandardScaler(), LogisticRegression(C=0.1))
    X, y, _ = planted(80, 0)
    return model.fit(X, y), planted(40, 1)


def randomised(model):
    """Return a copy of the pipeline whose network has random weights."""
    twin = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for layer in twin[0].model_.backbone.module.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    return twin


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("gradcam", {}),
        ("gradcam++", {}),
        ("integrated_gradients", {"n_steps": 16}),
        ("occlusion", {"window": 8}),
    ],
)
def test_planted_patch_is_found(finder, method, options):
    model, (X, y, corners) = finder
    assert model.score(X, y) > 0.95
    found = explain(model, X, method=method, **options)
    assert pointing_game(found, corners) > 0.9


@pytest.mark.parametrize("method", ["gradcam", "integrated_gradients"])
def test_random_weights_destroy_the_map(finder, method):
    # Adebayo et al. (2018). https://arxiv.org/abs/1810.03292
    model, (X, y, corners) = finder
    how = {"method": method, "target": y, "n_steps": 16}
    learned, random = explain(model, X, **how), explain(randomised(model), X, **how)
    pairs = [
        (a.values.ravel(), b.values.ravel())
        for a, b in zip(learned, random, strict=True)
    ]
    correlations = [spearmanr(*pair).statistic for pair in pairs]
    assert abs(np.nanmean(correlations)) < 0.3
    same = [spearmanr(a, a).statistic for a, _ in pairs]
    assert np.nanmean(same) == pytest.approx(1)
    assert pointing_game(random, corners) < 0.5


def test_maps_of_the_other_class_differ(finder):
    model, (X, y, corners) = finder
    other = explain(model, X, target=1 - y)
    assert pointing_game(other, corners) < 0.3
    assert [e.target for e in other] == (1 - y).tolist()
    one = explain(model, X[:2], target=1)
    assert [e.target for e in one] == [1, 1]


def test_files_have_maps_of_their_own_size(finder, tmp_path):
    model, (X, *_) = finder
    image = Image.fromarray(X[0]).resize((150, 90))
    exif = Image.Exif()
    exif[0x0112] = 8  # a quarter turn
    image.save(tmp_path / "turned.jpg", exif=exif)
    (found,) = explain(model, [str(tmp_path / "turned.jpg")])
    assert found.values.shape == found.shown.shape[:2] == (150, 90)
    assert found.seen == (0, 0, 150, 90)
    assert found.method == "gradcam"


def test_stage_of_grad_cam(finder):
    model, (X, *_) = finder
    (coarse,), (fine,) = (explain(model, X[:1], stage=stage) for stage in ("2", 1))
    assert coarse.score == fine.score
    assert not np.allclose(coarse.values, fine.values)


def test_vision_transformer(digits):
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_classes": 0}
    vit = VisionTransformer(**sizes, depth=2, num_heads=2)
    preprocessing = ImagePreprocessing((32, 32), 36)
    backbone = load_backbone(vit, preprocessing=preprocessing)
    model = FineTunedClassifier(backbone, freeze="all", pooling="cls")
    X, y = digits[0][:30], digits[1][:30]
    model.fit(X, y)
    (rollout,) = explain(model, X[:1], method="rollout")
    assert rollout.values.shape == (8, 8)
    assert rollout.values.min() > 0 or rollout.seen != (0, 0, 8, 8)
    (cam,) = explain(model, X[:1])
    assert cam.values.max() > 0  # before the last stage, as the token alone is pooled


def test_texts_in_windows_are_refused():
    backbone = load_backbone("minilm", preprocessing={"max_windows": 2})
    model = FineTunedClassifier(backbone, freeze="all").fit(
        ["good", "bad"] * 4, [1, 0] * 4
    )
    with pytest.raises(ValueError, match="estimator with `max_windows=2`; train one"):
        explain(model, ["good"])


def test_texts_have_attributions_by_token():
    texts = ["a good film", "a bad film", "great acting", "terrible acting"] * 5
    model = FineTunedClassifier("minilm", freeze="all").fit(texts, ["+", "-"] * 10)
    found = explain(model, ["a good and great film", "terrible mess"], n_steps=64)
    assert [e.target for e in found] == ["+", "-"]
    tokens = ["[CLS]", "a", "good", "and", "great", "film", "[SEP]"]
    assert found[0].tokens == tokens
    assert found[0].values[0] == found[0].values[-1] == 0  # special tokens
    assert "great" in np.array(tokens)[found[0].values.argsort()[-2:]]
    assert found[1].tokens[found[1].values.argmax()] == "terrible"
    np.testing.assert_allclose(found[0].values.sum(), _gain(model, found[0]), rtol=0.02)
    (other,) = explain(model, ["terrible mess"], target="+", n_steps=8)
    assert other.values[1] < 0


def test_words_of_the_prefix_are_attributed():
    backbone = load_backbone("minilm", preprocessing={"prefix": "good "})
    texts = ["a good film", "a bad film", "good acting", "bad acting"] * 5
    model = FineTunedClassifier(backbone, freeze="all").fit(texts, ["+", "-"] * 10)
    (found,) = explain(model, ["film is good"], n_steps=8)
    assert found.tokens == ["[CLS]", "good", "film", "is", "good", "[SEP]"]
    assert (found.values != 0).tolist() == [False, *[True] * 4, False]


def _gain(model, explanation):
    """Return the score of a text minus that of padding between special tokens."""
    network = Differentiable.of(model)
    x = network.to_input("a good and great film")
    empty = {**x, "ids": x["ids"].clone()}
    empty["ids"][0, 1 : len(explanation.tokens) - 1] = 0
    column = network.classes.tolist().index(explanation.target)
    with torch.no_grad():
        before, after = (network.network()(part)[0, column] for part in (empty, x))
    assert explanation.score == pytest.approx(float(after), abs=1e-5)
    return float(after - before)


def test_recordings_have_attributions_of_their_spectrum():
    times = np.arange(12000) / 16000
    tones = [np.sin(2 * np.pi * f * times) for f in (220, 880)] * 6
    X = [(tone.astype(np.float32), 16000) for tone in tones]
    model = FineTunedClassifier("speech_embedding", freeze="all")
    (found,) = explain(model.fit(X, ["low", "high"] * 6), X[1:2], n_steps=64)
    network, samples = Differentiable.of(model), read(model, X[1:2])
    x = network.to_input(samples[0])
    assert found.values.shape == (int(x["mask"].sum()), x["hidden"].shape[2])
    assert found.target == "high"
    with torch.no_grad():
        silent = network.network()({**x, "hidden": torch.zeros_like(x["hidden"])})
    column = network.classes.tolist().index("high")
    gain = found.score - float(silent[0, column])
    assert found.values.sum() == pytest.approx(gain, rel=0.1)


def test_vectors_have_attributions_of_their_columns(digits):
    X = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    y = X[:, 2] > 0
    net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU())
    torch.manual_seed(0)
    model = FineTunedClassifier(net, freeze="all", random_state=0).fit(X, y)
    found = explain(model, X[:20])
    assert found[0].values.shape == (4,)
    mean = np.abs([e.values for e in found]).mean(axis=0)
    assert mean.argmax() == 2
    assert found[0].method == "integrated_gradients"
    with pytest.raises(ValueError, match="for samples that are not images. Got 'gradc"):
        explain(model, X[:1], method="gradcam")


def test_invalid_arguments_raise(finder):
    model, (X, *_) = finder
    with pytest.raises(ValueError, match=r"`method` must .* Got 'gradcan'.* 'gradcam'"):
        explain(model, X, method="gradcan")
    with pytest.raises(ValueError, match=r"classes of the estimator: \[0, 1\]. Got 7"):
        explain(model, X[:1], target=7)
    with pytest.raises(ValueError, match=r"of shape \(1,\). Got \(2,\)"):
        explain(model, X[:1], target=[0, 1])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n_steps": 0}, "`n_steps` must be an int of at least 1. Got 0"),
        ({"n_steps": None}, "`n_steps` must be an int of at least 1. Got None"),
        ({"n_steps": 2.0}, "`n_steps` must be an int of at least 1. Got 2.0"),
        ({"method": "occlusion", "window": 0}, "`window` must be an int .* Got 0"),
        ({"method": "occlusion", "window": 2.5}, "`window` must be an int .* Got 2.5"),
        ({"method": "occlusion", "window": 999}, "`window` must be at most .* Got 999"),
        (
            {"window": 8},
            r"\['occlusion'\]. Got window=8 with method='gradcam'",
        ),
        (
            {"method": "occlusion", "stage": 1},
            r"\['gradcam', 'gradcam\+\+'\]. Got stage=1 with method='occlusion'",
        ),
    ],
)
def test_invalid_options_raise(finder, options, text):
    model, (X, *_) = finder
    with pytest.raises(ValueError, match=text):
        explain(model, X[:1], **options)


def test_targets_of_a_regressor_are_numbers_of_outputs(network):
    X, y, corners = planted(20, 0)
    targets = np.column_stack([y, corners[:, 0]]).astype(float)
    model = FineTunedRegressor(network, freeze="all").fit(X, targets)
    found = explain(model, X[:2], target=[1, 0])
    assert [e.target for e in found] == [1, 0]
    for wrong, text in ((0.5, "which are ints. Got 0.5"), ("a", "ints. Got 'a'")):
        with pytest.raises(ValueError, match=text):
            explain(model, X[:1], target=wrong)
    for wrong in (2, -1):
        with pytest.raises(ValueError, match=f"from 0 to 1. Got {wrong}"):
            explain(model, X[:1], target=wrong)
