import copy
import io
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from sktransfer.compute import use_channels_last
from sktransfer.training import Data, Network, cross_entropy, train
from sktransfer.training._callbacks import BestWeights, WeightAverage
from tests._recipes import resolved_recipe

Z = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = Z.sum(1, keepdim=True) ** 2
LEARNED = [
    "suffix.1.weight",
    "suffix.1.bias",
    "head.weight",
    "head.bias",
    "suffix.1.running_mean",
    "suffix.1.running_var",
]


class Record(Callback):
    """Record all tensors at the start and after each batch, in float64."""

    def initialize(self):
        self.values_ = []
        return self

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.values_.append(values_of(net.module_))

    def on_batch_end(self, net, training=None, **kwargs):
        if training:
            self.values_.append(values_of(net.module_))


class Dump(Callback):
    def on_epoch_end(self, net, **kwargs):
        self.dumped_ = None  # that of the epoch before
        self.dumped_ = pickle.dumps(net)


def values_of(module):
    state = module.state_dict()
    return {name: value.double().numpy().copy() for name, value in state.items()}


def make_network():
    torch.manual_seed(0)
    suffix = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh())
    suffix[0].requires_grad_(False)
    return Network(suffix, nn.Identity(), nn.Linear(4, 1))


def make_net(average, *callbacks, kind=NeuralNet, network=None):
    network = make_network() if network is None else network
    return kind(
        network,
        criterion=nn.MSELoss,
        optimizer=torch.optim.SGD,
        lr=0.1,
        batch_size=8,
        max_epochs=4,
        train_split=None,
        verbose=0,
        callbacks=[("average", average), *callbacks],
    )


def average_in_closed_form(values, decay):
    """Return the weighted mean of the values after each step, in closed form."""
    steps = np.arange(len(values) - 1)
    decays = np.minimum(decay, (1 + steps) / (10 + steps))
    kept = np.append(np.cumprod(decays[::-1])[::-1], 1.0)  # from step k to the end
    weights = np.append(kept[0], (1 - decays) * kept[1:])
    np.testing.assert_allclose(weights.sum(), 1.0)
    return sum(w * value for w, value in zip(weights, values, strict=True))


def averages_of(average):
    """Return copies of the averages by tensor name."""
    tensors = [a.detach().clone() for _, a in average._pairs()]
    return dict(zip(LEARNED, tensors, strict=True))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_averages_are_those_of_the_closed_form(decay):
    average, record = WeightAverage(decay), Record()
    make_net(average, ("record", record)).fit(Z, Y)
    assert len(record.values_) == 21
    for name, found in averages_of(average).items():
        values = [values[name] for values in record.values_]
        assert np.ptp(values, axis=0).max() > 0.01
        expected = average_in_closed_form(values, decay)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_averages_are_copies_of_learned_tensors_alone():
    average, network = WeightAverage(0.9), make_network()
    network.register_buffer("mask", torch.full((2,), -torch.inf))
    network.suffix[1].momentum = 0.0  # fixes the statistics
    network.suffix[1].running_var.uniform_(0.1, 3)
    fixed = network.suffix[1].running_var.clone()
    net = make_net(average, network=network).fit(Z, Y)
    state = net.module_.state_dict()
    assert [*averages_of(average)] == LEARNED
    assert [t.data_ptr() for t, _ in average._pairs()] == [
        state[name].data_ptr() for name in LEARNED
    ]
    pointers = {t.data_ptr() for t in state.values()}
    assert not pointers & {a.data_ptr() for _, a in average._pairs()}
    assert torch.equal(averages_of(average)["suffix.1.running_var"], fixed)


def test_training_is_the_same_with_an_average():
    plain = make_net(WeightAverage(0.9))
    plain.set_params(callbacks__average=None)
    plain.fit(Z, Y)
    averaged = make_net(WeightAverage(0.9)).fit(Z, Y)
    for name, value in values_of(plain.module_).items():
        np.testing.assert_array_equal(values_of(averaged.module_)[name], value)


def test_network_has_the_averages_in_the_context_alone():
    average = WeightAverage(0.9)
    module = make_net(average).fit(Z, Y).module_.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    pointers = [p.data_ptr() for p in module.parameters()]
    expected = torch.func.functional_call(module, averages_of(average), (Z,))
    own = module(Z)
    with average.averaged():
        assert torch.equal(module(Z), expected) and not torch.equal(expected, own)
        with average.averaged():
            assert torch.equal(module(Z), expected)
        assert torch.equal(module(Z), expected)
    with pytest.raises(KeyError, match="inside"), average.averaged():
        raise KeyError("inside")
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [p.data_ptr() for p in module.parameters()] == pointers


def test_context_of_averages_does_not_change_the_training():
    class Look(Callback):
        def on_epoch_end(self, net, **kwargs):
            with average.averaged():
                net.evaluation_step((Z, Y))

    average, other = WeightAverage(0.9), WeightAverage(0.9)
    looked = make_net(average, ("look", Look())).fit(Z, Y)
    plain = make_net(other).fit(Z, Y)
    for name, value in values_of(plain.module_).items():
        np.testing.assert_array_equal(values_of(looked.module_)[name], value)
    found = averages_of(average)
    for name, value in averages_of(other).items():
        assert torch.equal(found[name], value)


def test_apply_copies_the_averages_and_discards_them():
    average = WeightAverage(0.9)
    module = make_net(average).fit(Z, Y).module_
    expected = averages_of(average)
    average.apply()
    for name, value in expected.items():
        assert torch.equal(module.state_dict()[name], value)
    assert average.average_ is None and average.state_dict() == {}
    assert module.head.weight.requires_grad
    with average.averaged():
        assert torch.equal(module.head.weight, expected["head.weight"])


def test_interrupted_training_resumes_exactly():
    whole = WeightAverage(0.9)
    expected = make_net(whole).fit(Z, Y)
    first = WeightAverage(0.9)
    net = make_net(first).set_params(max_epochs=2).fit(Z, Y)
    file = io.BytesIO()
    state = {"module": net.module_.state_dict(), "average": first.state_dict()}
    torch.save(state, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second = WeightAverage(0.9)
    net = make_net(second).set_params(max_epochs=2).initialize()
    net.module_.load_state_dict(state["module"])
    second.load_state_dict(state["average"])
    assert second.state_dict() is state["average"]
    net.partial_fit(Z, Y)
    for name, value in values_of(expected.module_).items():
        np.testing.assert_array_equal(values_of(net.module_)[name], value)
    found, before = averages_of(second), averages_of(first)
    for i, (name, value) in enumerate(averages_of(whole).items()):
        assert torch.equal(found[name], value)
        if i < 4:  # the state that was loaded is copied
            assert torch.equal(state["average"][f"module.{i}"], before[name])


def test_averages_count_steps_instead_of_batches():
    class Accumulate(NeuralNet):
        def train_step(self, batch, **fit_params):
            step = self.train_step_single(batch, **fit_params)
            self.has_stepped = len(self.history[-1, "batches"]) == 5
            if self.has_stepped:
                self.optimizer_.step()
                self.optimizer_.zero_grad()
            return step

    average = WeightAverage(0.9)
    make_net(average, kind=Accumulate).fit(Z, Y)
    assert average.average_.n_averaged == 1 + 4  # the start, and a step per epoch


def test_second_fit_starts_again_and_a_clone_has_no_averages():
    average = WeightAverage(0.9)
    net = make_net(average).fit(Z, Y)
    net.fit(Z, Y)
    assert average.average_.n_averaged == 21
    copied = clone(average)
    assert copied.get_params() == {"decay": 0.9} and copied.average_ is None


def test_average_pickles_in_the_middle_of_training():
    average, dump = WeightAverage(0.9), Dump()
    make_net(average, ("dump", dump)).set_params(max_epochs=2).fit(Z, Y)
    net = pickle.loads(dump.dumped_)
    copied = dict(net.callbacks_)["average"]
    found = averages_of(copied)
    for name, value in averages_of(average).items():
        assert torch.equal(found[name], value)
    net.partial_fit(Z, Y)
    assert copied.average_.n_averaged == 21
    state = net.module_.state_dict()
    for (tensor, _), name in zip(copied._pairs(), LEARNED, strict=True):
        assert tensor.data_ptr() == state[name].data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_averages_keep_the_strides_and_the_dtype_of_the_network(dtype):
    module = use_channels_last(nn.Sequential(nn.Conv2d(3, 4, 3))).to(dtype)
    average = WeightAverage(0.9)
    loaded = {"module.0": torch.randn(4, 3, 3, 3), "module.1": torch.randn(4)}
    average.load_state_dict({"n_averaged": torch.tensor(4), **loaded})
    weight = module[0].weight
    strides = weight.stride()
    assert strides != loaded["module.0"].stride()
    average.on_train_begin(SimpleNamespace(module_=module))
    with average.averaged():
        assert weight.stride() == strides and weight.dtype == dtype
        assert torch.equal(weight, loaded["module.0"].to(dtype))


RNG = np.random.RandomState(0)
CLASSES = torch.arange(60) % 3
INPUTS = torch.from_numpy(RNG.randn(60, 5) + CLASSES.numpy()[:, None]).float()
HELD = Data(INPUTS[::3] + 0.5, CLASSES[::3], np.ones(20))


class Scripted:
    """Net with one weight and given validation losses."""

    def __init__(self, losses):
        self.module_ = nn.BatchNorm1d(1)
        self.module_.bias.requires_grad_(False)
        self.losses = losses
        self.recorded = []

    @property
    def history(self):
        return self

    def __getitem__(self, key):
        assert key == -1
        row = self.losses[len(self.recorded)]
        return row if isinstance(row, dict) else {"valid_loss": row}

    def record(self, name, value):
        assert name == "valid_best"
        self.recorded.append(value)

    def averaged(self):
        return torch.no_grad()


def run(losses, patience):
    """Run epochs that each set weight and statistics to the epoch's number."""
    net, best = Scripted(losses), BestWeights(patience).initialize()
    for epoch in range(1, len(losses) + 1):
        if best.is_out_of_patience:
            break
        with torch.no_grad():
            net.module_.weight.fill_(epoch)
            net.module_.bias.fill_(epoch)  # frozen: nobody moves it in truth
            net.module_.running_mean.fill_(epoch)
        best.on_epoch_end(net)
    best.on_train_end(net)
    return net


@pytest.mark.parametrize(
    ("losses", "patience", "kept", "n_epochs"),
    [
        ([3, 2, 1], 1, 3, 3),
        ([3, 2, 2.5, 1], 1, 2, 3),
        ([3, 2, 2.5, 1], 2, 4, 4),
        ([3, 2, 2, 2, 1], 2, 2, 4),  # as low is no lower
        ([1, 2, 2, 2, 2], 3, 1, 4),
        ([1, 2, 0.5, 2, 2, 2], 2, 3, 5),
        ([1, float("nan"), 0.5], 2, 3, 3),
        ([1, float("nan"), float("nan"), 0.5], 2, 1, 3),
        ([float("nan"), float("nan"), 0.5], 2, 2, 2),  # none was best
    ],
)
def test_best_epoch_is_restored_and_patience_ends(losses, patience, kept, n_epochs):
    net = run(losses, patience)
    assert len(net.recorded) == n_epochs
    assert net.module_.weight.item() == kept
    assert net.module_.running_mean.item() == kept


def test_accuracy_decides_and_then_the_loss():
    pairs = [(0.5, 1.0), (0.6, 3.0), (0.6, 2.0), (0.6, 2.0), (0.5, 0.1)]
    rows = [{"valid_accuracy": a, "valid_loss": loss} for a, loss in pairs]
    net = run(rows, 9)
    assert net.recorded == [True, True, True, False, False]
    assert net.module_.weight.item() == 3


def test_epochs_are_marked_where_the_loss_fell():
    assert run([3, 2, 2, 1, 5], 9).recorded == [True, True, False, True, False]


def test_frozen_parameters_are_not_kept():
    net = run([1, 2, 3], 9)
    assert net.module_.weight.item() == 1
    assert net.module_.bias.item() == 3


def test_initialize_resets_the_state():
    best, net = BestWeights(1), Scripted([1, 2])
    best.initialize()
    best.on_epoch_end(net)
    best.on_epoch_end(net)
    assert best.is_out_of_patience
    assert best.initialize() is best
    assert not best.is_out_of_patience and best.weights_ is None
    before = copy.deepcopy(net.module_.state_dict())
    best.on_train_end(net)  # there is nothing to restore
    assert all(torch.equal(v, before[k]) for k, v in net.module_.state_dict().items())


def test_state_is_resumed():
    first, net = BestWeights(2).initialize(), Scripted([1, 2, 3])
    first.on_epoch_end(net)
    first.on_epoch_end(net)
    second = BestWeights(2).initialize()
    second.load_state_dict(first.state_dict())
    assert not second.is_out_of_patience
    second.on_epoch_end(net)
    assert second.is_out_of_patience and net.recorded == [True, False, False]
    assert (second.best_, second.weights_["weight"].item()) == ((0.0, -1), 1.0)


class Snapshots(Callback):
    """Record the weights of each validation."""

    seen = None

    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        with net.averaged():
            self.seen.append(copy.deepcopy(net.module_.state_dict()))


def train_early_stopping(**changes):
    torch.manual_seed(0)
    layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)]
    network = Network(nn.Sequential(*layers), nn.Identity(), nn.Linear(8, 3))
    network.suffix[0].bias.requires_grad_(False)
    settings = {"max_epochs": 40, "lr": 0.05, "batch_size": 16, "n_iter_no_change": 3}
    return train(
        network,
        Data(INPUTS, CLASSES, np.ones(60)),
        loss=cross_entropy,
        recipe=resolved_recipe(**{**settings, "early_stopping": True, **changes}),
        device=torch.device("cpu"),
        seed=3,
        validation=HELD,
        callbacks=[("snapshots", Snapshots())],
    )


@pytest.mark.parametrize("ema", [None, 0.8])
def test_training_ends_with_the_weights_of_the_lowest_validation_loss(ema):
    net = train_early_stopping(ema=ema)
    losses = net.history[:, "valid_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 4 < 40
    assert np.flatnonzero(net.history[:, "valid_best"])[-1] == best
    kept = dict(net.callbacks_)["snapshots"].seen
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, kept[best][name]), name
    with torch.no_grad():
        loss = cross_entropy(net.module_.eval()(HELD.activations), HELD.y).mean()
    assert loss.item() == pytest.approx(min(losses), rel=1e-5)


def test_training_that_only_harms_ends_with_the_weights_of_the_start():
    net = train_early_stopping(lr=5.0, n_iter_no_change=2)
    untrained = train_early_stopping(lr=1e-30, max_epochs=1)
    assert not any(net.history[:, "valid_best"]) and len(net.history) == 2
    weights = net.module_.state_dict()
    for name, value in untrained.module_.state_dict().items():
        if "running" not in name and "num_batches" not in name:
            assert torch.allclose(weights[name], value, atol=1e-20), name


def test_validation_of_the_start_is_that_of_epochs():
    net = train_early_stopping(lr=1e-30, max_epochs=1, dropout=0.0)
    callback = net.find_callback(BestWeights)
    assert callback.best_[1] == pytest.approx(-net.history[-1, "valid_loss"], abs=1e-2)


@pytest.mark.parametrize(("n_epochs", "given"), [(5, 5), (50, "auto")])
def test_patience_is_at_least_a_hundred_steps(n_epochs, given):
    """With two steps per epoch."""
    net = train_early_stopping(lr=1e-30, n_iter_no_change=given, batch_size=32)
    assert net.find_callback(BestWeights).patience == n_epochs


def test_training_without_early_stopping_ends_with_the_last_weights():
    net = train_early_stopping(early_stopping=False, max_epochs=15)
    last = dict(net.callbacks_)["snapshots"].seen[-1]
    assert len(net.history) == 15
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, last[name]), name


def test_nets_are_silent_and_pickled_where_print_was_replaced(monkeypatch):
    def replaced(*values, **settings):
        raise AssertionError

    monkeypatch.setattr("builtins.print", replaced)  # as Ray does
    how = cross_entropy, resolved_recipe(max_epochs=1), torch.device("cpu"), 3
    how = dict(zip(("loss", "recipe", "device", "seed"), how, strict=True))
    data = Data(INPUTS, CLASSES, np.ones(60))
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(5, 3))
    pickle.dumps(train(network, data, **how))
    with pytest.raises(AssertionError):
        train(network, data, **how, verbose=2)
