"""The promise of the whole: computed once, and never a different answer."""

import gc
from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from torch.utils.data import Dataset

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor, config_context
from sktransfer.activations import _pass, forward_passes, process_store
from sktransfer.activations._activations import _living
from sktransfer.activations._store import choose
from sktransfer.backbones import load_backbone
from tests._networks import SmallNetwork
from tests._transformers import make_texts, save_network

DIGITS = load_digits(n_class=3)
X, Y = DIGITS.images[:36] / 16, DIGITS.target[:36]
DEPTHS = [6, 7, 8, "7", "all"]
BACKBONE = load_backbone(SmallNetwork)
SHIPPED = {"backbone": load_backbone("efficientnet_lite0", image_size=64)}


@pytest.fixture(autouse=True)
def _nothing_stored(monkeypatch):
    """Begin with nothing, and keep whatever fits: the clock has no say here."""
    process_store().clear()
    forward_passes().clear()

    def keep_all(measured, n_samples, budget):
        free = [replace(price, keep_seconds=0.0) for price in measured]
        return choose(free, n_samples, budget)

    monkeypatch.setattr(_pass, "choose", keep_all)


@pytest.fixture
def paths(tmp_path):
    """Write the digits to files."""
    found = []
    for i, image in enumerate(X):
        pixels = Image.fromarray((image * 240).astype(np.uint8))
        found.append(str(tmp_path / f"{i}.png"))
        pixels.resize((40, 40)).save(found[-1])
    return np.array(found)


def classifier(**settings):
    defaults = {"freeze": 8, "max_epochs": 2, "augment": None, "random_state": 0}
    return FineTunedClassifier(BACKBONE).set_params(**{**defaults, **settings})


def from_input():
    """How many samples went through the first stage."""
    return sum(n for (_, start, _), n in forward_passes().items() if start == "input")


# Once


def test_a_grid_search_sees_each_image_exactly_once(paths):
    search = GridSearchCV(classifier(), {"freeze": DEPTHS}, cv=3).fit(paths, Y)
    search.predict(paths[::-1])
    search.score(paths, Y)
    assert from_input() == len(paths)


def test_no_section_sees_an_image_twice(paths):
    GridSearchCV(classifier(), {"freeze": [6, 8]}, cv=3, refit=False).fit(paths, Y)
    passed = forward_passes()
    ends = {stop for _, _, stop in passed}
    assert {"5", "7"} <= ends
    for end in ends:
        assert sum(n for (_, _, stop), n in passed.items() if stop == end) == len(paths)


def test_a_pipeline_and_a_classifier_share_what_they_compute(paths):
    extractor = PretrainedFeatureExtractor(BACKBONE)
    pipeline = make_pipeline(extractor, LogisticRegression())
    grid = {"pretrainedfeatureextractor__stage": [5, 7, 9]}
    GridSearchCV(pipeline, grid, cv=3).fit(paths, Y)
    classifier(freeze="all").fit(paths, Y).predict(paths)
    assert from_input() == len(paths)


def test_processes_and_later_runs_share_a_folder(paths, tmp_path):
    model = classifier(memory=tmp_path / "store")
    grid = {"freeze": [7, 8]}
    # Forked workers keep all that fits, too.
    with joblib.parallel_config(backend="multiprocessing"):
        GridSearchCV(model, grid, cv=2, n_jobs=2, refit=False).fit(paths, Y)
    assert from_input() == 0  # in this process
    model.fit(paths, Y).predict(paths)
    assert from_input() == 0


def test_a_table_of_images_texts_and_numbers_is_encoded_once(paths, tmp_path):
    image = PretrainedFeatureExtractor(BACKBONE)
    text = PretrainedFeatureExtractor(save_network(tmp_path / "bert"))
    columns = make_column_transformer(
        (image, "image"), (text, "text"), ("passthrough", ["width", "height"])
    )
    texts, _ = make_texts(len(paths))
    numbers = {"width": range(len(paths)), "height": 1}
    table = pd.DataFrame({"image": paths, "text": texts, **numbers})
    pipeline = make_pipeline(columns, LogisticRegression(C=1e-3))
    for cv in (2, 3):
        cross_validate(pipeline, table, Y, cv=cv, error_score="raise")
    by_section = {stop: n for (_, start, stop), n in forward_passes().items()}
    assert by_section.pop("embeddings") == len({*texts})
    assert {n for stop, n in by_section.items() if "layer" in stop} == {len({*texts})}
    assert from_input() == len(paths) + len({*texts})


# Never a different answer


@pytest.mark.parametrize(
    "settings",
    [
        {"freeze": 7, "max_epochs": 1, **SHIPPED},
        {"freeze": 7},
        {"freeze": 8, "augment": "auto"},
        {"freeze": "all"},
    ],
    ids=["shipped", "suffix", "mirrored", "probe"],
)
def test_the_store_changes_no_prediction(tmp_path, settings):
    def predict(**more):
        model = classifier(**settings, **more)
        return cross_val_predict(model, X, Y, cv=2, method="predict_proba")

    with config_context(memory_budget=0):
        without = predict()
    cold, warm = predict(), predict()
    process_store().clear()
    on_disk = predict(memory=tmp_path)
    process_store().clear()
    read = predict(memory=tmp_path)
    for proba in (cold, warm, on_disk, read):
        np.testing.assert_array_equal(proba, without)


def test_processes_change_no_prediction(tmp_path):
    one, two, shared = (
        cross_val_predict(
            classifier(**settings), X, Y, cv=2, n_jobs=n_jobs, method="predict_proba"
        )
        for n_jobs, settings in [(1, {}), (2, {}), (2, {"memory": tmp_path})]
    )
    np.testing.assert_array_equal(two, one)
    np.testing.assert_array_equal(shared, one)


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_settings_reach_workers(backend):
    def predict(n_jobs):
        model = classifier(freeze="all", C=1.0)
        return cross_val_predict(
            model, X, Y, cv=2, n_jobs=n_jobs, method="predict_proba"
        )

    by_default = predict(1)
    with config_context(activation_dtype="float16"):
        expected = predict(1)
        with joblib.parallel_config(backend=backend):
            found = predict(2)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, by_default)


def test_the_number_of_threads_changes_no_prediction():
    found, before = [], torch.get_num_threads()
    for n_threads in (1, 2, 3):
        process_store().clear()
        torch.set_num_threads(n_threads)
        model = classifier(freeze=6, max_epochs=1).fit(X, Y)
        found.append(model.predict_proba(X))
    torch.set_num_threads(before)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


@pytest.mark.parametrize("others", [[8], ["all", 4, 6]], ids=str)
def test_a_candidate_scores_as_it_does_alone(others):
    grid = {"freeze": [*others, 7]}
    search = GridSearchCV(classifier(), grid, cv=2, scoring="neg_log_loss")
    results = search.fit(X, Y).cv_results_
    scores = [results[f"split{k}_test_score"][len(others)] for k in (0, 1)]
    alone = GridSearchCV(classifier(), {"freeze": [7]}, cv=2, scoring="neg_log_loss")
    with config_context(memory_budget=0):
        expected = alone.fit(X, Y).cv_results_
    assert scores == [expected[f"split{k}_test_score"][0] for k in (0, 1)]


def test_a_fit_lets_go_of_all_activations():
    gc.collect()
    before = len([*_living])
    views = {"augment": "crop_flip", "augment__n_views": 2}
    model = classifier(freeze=8, max_epochs=1, early_stopping=True, **views)
    model.fit(X, Y, X_val=X[:6], y_val=Y[:6])
    gc.collect()
    assert len([*_living]) == before


def test_file_overwritten_in_place_is_noticed(paths):
    extractor = PretrainedFeatureExtractor(BACKBONE).fit(paths)
    before = extractor.transform(paths[:2])
    Image.open(paths[1]).save(paths[0])
    after = extractor.transform(paths[:2])
    np.testing.assert_allclose(after[0], before[1], rtol=1e-5, atol=1e-6)
    assert abs(after[0] - before[0]).max() > 0.01


def test_one_weight_and_the_image_size_give_other_features():
    backbone = BACKBONE
    features = PretrainedFeatureExtractor(backbone, stage=1).fit_transform(X)
    twin = backbone.fork("input")
    next(twin.module.parameters()).data[0, 0, 0, 0] += 0.5
    changed = PretrainedFeatureExtractor(twin, stage=1).fit_transform(X)
    larger = PretrainedFeatureExtractor(backbone, stage=1, image_size=48)
    assert abs(changed - features).max() > 0.01
    assert abs(larger.fit_transform(X) - features).max() > 0.01
    assert from_input() == 3 * len(X)


def test_weights_that_a_user_changes_change_nothing_else(paths):
    extractor = PretrainedFeatureExtractor(BACKBONE)
    before = extractor.fit_transform(paths)
    model = classifier().fit(paths, Y)
    with torch.no_grad():
        for module in (model.module_, extractor.backbone_.module):
            for parameter in module.parameters():
                parameter *= 0.9
    process_store().clear()
    np.testing.assert_array_equal(extractor.fit_transform(paths), before)


@pytest.mark.parametrize("first", ["auto", "float16"])
def test_the_dtype_of_activations_is_part_of_the_key(first):
    extractor = PretrainedFeatureExtractor(BACKBONE)
    kept = {}
    for dtype in {first: 0, "auto": 0, "float16": 0}:
        with config_context(activation_dtype=dtype):
            kept[dtype] = extractor.fit_transform(X)
    assert not np.array_equal(kept["auto"], kept["auto"].astype(np.float16))
    np.testing.assert_array_equal(kept["float16"], kept["float16"].astype(np.float16))


def test_depths_from_deep_to_shallow_are_computed_once(paths):
    GridSearchCV(classifier(), {"freeze": [8, 6, 4]}, cv=2, refit=False).fit(paths, Y)
    assert from_input() == len(paths)


class Flipping(Dataset):
    """Gives each image as it is and mirrored, in turn."""

    n_reads = 0

    def __len__(self):
        return 6

    def __getitem__(self, i):
        self.n_reads += 1
        mirrored = (self.n_reads // 6) % 2
        image = COLOURS[i % 2]
        return Image.fromarray(image[:, ::-1].copy() if mirrored else image)


COLOURS = np.random.RandomState(0).randint(0, 256, (3, 24, 24, 3), dtype=np.uint8)


def test_views_of_a_random_dataset_do_not_reach_the_store():
    """Items of one image are alike at first: each is read and encoded by itself."""
    extractor = PretrainedFeatureExtractor(BACKBONE).fit(COLOURS)
    with pytest.warns(UserWarning, match="returns sample .* differently .*`augment=`"):
        features = extractor.transform(Flipping())
    assert np.isfinite(features).all()
    warm = extractor.transform(COLOURS)
    process_store().clear()
    np.testing.assert_array_equal(warm, extractor.transform(COLOURS))
