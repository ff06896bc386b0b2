import numpy as np
import pytest
import torch

from sktransfer.inputs import MultichannelPreprocessing
from sktransfer.inputs.multichannel._preprocessing import RawMultichannel

TWO = MultichannelPreprocessing(mean=[10, 20], std=(2, 4.0), size=[4, 6])


def test_parameters_become_plain_values():
    assert TWO == MultichannelPreprocessing((10.0, 20.0), (2.0, 4.0), (4, 6))
    assert TWO.input_shape == (2, 4, 6) and TWO.prepared_shape == (4, 6, 2)
    assert TWO.example(3).shape == (3, 2, 4, 6)
    mean, std = torch.tensor([10, 20]), torch.tensor([2.0, 4.0], requires_grad=True)
    assert MultichannelPreprocessing(mean, std, (4, 6)) == TWO
    assert MultichannelPreprocessing(mean.numpy(), [2, 4], (4, 6)) == TWO


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"mean": ()}, r"`mean` must hold a finite float for each .* Got \(\)"),
        ({"mean": 1}, r"`mean` must hold a finite float for each channel\. Got 1\."),
        ({"mean": (1, float("nan"))}, r"`mean` must hold a finite float.*Got \(1, nan"),
        ({"std": ("a", 1)}, r"`std` must hold a finite float for each .*Got \('a', 1"),
        ({"std": [np.nan, 1]}, r"`std` must hold a finite float .*Got \[nan, 1\]"),
        ({"std": np.array([1, np.inf])}, r"`std` must hold a finite float .*inf\]"),
        ({"std": torch.tensor(1.0)}, r"`std` must hold a finite .*Got tensor\(1\.\)"),
        ({"std": (1, 0)}, r"`std` must hold a positive float.* Got \(1.0, 0.0\)"),
        ({"std": (1,)}, r"as many as `mean`, which has 2\. Got \(1.0,\)"),
        ({"size": 8}, r"`size` must be a pair \(h, w\) of positive ints.*Got 8"),
        ({"size": (8, 0)}, r"`size` must be a pair .*Got \(8, 0\)"),
        ({"size": (True, True)}, r"`size` must be a pair .*Got \(True, True\)"),
    ],
)
def test_parameters_out_of_range(settings, text):
    given = {"mean": (10, 20), "std": (2, 4), "size": (4, 6)}
    with pytest.raises(ValueError, match=text):
        MultichannelPreprocessing(**{**given, **settings})


def test_with_size():
    assert TWO.with_size(None) is TWO
    assert TWO.with_size(8).size == (8, 8) and TWO.with_size([8, 9]).size == (8, 9)
    assert TWO.with_size(8).key() != TWO.key()
    with pytest.raises(ValueError, match="`image_size` must be a pair"):
        TWO.with_size("large")


def test_values_are_normalised_per_channel():
    image = np.full((4, 6, 2), (14, 12), dtype=np.float32)
    prepared = TWO.prepare(image)
    assert prepared is not None and prepared.dtype == np.float32
    np.testing.assert_array_equal(prepared, image)
    inputs = TWO.to_input(torch.from_numpy(prepared)[None])  # (1, 2, 4, 6)
    assert inputs[0, 0].unique().tolist() == [2] and inputs[0, 1].unique() == -2


def test_other_sizes_are_averaged_in_float32():
    image = np.random.RandomState(0).normal(1e4, 1.0, (8, 12, 2)).astype(np.float32)
    ramp = np.stack(np.broadcast_arrays(np.arange(8)[:, None], np.arange(12)), axis=2)
    for each in (image, ramp.astype(np.float32)):
        found = TWO.prepare(each)
        assert found.shape == (4, 6, 2) and found.flags.c_contiguous
        assert found[1:-1, 1:-1].mean() == pytest.approx(each.mean(), rel=1e-3)
    assert found[2, 3].tolist() == [4.5, 6.5]  # the centre of four pixels
    assert TWO.prepare(ramp[:2, :3].astype(np.float32)).shape == (4, 6, 2)


@pytest.mark.parametrize("shape", [(4, 6, 2), (8, 12, 2)], ids=["same", "larger"])
def test_arrays_that_are_read_only_give_no_warning(shape):
    image = np.random.RandomState(0).normal(size=shape).astype(np.float32)
    expected, before = TWO.prepare(image), torch.is_warn_always_enabled()
    image.flags.writeable = False
    torch.set_warn_always(True)  # PyTorch gives the warning once per process
    try:
        np.testing.assert_array_equal(TWO.prepare(image), expected)
    finally:
        torch.set_warn_always(before)


def test_export_computes_the_same_model_inputs():
    raw = RawMultichannel(TWO)
    images = torch.randint(0, 40, (3, 9, 7, 2))
    expected = [TWO.prepare(image) for image in images.numpy().astype(np.float32)]
    expected = TWO.to_input(torch.from_numpy(np.stack(expected)))
    torch.testing.assert_close(raw(images), expected)
    assert raw.example(2).shape == (2, 4, 6, 2)
    assert raw.example(2, image_size=5).shape == (2, 5, 5, 2)
    with pytest.raises(ValueError, match=r"shape \(n, h, w, 2\), the channels last"):
        raw(images[..., :1])
    floats = images.float().requires_grad_()
    raw(floats).sum().backward()
    assert floats.grad.abs().sum() > 0
