import numpy as np

from sktransfer.advice._reader import StageReader, choose_samples, probabilities


def test_features_of_some_rows(make_small, digits):
    reader = StageReader(make_small()).read(digits[0])
    names = reader.backbone_.stage_names
    every = reader.features(names)
    some = reader.features(names[1:], rows=[3, 1])
    assert list(some) == names[1:]
    np.testing.assert_allclose(some[names[1]], every[names[1]][[3, 1]], rtol=1e-5)


def test_has_classifier(make_small, digits):
    assert not StageReader(make_small()).read(digits[0]).has_classifier()
    reader = StageReader(image_size=32)
    assert reader.read(digits[0]).has_classifier()
    reader = StageReader(image_size=32, weights=None)
    assert not reader.read(digits[0]).has_classifier()


def test_choose_samples_keeps_the_shares_of_classes():
    y = np.repeat(["a", "b", "c"], [800, 190, 10])
    chosen = choose_samples(1000, 100, y, random_state=0)
    assert len({*chosen}) == 100 and (np.diff(chosen) > 0).all()
    counts = np.unique(y[chosen], return_counts=True)[1]
    np.testing.assert_allclose(counts, [79, 19, 2], atol=2)


def test_choose_samples_of_numbers():
    chosen = choose_samples(50, 20, random_state=0)
    assert len({*chosen}) == 20
    assert (choose_samples(50, 20, random_state=0) == chosen).all()
    assert (choose_samples(50, None) == np.arange(50)).all()
    assert (choose_samples(50, 50) == np.arange(50)).all()


def test_probabilities_sum_to_one():
    found = probabilities(np.array([[1000, 0, 0], [0, 0, 0]], dtype=np.float32))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[1, 0] == 1 / 3
