import numpy as np
from sklearn.model_selection import GridSearchCV

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.inspection import PassCounter


def new_images(digits, seed):
    """Return images that no other test has stored."""
    return digits[0] * np.random.default_rng(seed).uniform(0.5, 1)


def test_search_computes_each_sample_once(network, digits):
    X, y = new_images(digits, 0)[:40], digits[1][:40]
    grid = {"C": [0.1, 1.0, 10.0]}
    search = GridSearchCV(FineTunedClassifier(network, freeze="all"), grid, cv=2)
    with PassCounter() as counter:
        search.fit(X, y)
    computed = counter.computed
    assert computed.loc[computed["start"] == "input", "samples"].tolist() == [40]
    # 6 fits and 6 scores of half of the samples, and a last fit; one was computed.
    assert counter.found["samples"].sum() == 12 * 20
    ratio = counter.multiply_adds_without_store / counter.multiply_adds
    np.testing.assert_allclose(ratio, 7)
    assert counter.trained.to_dict("records") == [
        {
            "backbone": "SmallNetwork",
            "boundary": "8",  # the last stage
            "trainings": 7,
            "samples": 6 * 20 + 40,
        }
    ]
    text = str(counter).splitlines()
    assert text[0] == "40 samples read and computed by SmallNetwork"
    assert text[-2] == (
        "7 trainings above 8 of SmallNetwork, of 160 samples in all epochs"
    )
    assert text[-1].endswith("7 times as many")


def test_trainings_are_counted_by_what_they_train(network, digits):
    X, y = digits[0][:20], digits[1][:20]
    model = FineTunedClassifier(network, freeze=-1, max_epochs=3, augment=None)
    with PassCounter() as counter:
        model.fit(X, y)
    trained = counter.trained.set_index("boundary")
    assert trained["samples"].to_dict() == {"8": 20, model.boundary_: 3 * 20}
    assert (trained["trainings"] == 1).all()


def test_nothing_is_counted_outside(network, digits):
    X = new_images(digits, 1)[:10]
    with PassCounter() as counter:
        pass
    extractor = PretrainedFeatureExtractor(network, stage="3").fit(X)
    extractor.transform(X)
    assert counter.computed.empty
    assert counter.found.empty
    assert counter.trained.empty
    assert str(counter) == "0 billion multiply-adds, and without the store 0 billion"
    with PassCounter() as counter:
        extractor.set_params(stage="5").fit_transform(X)
    work = extractor.backbone_.multiply_adds
    assert counter.multiply_adds_without_store == 10 * work("input", "5")


def test_counts_are_empty_before_the_block():
    counter = PassCounter()
    assert str(counter) == "0 billion multiply-adds, and without the store 0 billion"
    assert counter.computed.empty
    assert counter.found.empty
