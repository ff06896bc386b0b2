import pytest
import torch

from sktransfer.activations import ActivationLayout
from sktransfer.training import ACTIVATION_AUGMENTATIONS, ActivationAugment
from sktransfer.training._augment import Mix

SQUARE = (3, 32, 32)


def augment_of(kinds, shape=(2, 8, 8)):
    return ActivationAugment(kinds, ActivationLayout(shape, SQUARE))


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


SQUARE = (3, 32, 32)


def mix_of(shape, **alphas):
    return Mix(ActivationLayout(shape, SQUARE), **alphas)


def shares_of(mix, z, n_draws=2000):
    return torch.stack([mix(z)[2][0] for _ in range(n_draws)])


@pytest.fixture(autouse=True)
def _seed2():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(2, 8, 8), (8, 8, 2), (17, 5), (6,), (1, 5, 3, 2)])
def test_mixup_averages_each_sample_with_its_partner(shape):
    z = torch.randn(5, *shape)
    before = z.clone()
    mixed, partner, share = mix_of(shape, mixup=1.0)(z)
    assert partner.tolist() == [4, 0, 1, 2, 3]
    assert share.shape == (5,) and share.dtype == torch.float32
    own = share.view(5, *[1] * len(shape))
    torch.testing.assert_close(mixed, own * z + (1 - own) * z[partner])
    assert torch.equal(z, before) and 0 < float(share[0]) < 1


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_shares_are_beta_distributed(alpha):
    shares = shares_of(mix_of((6,), mixup=alpha), torch.zeros(2, 6))
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
    assert shares.var().item() == pytest.approx(1 / (8 * alpha + 4), abs=0.01)


@pytest.mark.parametrize("shape", [(2, 9, 9), (9, 9, 2), (81, 2), (82, 2)])
def test_cutmix_puts_a_box_of_the_partner_into_the_map(shape):
    mix, z = mix_of(shape, cutmix=1.0), torch.randn(4, *shape)
    before = z.clone()
    for _ in range(50):
        mixed, partner, share = mix(z)
        own, new = (mix.layout.to_map(t) for t in (z, mixed))
        foreign = new != own  # (n, c, h, w)
        assert torch.equal(new[foreign], own[partner][foreign])
        assert (foreign == foreign[:1, :1]).all()
        box = foreign[0, 0]
        outer = box.any(1)[:, None] & box.any(0)
        assert torch.equal(box, outer)
        assert share.tolist() == pytest.approx([1 - box.sum().item() / 81] * 4)
        assert _is_one_span(box.any(1)) and _is_one_span(box.any(0))
    assert torch.equal(z, before)


def _is_one_span(hit):
    return int(hit.int().diff().abs().sum() + hit[0] + hit[-1]) in (0, 2)


@pytest.mark.parametrize("size", [7, 64])
def test_cutmix_shares_have_the_mean_of_boxes_that_are_cut_off(size):
    # A centre is uniform, so a side s keeps s - s²/4 on average, and 1 - s² is uniform.
    shape = (1, size, size)
    shares = shares_of(mix_of(shape, cutmix=1.0), torch.zeros(2, *shape))
    assert shares.mean().item() == pytest.approx(1 - (1 / 2 - 1 / 5 + 1 / 48), abs=0.02)


def test_cutmix_boxes_of_small_maps_have_odd_sides_too():
    z = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 7, 7)
    mix, sides = mix_of((1, 7, 7), cutmix=1.0), set()
    for _ in range(300):
        sides.add(int((mix(z)[0][0, 0] == 1).any(1).sum()))
    assert sides == {*range(8)}


def test_cutmix_keeps_tokens_that_are_no_patch():
    z = torch.randn(4, 17, 5)
    mix = mix_of((17, 5), cutmix=1.0)
    for _ in range(20):
        mixed, partner, share = mix(z)
        assert torch.equal(mixed[:, 0], z[:, 0])
        foreign = (mixed[0] == z[partner[0]]).all(1)
        assert share[0].item() == pytest.approx(1 - foreign.sum().item() / 16)


@pytest.mark.parametrize("shape", [(6,), (6, 1, 1)])
def test_cutmix_of_activations_that_are_not_spatial_is_mixup(shape):
    z = torch.randn(5, *shape)
    mixed, partner, share = mix_of(shape, cutmix=1.0)(z)
    own = share[0]
    torch.testing.assert_close(mixed, own * z + (1 - own) * z[partner])
    assert 0 < float(own) < 1


def test_each_batch_takes_one_of_the_two():
    z = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 7, 7)
    mix = mix_of((1, 7, 7), mixup=1.0, cutmix=1.0)
    averaged = [not set(mix(z)[0].unique().tolist()) <= {0.0, 1.0} for _ in range(200)]
    assert 70 < sum(averaged) < 130


def test_mixup_and_cutmix_have_their_own_alphas():
    # Of two that are both mixup here, one draws shares near one half.
    mix = mix_of((6,), mixup=1000.0, cutmix=0.01)
    shares = shares_of(mix, torch.zeros(2, 6), 400)
    near = ((shares - 0.5).abs() < 0.1).float().mean().item()
    assert near == pytest.approx(0.5, abs=0.08)


def test_draws_come_from_the_global_generator():
    z, mix = torch.randn(4, 2, 8, 8), mix_of((2, 8, 8), mixup=1.0, cutmix=1.0)
    torch.manual_seed(3)
    one = mix(z)
    torch.manual_seed(3)
    for value, same in zip(one, mix(z), strict=True):
        assert torch.equal(value, same)
    assert not torch.equal(mix(z)[0], one[0])


@pytest.mark.parametrize(
    ("n", "alphas"), [(1, {"mixup": 1.0, "cutmix": 1.0}), (3, {}), (0, {"mixup": 1.0})]
)
def test_batch_of_one_and_mixing_that_is_off_return_the_batch(n, alphas):
    z = torch.randn(n, 2, 8, 8)
    mixed, partner, share = mix_of((2, 8, 8), **alphas)(z)
    assert mixed is z and share.tolist() == [1.0] * n
    assert partner.dtype == torch.int64 and partner.shape == (n,)


def test_dtype_of_the_activations_is_kept():
    z = torch.randn(4, 2, 8, 8, dtype=torch.float64)
    for alphas in ({"mixup": 1.0}, {"cutmix": 1.0}):
        mixed, _, share = mix_of((2, 8, 8), **alphas)(z)
        assert mixed.dtype == torch.float64 and share.dtype == torch.float32


def test_targets_of_the_loss_are_weighted_as_the_inputs():
    # Where the target is linear in the input, the mixed target is the mixed input's.
    z, coef = torch.randn(4, 6), torch.randn(6)
    y = z @ coef
    mixed, partner, share = mix_of((6,), mixup=1.0)(z)
    torch.testing.assert_close(mixed @ coef, share * y + (1 - share) * y[partner])
