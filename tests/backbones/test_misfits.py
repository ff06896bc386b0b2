import pytest
import torch

from sktransfer.backbones._misfits import Misfits, check_finite

EXPECTED = {
    "conv.weight": torch.zeros(4, 3),
    "conv.bias": torch.zeros(4),
    "norm.num_batches_tracked": torch.tensor(0),
    "fc.weight": torch.zeros(2, 4),
}


def test_what_fits_is_no_misfit():
    assert not Misfits(EXPECTED, EXPECTED)
    without = {k: v for k, v in EXPECTED.items() if "num_batches" not in k}
    assert not Misfits(EXPECTED, without)
    without["fc.weight"] = torch.zeros(9, 4)
    assert Misfits(EXPECTED, without) and not Misfits(EXPECTED, without, ["fc"])


def test_missing_names_come_with_the_nearest_and_both_sides():
    state = {f"net.{name}": tensor for name, tensor in EXPECTED.items()}
    text = (
        "'conv.weight' is missing (nearest in the checkpoint: 'net.conv.weight'); "
        "'conv.bias' is missing (nearest in the checkpoint: 'net.conv.bias'); "
        "'fc.weight' is missing (nearest in the checkpoint: 'net.fc.weight'); and 4 "
        "more. The network's tensors are 'conv.weight', 'conv.bias', "
        "'norm.num_batches_tracked' and 1 more; the checkpoint's are "
        "'net.conv.weight', 'net.conv.bias', 'net.norm.num_batches_tracked' and 1 more."
    )
    assert str(Misfits(EXPECTED, state)) == text


def test_shapes_and_dtypes_are_named():
    state = {**EXPECTED, "conv.bias": torch.zeros(5), "zzz": torch.zeros(1)}
    state["conv.weight"] = torch.zeros(4, 3, dtype=torch.int8)
    text = (
        "'conv.bias' has shape (5,), expected (4,); 'conv.weight' has dtype "
        "torch.int8, expected torch.float32; 'zzz' is not in the network."
    )
    assert str(Misfits(EXPECTED, state)) == text


@pytest.mark.parametrize(
    ("name", "tensor", "fits"),
    [
        ("conv.bias", torch.zeros(4, dtype=torch.float16), True),
        ("conv.bias", torch.zeros(4, dtype=torch.float64), True),
        ("conv.bias", torch.zeros(4, dtype=torch.complex64), False),
        ("conv.bias", torch.zeros(4, dtype=torch.bool), False),
        ("norm.num_batches_tracked", torch.tensor(7.0), True),
        ("norm.num_batches_tracked", torch.tensor(7.5), False),
    ],
)
def test_dtypes_that_hold_the_same_values_are_cast(name, tensor, fits):
    assert bool(Misfits(EXPECTED, {**EXPECTED, name: tensor})) is not fits


@pytest.mark.parametrize("name", ["pos_embed", "encoder.pos_embedding"])
def test_position_embeddings_are_known(name):
    expected = {name: torch.zeros(3), "a": torch.zeros(3)}
    assert Misfits(expected, {**expected, name: torch.zeros(4)}).of_positions
    assert not Misfits(expected, {**expected, "a": torch.zeros(4)}).of_positions


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_what_is_no_number_is_refused(value):
    wrong = torch.zeros(4, dtype=torch.float64)
    wrong[1] = value
    text = (
        "^It holds values that are no numbers: 'conv.bias' has 1 of 4 that are NaN or "
        "infinite in torch.float32. Take a checkpoint from before the training diverged"
    )
    with pytest.raises(ValueError, match=text):
        check_finite(EXPECTED, {**EXPECTED, "conv.bias": wrong}, "It")


def test_infinity_of_a_mask_passes():
    mask = {"mask": torch.full((3, 3), float("-inf")).triu(1)}
    check_finite(mask, mask, "It")
