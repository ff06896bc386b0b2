import copy
import pickle
import re
from inspect import signature

import numpy as np
import pytest
import torch
from skorch.callbacks import BatchScoring, Callback, EarlyStopping, EpochScoring
from torch import nn

from sktransfer.activations import ActivationLayout
from sktransfer.training import (
    Data,
    Mix,
    Network,
    Probabilities,
    cross_entropy,
    pinball_loss,
    train,
)
from tests._recipes import resolved_recipe

RNG = np.random.RandomState(0)
Y = torch.arange(60) % 3
Z = torch.from_numpy(RNG.randn(60, 5) + Y.numpy()[:, None]).float()
ONES = np.ones(60)
CPU = torch.device("cpu")
HERE = {"device": CPU, "seed": 0}


def make_network(dropout=0.2):
    torch.manual_seed(0)
    suffix = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(dropout))
    return Network(suffix, nn.Identity(), nn.Linear(8, 3))


def fit(weight=ONES, network=None, data=None, *, loss=cross_entropy, **settings):
    """Train on the data above; settings are those of the recipe or of `train`."""
    given = {*signature(train).parameters} - {"loss", "recipe", "device"}
    recipe = {"max_epochs": 3, "lr": 0.05, "weight_decay": 0.0, "batch_size": 16}
    recipe |= {k: v for k, v in settings.items() if k not in given}
    return train(
        make_network() if network is None else network,
        Data(Z, Y, weight) if data is None else data,
        loss=loss,
        recipe=resolved_recipe(**recipe),
        device=CPU,
        nonlinearity=Probabilities(),
        **{"seed": 0, **{k: v for k, v in settings.items() if k in given}},
    )


def weights_of(net):
    return torch.cat([p.detach().flatten() for p in net.module_.parameters()])


def order_of(seed, n=60):
    """Return the order of the samples in the first epoch."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


# Training


def test_train_learns():
    losses = fit(max_epochs=20).history[:, "train_loss"]
    assert len(losses) == 20 and losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    "settings", [{}, {"l2_sp": 0.1, "max_grad_norm": 0.5}], ids=str
)
def test_batches_in_parts_train_alike_whatever_the_number_of_threads(settings):
    def trained(n_threads, **options):
        torch.set_num_threads(n_threads)
        network = make_network(dropout=0.0)
        return weights_of(fit(network=network, batch_size=40, **settings, **options))

    before = torch.get_num_threads()
    one, several = trained(1, divides=True), trained(3, divides=True)
    torch.set_num_threads(before)
    assert torch.equal(one, several)
    torch.testing.assert_close(one, trained(before), rtol=1e-3, atol=1e-4)


def test_train_learns_a_regression():
    targets = torch.stack([Z.sum(1), Z[:, 0] - Z[:, 1]], 1)
    network = make_network(dropout=0.0)
    network.head = nn.Linear(8, 2)
    data = Data(Z, targets, ONES)
    loss = pinball_loss
    losses = fit(network=network, data=data, loss=loss, max_epochs=40).history
    assert losses[-1, "train_loss"] < 0.1 * losses[0, "train_loss"]


def test_train_keeps_the_network_that_it_was_given():
    network = make_network()
    before = network.head.weight.clone()
    net = fit(network=network)
    assert net.module_ is network
    assert not torch.equal(network.head.weight, before)


def test_seed_fixes_order_and_dropout():
    assert torch.equal(weights_of(fit()), weights_of(fit()))
    assert not torch.equal(weights_of(fit()), weights_of(fit(seed=1)))


def test_train_leaves_the_global_generators():
    network = make_network()
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    fit(network=network)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    same = np.random.get_state()[1] == numpy_state  # noqa: NPY002
    assert same.all()


def test_scale_of_the_weights_does_not_matter():
    weight = RNG.randint(1, 4, 60).astype(float)
    torch.testing.assert_close(weights_of(fit(weight)), weights_of(fit(4 * weight)))


def test_first_loss_is_the_weighted_mean_with_the_weights_at_the_start():
    weight = RNG.uniform(size=60)
    network = make_network(dropout=0.0)
    with torch.no_grad():
        losses = cross_entropy(network(Z), Y).numpy()
    net = fit(weight, network, batch_size=60)
    expected = np.average(losses, weights=weight)
    assert net.history[0, "train_loss"] == pytest.approx(expected)


def test_first_loss_with_mix_is_that_of_pairs_with_the_weights_at_the_start():
    weight = RNG.uniform(size=60)
    network = make_network(dropout=0.0)
    order = order_of(4).numpy()
    before = np.roll(order, 1)  # the partners
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(4)  # what `train` draws the share from
    share = float(Mix(ActivationLayout((5,), None), mixup=1.0)(Z)[2][0])
    torch.random.set_rng_state(torch_state)
    mixed = share * Z[order] + (1 - share) * Z[before]
    with torch.no_grad():
        logs = torch.log_softmax(network(mixed), 1).numpy()
    rows, w = np.arange(60), weight / weight.mean()
    own = w[order] * -logs[rows, Y.numpy()[order]]
    others = w[before] * -logs[rows, Y.numpy()[before]]
    mix = Mix(ActivationLayout((5,), None), mixup=1.0)
    net = fit(weight, network, mix=mix, seed=4, batch_size=60, max_epochs=1)
    expected = np.mean(share * own + (1 - share) * others)
    assert 0.01 < share < 0.99
    assert net.history[0, "train_loss"] == pytest.approx(expected, rel=1e-5)


def test_schedule_is_stepped_each_batch():
    rates = [g["lr"] for g in fit().optimizer_.param_groups]
    assert max(rates) < 1e-12  # the cosine has come to its end
    assert fit(max_epochs=1).history[-1, "train_batch_count"] == 4


def test_augmentation_is_for_training_alone():
    class Negate(nn.Module):
        def forward(self, z):
            return -z if self.training else z

    network = make_network(dropout=0.0)
    network.augment = Negate()
    plain = fit(network=make_network(dropout=0.0), data=Data(-Z, Y, ONES))
    validation = Data(-Z, Y, ONES)
    net = fit(network=network, validation=validation)
    assert torch.equal(weights_of(net), weights_of(plain))
    with torch.no_grad():
        expected = cross_entropy(net.module_.eval()(-Z), Y).mean().item()
    assert net.history[-1, "valid_loss"] == pytest.approx(expected, rel=1e-5)


def test_verbose_shows_a_bar_or_prints_a_line_an_epoch(capsys):
    net = fit(verbose=1)
    shown = capsys.readouterr()
    n = len(net.history)
    assert re.search(rf"Train: 100%\|█+\| {n}/{n}", shown.err)
    assert f"train_loss={net.history[-1, 'train_loss']:.3g}" in shown.err
    assert shown.out == ""
    pickle.loads(pickle.dumps(net.callbacks_))  # which no longer hold the bar
    fit(verbose=2)
    shown = capsys.readouterr()
    assert "train_loss" in shown.out
    assert shown.err == ""
    fit()
    assert capsys.readouterr() == ("", "")


# What moves, and how far


def test_ratio_zero_trains_the_head_alone():
    net, start = fit(backbone_lr_ratio=0.0, weight_decay=0.1), make_network()
    assert torch.equal(net.module_.suffix[0].weight, start.suffix[0].weight)
    assert not torch.equal(net.module_.head.weight, start.head.weight)


def test_parameters_that_are_frozen_stay_bit_for_bit():
    network, start = make_network(), make_network()
    network.suffix[0].weight.requires_grad_(False)
    fit(network=network, weight_decay=0.1, l2_sp=0.1, ema=0.9)
    assert torch.equal(network.suffix[0].weight, start.suffix[0].weight)
    assert not torch.equal(network.suffix[0].bias, start.suffix[0].bias)


def test_rates_go_by_the_stages_above():
    names = {"suffix.0.weight": 2, "suffix.0.bias": 0}
    settings = {"lr_schedule": "constant", "layer_decay": 0.5, "weight_decay": 0.1}
    net = fit(stages_above=names, **settings)
    rates = {
        id(p): group["lr"]
        for group in net.optimizer_.param_groups
        for p in group["params"]
    }
    found = [rates[id(p)] for p in net.module_.parameters()]
    np.testing.assert_allclose(found, [0.05 / 20, 0.05 / 5, 0.05, 0.05])


def distances(l2_sp):
    network, start = make_network(), make_network()
    fit(network=network, l2_sp=l2_sp, max_epochs=10, max_grad_norm=None)
    pairs = zip(network.parameters(), start.parameters(), strict=True)
    return [(a - b).norm().item() for a, b in pairs]


def test_l2_sp_pulls_the_suffix_towards_the_start_and_not_the_head():
    free, weak, strong = (distances(strength) for strength in (0.0, 1.0, 100.0))
    for k in (0, 1):
        assert strong[k] < weak[k] < free[k]
        assert strong[k] < 0.3 * free[k]
    for k in (2, 3):
        assert strong[k] > 0.5 * free[k]


def test_gradients_are_clipped_to_the_norm():
    norms = []

    class Norms(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            # Of all batches but the first the gradients are those after the step.
            norms.append(sum(p.grad.square().sum() for _, p in named_parameters))

    def steps(max_grad_norm):
        """Make a step with momentum, which depends on earlier gradients."""
        net = fit(
            callbacks=[Norms()],
            max_epochs=1,
            batch_size=60,
            max_grad_norm=max_grad_norm,
        )
        states = net.optimizer_.state.values()
        return sum(s["exp_avg"].square().sum() for s in states).sqrt().item() * 10

    free = steps(None)
    assert free == pytest.approx(norms[0].sqrt().item(), rel=1e-5)
    assert steps(free / 7) == pytest.approx(free / 7, rel=1e-4)
    assert steps(free * 2) == pytest.approx(free, rel=1e-5)


# Gradient accumulation


def fit_exactly(batch_size, accumulate, n=60, **settings):
    """Train in float64 and without dropout."""
    data = Data(Z[:n].double(), Y[:n], ONES[:n])
    return fit(
        network=make_network(dropout=0.0).double(),
        data=data,
        batch_size=batch_size,
        accumulate_grad_batches=accumulate,
        weight_decay=0.01,
        **settings,
    )


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "n"),
    [
        (5, 3, 60),
        (10, 2, 60),
        (10, 6, 60),
        (5, 4, 50),  # the last step of an epoch is of two batches
        (10, 4, 60),
        (10, 100, 60),  # and here no step is of so many
    ],
)
@pytest.mark.parametrize("changes", [{}, {"l2_sp": 0.1, "max_grad_norm": 0.01}])
def test_batches_that_are_accumulated_are_one_large_batch(
    batch_size, accumulate, n, changes
):
    small = fit_exactly(batch_size, accumulate, n, **changes)
    large = fit_exactly(min(n, batch_size * accumulate), 1, n, **changes)
    torch.testing.assert_close(weights_of(small), weights_of(large))
    steps = {int(s["step"]) for s in small.optimizer_.state.values()}
    assert steps == {3 * -(-n // (batch_size * accumulate))}
    np.testing.assert_allclose(
        small.history[:, "train_loss"], large.history[:, "train_loss"]
    )


def test_schedule_counts_steps_and_not_batches():
    rates = [
        [g["lr"] for g in fit_exactly(10, k, max_epochs=5).optimizer_.param_groups]
        for k in (1, 4)
    ]
    assert np.max(rates) < 1e-12  # both have come to the end of the cosine


def test_weights_stay_between_the_steps():
    seen = []

    class DivergenceCheck(Callback):
        def on_batch_end(self, net, training, **kwargs):
            seen.append(weights_of(net).clone())

    fit_exactly(10, 4, max_epochs=1, callbacks=[DivergenceCheck()])
    start = weights_of_network(make_network().double())
    moved = [not torch.equal(a, b) for a, b in zip(seen, [start, *seen], strict=False)]
    assert moved == [False, False, False, True, False, True]


def weights_of_network(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_gradients_left_by_another_training_do_not_count():
    network = make_network()
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    assert torch.equal(weights_of(fit(network=network)), weights_of(fit()))


# Too little memory


class Tight(nn.Module):
    """Module with memory for a number of samples, which falls after some batches."""

    def __init__(self, *rooms):
        super().__init__()
        self.rooms = list(rooms)

    def forward(self, z):
        room = self.rooms.pop(0) if len(self.rooms) > 1 else self.rooms[0]
        if len(z) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return z


def fit_tight(*rooms, **settings):
    network = make_network(dropout=0.0)
    network.pool = Tight(*rooms)
    return fit(network=network, **settings)


@pytest.mark.parametrize("settings", [{}, {"l2_sp": 0.1}, {"batch_size": 60}])
def test_batches_too_large_go_in_parts(settings):
    with pytest.warns(UserWarning, match="too small for so many .* going on with"):
        small = fit_tight(4, **settings)
    large = fit_tight(60, **settings)
    torch.testing.assert_close(weights_of(small), weights_of(large))
    np.testing.assert_allclose(
        small.history[:, "train_loss"], large.history[:, "train_loss"], rtol=1e-5
    )
    assert small.module_.pool.rooms == [4] and small._at_a_time <= 4


def test_size_that_fits_is_found_once():
    with pytest.warns(UserWarning, match="going on with") as caught:
        fit_tight(4)
    said = [str(w.message) for w in caught]
    assert [text.split()[-4].rstrip(".") for text in said] == ["8", "4"], said


@pytest.mark.filterwarnings("ignore:The memory of cpu is too small for so many")
def test_halving_raises_if_one_sample_does_not_fit():
    text = (
        "^The memory of cpu is too small for one sample. Freeze more stages with "
        "`freeze`. Take a smaller `image_size` or backbone, or device='cpu'.$"
    )
    with pytest.raises(MemoryError, match=text):
        fit_tight(0)


@pytest.mark.filterwarnings("ignore:The memory of cpu is too small for so many")
def test_memory_that_runs_out_within_a_step():
    text = (
        "^cpu ran out of memory within a step, after the gradients of other batches "
        "were added. Take a smaller `batch_size` and a larger "
        r"`accumulate_grad_batches` \(it is 2\).$"
    )
    with pytest.raises(MemoryError, match=text):
        fit_tight(60, 4, accumulate_grad_batches=2)
    fit_tight(60, 60, 4, accumulate_grad_batches=2)  # at the beginning of a step


# What ends a training


class Count(Callback):
    def __init__(self, seen, error=None):
        self.seen = seen
        self.error = error

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(len(net.history))
        if self.error is not None and len(net.history) == 2:
            raise self.error


class Shared(list):
    """A list that scikit-learn's clone does not copy."""

    def __deepcopy__(self, memo):
        return self

    def __sklearn_clone__(self):
        return self


def test_callbacks_of_the_user_are_copied_and_called():
    seen = Shared()
    mine = Count(seen)
    net = fit(callbacks=[("mine", mine)])
    assert seen == [1, 2, 3]
    assert dict(net.callbacks_)["mine"] is not mine


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupt_and_errors_come_through(error):
    seen = Shared()
    with pytest.raises(error):
        fit(callbacks=[Count(seen, error)])
    assert seen == [1, 2]


def test_early_stopping_of_skorch_stops():
    stop = EarlyStopping("train_loss", patience=2, threshold=0.9)
    net = fit(callbacks=[stop], max_epochs=10)
    assert len(net.history) == 3
    same = fit(max_epochs=10, callbacks=[Count(Shared())])
    assert net.history[:, "train_loss"] == same.history[:3, "train_loss"]


def test_interrupt_beside_early_stopping_of_skorch_comes_through():
    stop = EarlyStopping("train_loss", patience=9)
    with pytest.raises(KeyboardInterrupt):
        fit(callbacks=[stop, Count(Shared(), KeyboardInterrupt)])


def share_right(net, X, y):
    return float((net.predict(X) == np.asarray(y)).mean())


@pytest.mark.parametrize("batch_size", [16, 59, 7], ids=["rest", "one more", "many"])
def test_scores_of_skorch(batch_size):
    held = Data(Z[:21], Y[:21], ONES[:21])
    scores = {
        "train": EpochScoring(share_right, on_train=True, name="train"),
        "valid": EpochScoring(share_right, name="valid"),
        "loss": EpochScoring("neg_log_loss", on_train=True, name="loss"),
        "named": EpochScoring("accuracy", on_train=True, name="named"),
        "batch": BatchScoring(share_right, name="batch"),
        "again": EpochScoring(share_right, use_caching=False, name="again"),
        "train again": EpochScoring(
            share_right, on_train=True, use_caching=False, name="train again"
        ),
    }
    net = fit(
        network=make_network(dropout=0.0),
        callbacks=[*scores.items()],
        validation=held,
        batch_size=batch_size,
    )
    last = net.history[-1]
    assert all(0 <= last[name] <= 1 for name in ("train", "batch"))
    assert last["loss"] < 0 and last["named"] == last["train"]
    assert last["again"] == last["valid"] == share_right(net, Z[:21], Y[:21])
    assert last["train again"] == share_right(net, Z, Y)


def test_divergence_raises_with_a_hint():
    message = re.escape(
        "Take a lower `lr` (it is 1e+06) or a lower `backbone_lr_ratio`."
    )
    begin = r"^The training diverged: the loss of epoch \d+ is (nan|inf). "
    with pytest.raises(ValueError, match=f"{begin}{message}$"):
        fit(lr=1e6, weight_decay=0.01, max_epochs=30)


def test_loss_that_is_not_finite_ends_the_first_epoch():
    seen = Shared()
    z = Z.clone()
    z[7] = torch.nan
    with pytest.raises(ValueError, match="^The training diverged: .* epoch 1 is nan"):
        fit(data=Data(z, Y, ONES), callbacks=[Count(seen)])
    assert len(seen) <= 1


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (nn.CrossEntropyLoss(reduction="none"), Y),
        (lambda scores, y: ((scores - y) ** 4).mean(1), torch.stack([Z.sum(1)] * 3, 1)),
    ],
    ids=["classification", "regression"],
)
def test_any_callable_is_a_loss(loss, targets):
    losses = fit(data=Data(Z, targets, ONES), loss=loss, max_epochs=20).history
    assert losses[-1, "train_loss"] < 0.6 * losses[0, "train_loss"]


# Validation


def test_validation_loss_is_that_of_the_validation_samples():
    weight = RNG.uniform(size=60)
    held = Data(Z[::2] + 1, Y[::2], weight[::2])
    net = fit(validation=held)
    with torch.no_grad():
        losses = cross_entropy(net.module_.eval()(held.activations), held.y)
    expected = np.average(losses, weights=weight[::2])
    # skorch averages over batches by their sizes, whose weights sum to more or less.
    assert net.history[-1, "valid_loss"] == pytest.approx(expected, rel=1e-5)
    assert torch.equal(weights_of(net), weights_of(fit()))


def test_without_validation_there_is_no_validation_loss():
    net = fit(early_stopping=True)
    assert "valid_loss" not in net.history[-1] and len(net.history) == 3


def test_validation_is_by_the_averaged_weights():
    held = Data(Z[::2] + 1, Y[::2], ONES[::2])
    net = fit(validation=held, ema=0.9)  # which has the averages in the end
    with torch.no_grad():
        expected = cross_entropy(net.module_.eval()(held.activations), held.y).mean()
    assert net.history[-1, "valid_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert not torch.equal(weights_of(net), weights_of(fit()))
    with net.averaged():  # nothing is left to put in
        assert net.history[-1, "valid_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_without_averages_the_weights_are_unchanged():
    net = fit()
    before = copy.deepcopy(net.module_.state_dict())
    with net.averaged():
        for name, value in net.module_.state_dict().items():
            assert torch.equal(value, before[name]), name


def test_chance_loss_is_that_of_the_whole_epoch():
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(4, 1))
    y = torch.zeros(24, 1)
    y[-1] = 30.0  # in one batch of three
    z = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
    for seed in range(3):  # in whichever it is
        train(
            network,
            Data(z, y, np.ones(24)),
            loss=lambda scores, y: ((scores - y) ** 2).mean(1),
            recipe=resolved_recipe(
                max_epochs=3, lr=1e-4, weight_decay=0.0, batch_size=8
            ),
            device=CPU,
            seed=seed,
        )


def test_training_that_ends_above_chance_warns():
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(4, 3))
    z, y = torch.randn(24, 4), torch.arange(24) % 3
    recipe = resolved_recipe(max_epochs=3, lr=1e3, weight_decay=0.0, batch_size=8)
    message = (
        r"^The training did not converge: its last loss, .*, is above the loss of "
        r"chance, 1.1. Take a lower `lr` \(it is 1000\) or more"
    )
    with pytest.warns(UserWarning, match=message):
        train(
            network, Data(z, y, np.ones(24)), loss=cross_entropy, recipe=recipe, **HERE
        )
