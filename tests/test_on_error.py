"""Rows of NaN for what cannot be read."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from sktransfer import config_context
from sktransfer.inputs.images._files import file_content
from tests._bad_input import (
    BAD,
    IMAGES,
    NO_FILES,
    VectorNetwork,
    contents,
    empty_store,
    extractor,
    make_backbone,
    paths_of,
    with_value,
    write_files,
)


@pytest.fixture(scope="module")
def backbone():
    return make_backbone()


@pytest.fixture(autouse=True)
def store(monkeypatch):
    return empty_store(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("name", [*NO_FILES, "NaN", "infinity", "one of five channels"])
def test_warn_gives_rows_of_nan(name, backbone, folder, store):
    make, error, _ = BAD[name]
    X = make(folder)
    model = extractor(backbone, on_error="warn")
    if error is TypeError:  # no sample at all
        with pytest.raises(error, match="as sample 8"):
            model.fit(X)
        return
    bad = {"dataset": [2, 5], "first of a dataset": [0]}.get(name)
    bad = bad or ([3] if name in ("NaN", "infinity") else [8])
    assert model.fit(X).unreadable_["row"].tolist() == bad
    message = f"{len(bad)} of {len(X)} samples cannot be read: .* NaN. sample {bad[0]}"
    with pytest.warns(UserWarning, match=message) as record:
        features = model.transform(X)
    assert len(record) == 1
    good = [row for row in range(8) if row not in bad]
    assert np.isnan(features[bad]).all()
    plain = extractor(backbone).fit(IMAGES).transform(IMAGES)
    np.testing.assert_array_equal(features[good], plain[good])
    with pytest.raises(ValueError, match=BAD[name][2]):
        extractor(backbone).fit(X).transform(X)


def test_warn_says_which_and_why(backbone, folder):
    bad = ["empty.png", "no.png", "cut.png", "text.png", "sub", "cut.jpg", "a", "b"]
    paths = [*paths_of(folder, *bad), None]
    model = extractor(backbone, on_error="warn").fit(paths)
    with pytest.warns(UserWarning, match="9 of 17 samples") as record:
        model.transform(paths)
    (warning,) = record
    assert warning.filename == __file__
    text = str(warning.message)
    empty = f"sample 8 ({str(folder / 'empty.png')!r}): it is empty, of 0 bytes; "
    assert f"NaN. {empty}sample 9 (" in text and text.endswith("; and 4 more.")
    table = model.unreadable_
    assert table["row"].tolist() == [*range(8, 17)]
    assert table["name"].tolist() == [*paths[8:16], None]
    assert table["reason"][0] == "it is empty, of 0 bytes"
    assert table["reason"][1].startswith("the file does not exist")
    assert table["reason"][8] == "the value is missing (None)"


def test_warn_without_cause_is_silent(backbone, folder):
    model = extractor(backbone, on_error="warn").fit(paths_of(folder))
    assert model.unreadable_.empty
    assert model.unreadable_.columns.tolist() == ["row", "name", "reason"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = model.transform(paths_of(folder))
    assert np.isfinite(features).all()
    assert model.set_params(on_error="raise").fit(IMAGES).unreadable_ is None


@pytest.mark.parametrize(("batch_size", "budget"), [(1, 2**20), (3, 0), (3, 2**20)])
def test_warn_with_any_batches(batch_size, budget, backbone, folder, store):
    good, bad = paths_of(folder), [str(folder / n) for n in ("cut.png", "text.png")]
    paths = [*bad, *good[:4], bad[0], good[0], *bad, *good[4:], bad[1]]
    model = extractor(backbone, on_error="warn", batch_size=batch_size)
    rows = np.flatnonzero([path in bad for path in paths])
    assert model.fit(paths).unreadable_["row"].tolist() == rows.tolist()
    plain = extractor(backbone).fit(IMAGES).transform(IMAGES)
    store.clear()
    for _ in range(2):  # computed, and taken from the store
        with (
            config_context(memory_budget=budget),
            pytest.warns(UserWarning, match="6 of 15 samples cannot be read"),
        ):
            features = model.transform(paths)
        assert np.isnan(features[rows]).all()
        order = [0, 1, 2, 3, 0, 4, 5, 6, 7]
        np.testing.assert_allclose(
            np.delete(features, rows, axis=0), plain[order], rtol=1e-3, atol=1e-5
        )
    known = {file_content(path).digest for path in good}
    assert contents(store) == (known if budget else set())


def test_warn_where_nothing_can_be_read(backbone, folder):
    bad = [str(folder / "cut.png"), "no.png"]
    model = extractor(backbone, on_error="warn")
    message = (
        r"At least one sample of X must be readable. Got 2 .* first, sample 0 \('.*"
    )
    with pytest.raises(
        ValueError, match=message + "cut.png'.: image file is truncated"
    ):
        model.fit(bad)
    with pytest.raises(NotFittedError, match="instance is not fitted"):
        model.transform(IMAGES)
    with pytest.warns(UserWarning, match="2 of 2 samples cannot be read"):
        features = model.fit(IMAGES).transform(bad)
    assert features.shape == (2, 6) and np.isnan(features).all()


def test_warn_reaches_an_imputer(backbone, folder):
    paths = paths_of(folder, "cut.png")
    model = extractor(backbone, on_error="warn").set_output(transform="pandas")
    pipeline = make_pipeline(model, SimpleImputer().set_output(transform="pandas"))
    with pytest.warns(UserWarning, match="1 of 9 samples cannot be read"):
        table = model.fit(paths).transform(paths)
    assert table.shape == (9, 6) and table.isna().all(axis=1).tolist() == [
        False
    ] * 8 + [True]
    with pytest.warns(UserWarning, match="1 of 9 samples cannot be read"):
        filled = pipeline.fit_transform(paths)
    np.testing.assert_allclose(filled.iloc[8], table[:8].mean(), rtol=1e-5)
    np.testing.assert_array_equal(filled[:8], table[:8])


def test_warn_leaves_vectors_to_sklearn():
    X = np.random.RandomState(0).rand(8, 5)
    model = extractor(VectorNetwork, on_error="warn").fit(X)
    assert model.unreadable_.empty
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.transform(np.full((2, 5), np.nan))


def test_warn_keeps_the_rest_of_what_is_refused(backbone):
    model = extractor(backbone, on_error="warn")
    with pytest.raises(ValueError, match="look normalised already"):
        model.fit(with_value(np.nan) - 0.5)
    with pytest.raises(ValueError, match="Got 1.5 in sample 5"):
        model.set_params(value_range=(0, 1)).fit(with_value(1.5, (5, 0, 0, 0)))


def test_on_error_of_another_name(backbone):
    with pytest.raises(
        ValueError, match="The 'on_error' parameter of Pretrained.*'no'"
    ):
        extractor(backbone, on_error="no").fit(IMAGES)
