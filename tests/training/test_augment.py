import pytest
import torch

from sktransfer.activations import Layout
from sktransfer.training import ACTIVATION_AUGMENTATIONS, ActivationAugment

SQUARE = (3, 32, 32)


def augment_of(kinds, shape=(2, 8, 8)):
    return ActivationAugment(kinds, Layout(shape, SQUARE))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(2, 8, 8), (8, 8, 2), (17, 5), (6,)])
def test_nothing_in_eval_mode_and_the_same_shape_in_train_mode(shape):
    augment, z = augment_of(ACTIVATION_AUGMENTATIONS, shape), torch.randn(5, *shape)
    assert augment.eval()(z) is z
    changed = augment.train()(z)
    assert changed.shape == z.shape and not torch.equal(changed, z)


def test_flip_mirrors_about_half_of_the_samples():
    z = torch.randn(200, 2, 8, 8)
    flipped = augment_of(["flip"])(z)
    kept = torch.isclose(flipped, z, atol=1e-5).flatten(1).all(1)
    mirrored = torch.isclose(flipped, z.flip(3), atol=1e-5).flatten(1).all(1)
    assert torch.equal(kept, ~mirrored) and 70 < int(kept.sum()) < 130


def test_shift_moves_by_an_eighth_at_most():
    z = torch.zeros(100, 1, 16, 16)
    z[:, 0, 8, 8] = 1.0
    moved = augment_of(["shift"], (1, 16, 16))(z)
    torch.testing.assert_close(moved.sum((1, 2, 3)), torch.ones(100))
    rows = (moved[:, 0].sum(2) * torch.arange(16)).sum(1)
    assert float((rows - 8).abs().max()) <= 2.0 and float(rows.std()) > 0.5


def test_crop_stays_inside_and_enlarges():
    z = torch.ones(50, 1, 16, 16)
    inside = augment_of(["crop"], (1, 16, 16))(z)[:, 0, 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.ones_like(inside))
    z = torch.zeros(50, 1, 16, 16)
    z[:, 0, 6:10, 6:10] = 1.0
    areas = augment_of(["crop"], (1, 16, 16))(z).sum((1, 2, 3)) / 16
    assert 1.0 <= float(areas.min()) + 1e-3 and float(areas.max()) < 1 / 0.75**2 + 0.1


def test_drop_puts_zeros_into_squares_of_half_of_the_samples():
    z = torch.ones(400, 3, 10, 10)
    dropped = augment_of(["drop"], (3, 10, 10))(z)
    zeros = (dropped == 0).float()
    assert torch.equal(zeros[:, 0], zeros[:, 2])
    share = zeros.mean((1, 2, 3))
    assert 150 < int((share > 0).sum()) < 250
    assert float(share.max()) <= 0.09 + 1e-6


def test_tokens_that_are_no_patch_are_kept():
    z = torch.randn(20, 17, 5)
    changed = augment_of(ACTIVATION_AUGMENTATIONS, (17, 5))(z)
    assert torch.equal(changed[:, 0], z[:, 0])
    assert not torch.equal(changed[:, 1:], z[:, 1:])


def test_vectors_lose_entries_and_keep_their_scale():
    z = torch.ones(10, 1000)
    dropped = augment_of(["drop"], (1000,))(z)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(augment_of(["flip", "crop"], (1000,))(z), z)
