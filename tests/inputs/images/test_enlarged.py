import numpy as np
import pytest

from sktransfer import PretrainedFeatureExtractor
from sktransfer.inputs import ImagePreprocessing, VectorPreprocessing, as_samples
from sktransfer.inputs.images._enlarged import median_image_size, tell_enlargement
from tests._networks import SmallNetwork


def images(h, w, n=5):
    return as_samples(np.zeros((n, h, w)), ImagePreprocessing())


@pytest.mark.parametrize(
    ("size", "suggested"),
    [((28, 20), 64), ((8, 8), 64), ((50, 60), 128), ((80, 30), None), ((224, 9), None)],
)
def test_size_that_would_do_is_told(size, suggested, capsys):
    tell_enlargement(images(*size), ImagePreprocessing())
    out = capsys.readouterr().out
    assert (suggested is None) == (out == "")
    if suggested:
        assert f"of {size[0]} x {size[1]} px, are enlarged to 224 x 224 px" in out
        share = {64: 12, 128: 3}[suggested]
        assert f"`image_size={suggested}` would take about 1/{share} of the" in out


def test_only_images_have_a_size():
    assert median_image_size(np.zeros((3, 4)), VectorPreprocessing(4)) is None
    assert median_image_size(images(6, 9), ImagePreprocessing()) == (6, 9)


def test_estimators_tell_it_where_no_size_is_given(capsys, tmp_path):
    X = np.zeros((2, 8, 8))
    X[:, 0] = 1
    for settings in ({"image_size": 64, "verbose": 1}, {"verbose": 0}):
        PretrainedFeatureExtractor(SmallNetwork, **settings).fit(X)
    assert capsys.readouterr().out == ""
    PretrainedFeatureExtractor(weights=None, verbose=1).fit(X)
    assert "`image_size=64` would take" in capsys.readouterr().out
    broken = [str(tmp_path / "none.png"), X[0]]
    reader = PretrainedFeatureExtractor(SmallNetwork, verbose=1, on_error="warn")
    reader.fit(broken)
    assert "image_size" not in capsys.readouterr().out
