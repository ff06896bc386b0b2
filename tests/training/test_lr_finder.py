import dataclasses
import math

import numpy as np
import pytest

from sktransfer.training._lr_finder import LearningRateCurve, find_lr


def descent(curvature, noise=0.0, at=1.0, seed=0):
    """Return a step of gradient descent on a quadratic of some curvatures."""
    rng = np.random.RandomState(seed)
    curvature = np.atleast_1d(np.asarray(curvature, dtype=float))
    x = np.full_like(curvature, at)

    def step(lr):
        nonlocal x
        loss = 0.5 * float(curvature @ x**2)
        x = x - lr * curvature * (x + noise * rng.standard_normal(x.shape))
        return loss

    return step


def replay(losses):
    """Return a step that gives these losses, whatever the rate."""
    losses = iter(losses)
    return lambda lr: next(losses)


def test_step_gets_rates_in_geometric_progression():
    rates = []
    curve = find_lr(lambda lr: rates.append(lr) or 1.0, start=1e-4, stop=1.0, n_steps=5)
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert all(type(rate) is float for rate in rates)
    np.testing.assert_array_equal(curve.lr, rates)


def test_loss_is_the_moving_average_without_bias():
    losses = [3.0, 1.0, 2.0]
    curve = find_lr(replay(losses), n_steps=3)
    expected = [
        np.average(losses[:i], weights=0.98 ** np.arange(i)[::-1]) for i in (1, 2, 3)
    ]
    np.testing.assert_allclose(curve.loss, expected)


@pytest.mark.parametrize("noise", [0.01, 0.3])
@pytest.mark.parametrize("curvature", [1.0, 100.0, 1e4])
def test_suggestion_goes_by_the_stable_rate(curvature, noise):
    curvatures = curvature * np.array([1.0, 0.7, 0.5])
    suggestions = np.array(
        [find_lr(descent(curvatures, noise, seed=s)).suggestion for s in range(20)]
    )
    best = 1 / curvature  # beyond 2 / curvature it diverges
    assert (suggestions > best / 50).all() and (suggestions < best).all()


def test_suggestion_of_a_start_at_the_minimum_is_not_the_lowest_rate():
    for seed in range(20):
        curve = find_lr(descent([10.0, 7.0, 5.0], noise=0.1, at=0.1, seed=seed))
        assert 1e-3 < curve.suggestion < 0.1


def test_test_ends_when_the_loss_is_so_many_times_its_lowest():
    curve = find_lr(descent([100.0, 70.0], noise=0.3), factor=3.0)
    assert len(curve.lr) == len(curve.loss) < 100
    lowest = np.minimum.accumulate(curve.loss[10:])
    assert curve.loss[-1] > 3 * lowest[-2]
    assert (curve.loss[10:-1] <= 3 * lowest[:-1]).all()


def test_one_unlucky_batch_at_the_beginning_does_not_end_the_test():
    curve = find_lr(replay([0.01, 1.0] + 98 * [0.5]))
    assert len(curve.lr) == 100


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_test_ends_when_the_loss_is_not_finite(value):
    curve = find_lr(replay([2.0, 1.0, value]), n_steps=5)
    assert len(curve.lr) == len(curve.loss) == 2
    assert np.isfinite(curve.loss).all() and np.isfinite(curve.suggestion)


@pytest.mark.parametrize("loss", [1.0, 0.0, -1.0])
def test_suggestion_of_a_flat_loss(loss):
    curve = find_lr(lambda lr: loss)
    assert len(curve.lr) == 100
    assert curve.suggestion == pytest.approx(1.0)  # a tenth of the highest


def test_negative_losses_are_no_divergence():
    curve = find_lr(replay(-np.arange(1.0, 101.0)))
    assert len(curve.lr) == 100
    curve = find_lr(replay([*np.full(50, -1.0), *np.full(50, 1e3)]))
    assert len(curve.lr) == 51


def test_immediate_divergence_suggests_the_lowest_rate():
    curve = find_lr(replay([1.0, math.inf]), start=1e-3)
    assert curve.suggestion == 1e-3
    np.testing.assert_array_equal(curve.lr, [1e-3])
    curve = find_lr(descent(1e9))
    assert curve.suggestion == 1e-7


def test_suggestion_is_in_the_range_whatever_the_losses():
    for seed in range(50):
        rng = np.random.RandomState(seed)
        losses = np.exp(rng.randn(100) * rng.choice([0.1, 1.0, 10.0]))
        curve = find_lr(replay(losses), start=1e-5, stop=1e-2)
        assert 1e-5 <= curve.suggestion <= 1e-2


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_first_loss_that_is_not_finite_raises(loss):
    with pytest.raises(
        ValueError,
        match=rf"must be finite at .* start=1e-06. Got {loss} at the first step: look ",
    ):
        find_lr(lambda lr: loss, start=1e-6)


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (1.0, 0.1), (0.1, math.inf), (math.nan, 1)],
)
def test_rates_out_of_order_raise(start, stop):
    with pytest.raises(ValueError, match=r"with 0 < start < stop. Got start=.*stop="):
        find_lr(lambda lr: 1.0, start=start, stop=stop)


def test_too_few_steps_raise():
    with pytest.raises(ValueError, match="`n_steps` must be 2 or more. Got 1."):
        find_lr(lambda lr: 1.0, n_steps=1)


@pytest.mark.parametrize("factor", [1.0, 0.5, math.nan])
def test_factor_that_always_ends_the_test_raises(factor):
    with pytest.raises(ValueError, match=f"`factor` must be above 1. Got {factor}."):
        find_lr(lambda lr: 1.0, factor=factor)


def test_curve_cannot_be_changed():
    curve = LearningRateCurve(np.ones(1), np.ones(1), 1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        curve.suggestion = 2.0
