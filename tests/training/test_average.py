import io
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from sktransfer.compute import use_channels_last
from sktransfer.training import Network
from sktransfer.training._average import WeightAverage

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
    """Values of all tensors at the start and after each batch, in float64."""

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
    """Weigh the start and the values after each step, as the recursion comes to."""
    steps = np.arange(len(values) - 1)
    decays = np.minimum(decay, (1 + steps) / (10 + steps))
    kept = np.append(np.cumprod(decays[::-1])[::-1], 1.0)  # from step k to the end
    weights = np.append(kept[0], (1 - decays) * kept[1:])
    np.testing.assert_allclose(weights.sum(), 1.0)
    return sum(w * value for w, value in zip(weights, values, strict=True))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_averages_are_those_of_the_closed_form(decay):
    average, record = WeightAverage(decay), Record()
    make_net(average, ("record", record)).fit(Z, Y)
    assert average.n_updates_ == 20 and len(record.values_) == 21
    assert [*average.averages_] == LEARNED
    for name in LEARNED:
        values = [values[name] for values in record.values_]
        assert np.ptp(values, axis=0).max() > 0.01
        expected = average_in_closed_form(values, decay)
        found = average.averages_[name].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_averages_are_copies_of_learned_tensors_alone():
    average, network = WeightAverage(0.9), make_network()
    network.register_buffer("mask", torch.full((2,), -torch.inf))
    net = make_net(average, network=network).fit(Z, Y)
    assert [*average.averages_] == LEARNED
    pointers = {t.data_ptr() for t in net.module_.state_dict().values()}
    assert not pointers & {t.data_ptr() for t in average.averages_.values()}
    assert not any(t.requires_grad for t in average.averages_.values())


def test_fixed_statistics_stay_bit_identical():
    average, network = WeightAverage(0.9), make_network()
    norm = network.suffix[1]
    norm.running_var.uniform_(0.1, 3)
    norm.momentum = 0.0
    before = norm.running_var.clone()
    make_net(average, network=network).fit(Z, Y)
    assert torch.equal(average.averages_["suffix.1.running_var"], before)


def test_training_is_the_same_with_an_average():
    plain = make_net(WeightAverage(0.9), network=make_network())
    plain.set_params(callbacks__average=None)
    plain.fit(Z, Y)
    averaged = make_net(WeightAverage(0.9)).fit(Z, Y)
    for name, value in values_of(plain.module_).items():
        np.testing.assert_array_equal(values_of(averaged.module_)[name], value)


def test_module_has_the_averages_inside_the_block_alone():
    average = WeightAverage(0.9)
    module = make_net(average).fit(Z, Y).module_.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    pointers = [p.data_ptr() for p in module.parameters()]
    expected = torch.func.functional_call(module, average.averages_, (Z,))
    own = module(Z)
    with average.averaged(module) as same:
        assert same is module
        assert torch.equal(module(Z), expected) and not torch.equal(expected, own)
        with average.averaged(module):
            assert torch.equal(module(Z), expected)
        assert torch.equal(module(Z), expected)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [p.data_ptr() for p in module.parameters()] == pointers


def test_module_has_its_own_weights_after_an_exception():
    average = WeightAverage(0.9)
    module = make_net(average).fit(Z, Y).module_
    before = values_of(module)
    with pytest.raises(KeyError, match="inside"), average.averaged(module):
        raise KeyError("inside")
    for name, value in values_of(module).items():
        np.testing.assert_array_equal(value, before[name])


def test_training_goes_on_as_if_there_had_been_no_block():
    class Look(Callback):
        def on_epoch_end(self, net, **kwargs):
            with average.averaged(net.module_):
                net.evaluation_step((Z, Y))

    average, other = WeightAverage(0.9), WeightAverage(0.9)
    looked = make_net(average, ("look", Look())).fit(Z, Y)
    plain = make_net(other).fit(Z, Y)
    for name, value in values_of(plain.module_).items():
        np.testing.assert_array_equal(values_of(looked.module_)[name], value)
    for name, value in other.averages_.items():
        assert torch.equal(average.averages_[name], value)


def test_apply_puts_the_averages_there_and_forgets_them():
    average = WeightAverage(0.9)
    module = make_net(average).fit(Z, Y).module_
    expected = {k: v.clone() for k, v in average.averages_.items()}
    average.apply(module)
    for name, value in expected.items():
        assert torch.equal(module.state_dict()[name], value)
    assert average.averages_ == {} and average.n_updates_ == 0
    assert module.head.weight.requires_grad
    with average.averaged(module):
        assert torch.equal(module.head.weight, expected["head.weight"])


def test_interrupted_training_goes_on_exactly():
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
    net.partial_fit(Z, Y)
    assert second.n_updates_ == whole.n_updates_ == 20
    for name, value in values_of(expected.module_).items():
        np.testing.assert_array_equal(values_of(net.module_)[name], value)
    for name, value in whole.averages_.items():
        assert torch.equal(second.averages_[name], value)
        assert torch.equal(state["average"]["averages"][name], first.averages_[name])


def test_loaded_state_is_copied():
    state = {"n_updates": 3, "averages": {"head.bias": torch.zeros(1)}}
    average = WeightAverage(0.9)
    average.load_state_dict(state)
    average.averages_["head.bias"] += 1
    assert state["averages"]["head.bias"].item() == 0
    assert average.state_dict()["n_updates"] == 3


@pytest.mark.parametrize(
    ("name", "shape"), [("head.scale", (1,)), ("head.weight", (2, 4))]
)
def test_state_of_another_network_raises(name, shape):
    average = WeightAverage(0.9)
    average.load_state_dict({"n_updates": 3, "averages": {name: torch.zeros(shape)}})
    with pytest.raises(ValueError, match="must be those of this network") as error:
        average.apply(make_network())
    assert f"Got '{name}' of shape {shape}, which it does not have." in str(error.value)
    assert "Load the state that was saved with this network." in str(error.value)


def test_unfrozen_weights_join_with_the_values_that_they_had():
    class Unfreeze(Callback):
        def on_epoch_begin(self, net, **kwargs):
            net.module_.suffix[0].requires_grad_(len(net.history) > 2)

    average, record = WeightAverage(0.9), Record()
    name = "suffix.0.weight"
    start = make_network().suffix[0].weight.detach().double().numpy()
    net = make_net(average, ("record", record), ("unfreeze", Unfreeze())).fit(Z, Y)
    assert [*average.averages_][-2:] == [name, "suffix.0.bias"]
    values = [values[name] for values in record.values_]
    np.testing.assert_array_equal(values[10], start)
    expected = start
    for t in range(10, 20):
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * values[t + 1]
    assert np.abs(values[20] - start).max() > 1e-3
    np.testing.assert_allclose(average.averages_[name], expected, atol=1e-6)
    assert net.module_.suffix[0].weight.requires_grad


def test_steps_of_the_optimiser_count_and_not_batches():
    class Accumulate(NeuralNet):
        def train_step(self, batch, **fit_params):
            step = self.train_step_single(batch, **fit_params)
            if len(self.history[-1, "batches"]) == 5:
                self.optimizer_.step()
                self.optimizer_.zero_grad()
            return step

    average = WeightAverage(0.9)
    make_net(average, kind=Accumulate).fit(Z, Y)
    assert average.n_updates_ == 4


def test_a_training_that_failed_leaves_one_update_a_step():
    class FailOnce(Callback):
        failed = False

        def on_epoch_end(self, net, **kwargs):
            if not self.failed:
                self.failed = True
                raise RuntimeError("no more space")

    average = WeightAverage(0.9)
    net = make_net(average, ("fail", FailOnce()))
    with pytest.raises(RuntimeError, match="no more space"):
        net.fit(Z, Y)
    assert average.n_updates_ == 5
    net.partial_fit(Z, Y)
    assert average.n_updates_ == 25


def test_optimiser_is_not_followed_after_training():
    average = WeightAverage(0.9)
    net = make_net(average).fit(Z, Y)
    net.optimizer_.step()
    assert average.n_updates_ == 20


def test_second_fit_starts_anew():
    average = WeightAverage(0.9)
    net = make_net(average).fit(Z, Y)
    net.fit(Z, Y)
    assert average.n_updates_ == 20


def test_clone_has_the_decay_and_no_averages():
    average = WeightAverage(0.9)
    make_net(average).fit(Z, Y)
    copy = clone(average)
    assert copy.get_params() == {"decay": 0.9} and copy.averages_ == {}


def test_average_pickles_in_the_middle_of_training():
    average, dump = WeightAverage(0.9), Dump()
    make_net(average, ("dump", dump)).set_params(max_epochs=2).fit(Z, Y)
    net = pickle.loads(dump.dumped_)
    copy = dict(net.callbacks_)["average"]
    assert copy.n_updates_ == 10
    for name, value in average.averages_.items():
        assert torch.equal(copy.averages_[name], value)
    net.partial_fit(Z, Y)
    assert copy.n_updates_ == 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_averages_take_the_strides_and_the_dtype_of_the_module(dtype):
    module = use_channels_last(nn.Sequential(nn.Conv2d(3, 4, 3))).to(dtype)
    weight = module[0].weight
    loaded = {"0.weight": torch.randn(4, 3, 3, 3), "0.bias": torch.randn(4)}
    average = WeightAverage(0.9)
    average.load_state_dict({"n_updates": 3, "averages": loaded})
    strides = weight.stride()
    assert strides != loaded["0.weight"].stride()
    with average.averaged(module):
        assert weight.stride() == strides and weight.dtype == dtype
        assert torch.equal(weight, loaded["0.weight"].to(dtype))
