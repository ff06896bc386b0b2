"""What is no image, and no label: an error that says so, and nothing half-done."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.exceptions import NotFittedError

from sktransfer.activations import process_store
from sktransfer.inputs import UnreadableSampleError
from sktransfer.inputs.images._files import file_content
from tests._bad_input import (
    BAD,
    IMAGES,
    LABELS,
    MODELS,
    SAMPLE,
    USES,
    answers,
    assert_same,
    classifier,
    contents,
    empty_store,
    extractor,
    first_use,
    make_backbone,
    paths_of,
    regressor,
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


@pytest.fixture(scope="module")
def fitted(backbone):
    """One model of each kind, which no test changes, and its answers."""
    models = {kind: make(backbone).fit(IMAGES, LABELS) for kind, make in MODELS.items()}
    return {kind: (model, answers(model)) for kind, model in models.items()}


@pytest.mark.parametrize("name", BAD)
def test_fit_refuses_and_leaves_nothing_fitted(name, backbone, folder, fitted):
    make, error, message = BAD[name]
    for kind in MODELS:
        model = MODELS[kind](backbone)
        parameters = {**vars(model)}
        with pytest.raises(error, match=message) as info:
            first_use(model, make(folder))
        assert type(info.value) is error
        if kind != "extractor":  # which looks at samples when it transforms
            assert vars(model) == parameters
            with pytest.raises(NotFittedError, match="instance is not fitted yet"):
                model.predict(IMAGES)
    assert_same(answers(model.fit(IMAGES, LABELS)), fitted[kind][1])


@pytest.mark.parametrize("name", BAD)
def test_use_refuses_and_changes_nothing(name, folder, fitted):
    make, error, message = BAD[name]
    for model, expected in fitted.values():
        attributes = {**vars(model)}
        for use in (name for name in USES if hasattr(model, name)):
            with pytest.raises(error, match=message):
                getattr(model, use)(make(folder))
        assert vars(model) == attributes
        assert_same(answers(model), expected)


@pytest.mark.parametrize("kind", MODELS)
def test_second_fit_that_fails_leaves_the_first(kind, backbone):
    model = MODELS[kind](backbone).fit(IMAGES, LABELS)
    expected = answers(model)
    with pytest.raises(ValueError, match="Got one in sample 3"):
        model.fit(with_value(np.nan), LABELS[::-1])
    assert_same(answers(model), expected)


def test_partial_fit_that_fails_leaves_what_was_there(backbone):
    model = classifier(backbone)
    with pytest.raises(ValueError, match="Got one in sample 3"):
        model.partial_fit(with_value(np.nan), LABELS, classes=[0, 1])
    with pytest.raises(NotFittedError, match="FineTunedClassifier instance is not"):
        model.predict(IMAGES)
    model.partial_fit(IMAGES, LABELS)
    expected = answers(model)
    with pytest.raises(ValueError, match="not among the classes: .7."):
        model.partial_fit(IMAGES, LABELS + 7 * (np.arange(8) == 2))
    assert_same(answers(model), expected)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", ["empty.png", "cut.jpg"])
def test_nothing_of_a_broken_file_is_stored(kind, name, backbone, folder, store):
    paths = paths_of(folder)
    bad = file_content(str(folder / name)).digest
    with pytest.raises(UnreadableSampleError, match=name):
        first_use(MODELS[kind](backbone), [*paths[:3], str(folder / name), *paths[3:]])
    assert not store._rows
    model = MODELS[kind](backbone).fit(paths, LABELS)
    model.transform(paths)
    with pytest.raises(UnreadableSampleError, match=name):
        model.transform([*paths, str(folder / name)])
    assert bad not in contents(store)
    assert {file_content(path).digest for path in paths} <= contents(store)


def test_nothing_of_a_broken_file_is_on_disk(backbone, folder, tmp_path):
    memory = tmp_path / "memory"
    model = extractor(backbone, memory=memory, on_error="warn")
    paths = paths_of(folder, "cut.png")
    with pytest.warns(UserWarning, match="1 of 9 samples cannot be read"):
        features = model.fit(paths).transform(paths)
    process_store().clear()
    again = extractor(backbone, memory=memory).fit(IMAGES)
    np.testing.assert_array_equal(again.transform(paths[:8]), features[:8])
    with pytest.raises(UnreadableSampleError, match=r"sample 8 .*cut\.png"):
        again.transform(paths)


def test_file_that_goes_between_fit_and_predict(backbone, tmp_path):
    folder = write_files(tmp_path)
    paths = paths_of(folder)
    model = classifier(backbone).fit(paths, LABELS)
    (folder / "4.png").unlink()
    with pytest.raises(UnreadableSampleError, match=r"sample 4 .*does not exist"):
        model.predict(paths)


def test_file_that_may_not_be_read(backbone, tmp_path, monkeypatch):
    paths = paths_of(write_files(tmp_path))

    def refuse(path, *args):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("sktransfer.utils._hashing.open", refuse, raising=False)
    message = SAMPLE.format(r"0 \('.*0\.png'\)", r"\[Errno 13\] Permission denied")
    with pytest.raises(UnreadableSampleError, match=message):
        classifier(backbone).fit(paths, LABELS)


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [50, 100])
@pytest.mark.parametrize("kind", MODELS)
def test_more_pixels_than_pillow_opens(kind, limit, backbone, folder, monkeypatch):
    # Beyond the limit Pillow warns, which is an error here; beyond twice, it raises.
    paths = paths_of(folder)
    model = MODELS[kind](backbone).fit(paths[1:], LABELS[1:])
    expected = answers(model, paths[1:])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    message = SAMPLE.format(
        r"0 \('.*0\.png'\)", r"Image size \(120 pixels\) exceeds limit of .* If you "
    )
    message += "trust it, set `PIL.Image.MAX_IMAGE_PIXELS` to more pixels, or to None"
    with pytest.raises(UnreadableSampleError, match=message):
        model.transform(paths[:1])
    assert_same(answers(model, paths[1:]), expected)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    np.testing.assert_array_equal(
        model.transform(paths[:1]), model.transform(IMAGES)[:1]
    )


def test_image_that_pillow_only_warns_of_is_read(backbone, folder, monkeypatch):
    model = extractor(backbone).fit(IMAGES)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.warns(Image.DecompressionBombWarning, match="exceeds limit of 100"):
        features = model.transform(paths_of(folder))
    np.testing.assert_array_equal(features, model.transform(IMAGES))


NO_LABELS = {
    "short": (LABELS[:5], ValueError, r"inconsistent numbers of samples: \[8, 5\]"),
    "NaN": (
        np.where(LABELS, 1, np.nan),
        ValueError,
        "y contains NaN or infinity, .* Got nan for sample 0; drop the sample or give",
    ),
    "infinity": (np.where(LABELS, np.inf, 1), ValueError, "Got inf for sample 1; drop"),
    "None": (["a", None] * 4, ValueError, "Got None for sample 1; drop the sample"),
    "NA": (
        pd.Series(["a", pd.NA] * 4, dtype="string"),
        ValueError,
        "Got .* for sample 1; drop the sample",
    ),
    "one class": (["a"] * 8, ValueError, "at least two classes .*Got one class: 'a'"),
    "one number": (LABELS * 0, ValueError, "at least two classes .*Got one class: 0"),
    "continuous": (np.linspace(0, 1, 8), ValueError, "label type: continuous. Maybe"),
    "two kinds": (
        np.array(["a", 1] * 4, dtype=object),
        TypeError,
        "labels of one kind. Got int and str; convert them",
    ),
    "no y": (None, ValueError, "`y` is needed, as the samples are no"),
    "generator": ((i for i in LABELS), TypeError, "sequence or array-like, got <class"),
    "tensor without values": (
        torch.zeros(8, device="meta"),
        TypeError,
        "Got a tensor on the device 'meta'",
    ),
}
NO_TARGETS = {
    "short": (LABELS[:5], ValueError, r"inconsistent numbers of samples: \[8, 5\]"),
    "NaN": (np.where(LABELS, 1, np.nan), ValueError, "Input y contains NaN"),
    "infinity": (np.where(LABELS, 1, np.inf), ValueError, "Input y contains infinity"),
    "text": (["a"] * 8, ValueError, "could not convert string to float: 'a'"),
    "no y": (None, ValueError, "`y` is needed, as the samples are no"),
}


@pytest.mark.parametrize(
    ("make", "y", "error", "message"),
    [(classifier, *case) for case in NO_LABELS.values()]
    + [(regressor, *case) for case in NO_TARGETS.values()],
)
def test_fit_refuses_y(make, y, error, message, backbone):
    model = make(backbone)
    with pytest.raises(error, match=message):
        model.fit(IMAGES, y)
    assert not hasattr(model, "backbone_")
    assert_same(
        answers(model.fit(IMAGES, LABELS)), answers(make(backbone).fit(IMAGES, LABELS))
    )


@pytest.mark.parametrize("name", ["NaN", "None", "two kinds"])
def test_y_of_validation_is_checked(name, backbone):
    y, error, message = NO_LABELS[name]
    with pytest.raises(error, match=message):
        classifier(backbone).fit(IMAGES, LABELS, X_val=IMAGES, y_val=y)
