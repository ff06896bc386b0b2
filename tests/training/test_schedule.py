import io
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    MultiStepLR,
    ReduceLROnPlateau,
    StepLR,
)

from sktransfer.training import Network
from sktransfer.training._schedule import (
    LR_SCHEDULES,
    annealed,
    parameter_groups,
    schedule_callback,
    warmup_constant,
    warmup_cosine,
)

RNG = np.random.RandomState(0)
X = RNG.randn(20, 3).astype(np.float32)
Y = RNG.randn(20, 1).astype(np.float32)
BATCHES = 5  # an epoch
CALLABLES = {
    "step": partial(StepLR, step_size=2),
    "milestones": partial(MultiStepLR, milestones=[1, 3]),
    "exponential": partial(ExponentialLR, gamma=0.5),
    "annealing": partial(CosineAnnealingLR, T_max=6),
    "plateau": partial(ReduceLROnPlateau, patience=0, threshold=0.5, cooldown=1),
    "own": lambda optimizer: StepLR(optimizer, step_size=1),
}


class Rates(Callback):
    """Record the rates and the first betas of each batch."""

    def __init__(self):
        self.seen_ = []

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        if training:
            groups = net.optimizer_.param_groups
            self.seen_.append([(g["lr"], g["betas"][0]) for g in groups])


def make_net(lr_schedule, *, epochs=6, batch_size=4, **changes):
    """Return a net with two parameter groups, whose rates are 0.1 and 0.02."""
    torch.manual_seed(0)
    settings = {
        "criterion": nn.MSELoss,
        "optimizer": torch.optim.AdamW,
        "optimizer__param_groups": [("0.*", {"lr": 0.02})],
        "lr": 0.1,
        "max_epochs": epochs,
        "batch_size": batch_size,
        "train_split": None,
        "verbose": 0,
    }
    n_steps = epochs * -(-len(X) // batch_size)
    return NeuralNet(
        nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1)),
        callbacks=[
            ("schedule", schedule_callback(lr_schedule, n_steps)),
            ("rates", Rates()),
        ],
        **{**settings, **changes},
    )


def callback_of(net, name):
    return dict(net.callbacks_)[name]


def rates_of(net):
    """Return rates and betas, of shape (n_batches, n_groups, 2)."""
    return np.array(callback_of(net, "rates").seen_)


def schedules():
    named = [pytest.param(name, id=name) for name in LR_SCHEDULES]
    return named + [pytest.param(make, id=name) for name, make in CALLABLES.items()]


def one_cycle(position):
    """Return the factor and momentum of fastai at a position in [0, 1)."""

    def cosine(start, stop, part):
        return stop + (start - stop) * (1 + math.cos(math.pi * part)) / 2

    if position < 0.25:
        return cosine(1 / 25, 1, position / 0.25), cosine(0.95, 0.85, position / 0.25)
    part = (position - 0.25) / 0.75
    return cosine(1, 1e-5, part), cosine(0.85, 0.95, part)


def test_cosine_rises_and_falls():
    factors = [warmup_cosine(step, n_steps=200) for step in range(200)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert factors[110] == pytest.approx(0.5)
    assert factors[199] == pytest.approx(0.5 * (1 + math.cos(math.pi * 179 / 180)))
    assert factors[20:] == sorted(factors[20:], reverse=True) and min(factors) > 0


def test_cosine_of_few_steps_rises_for_ten_or_half_of_them():
    factors = [warmup_cosine(step, n_steps=40) for step in range(40)]
    assert factors[:11] == pytest.approx([*(k / 10 for k in range(1, 11)), 1.0])
    factors = [warmup_cosine(step, n_steps=6) for step in range(6)]
    assert factors[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])


def test_cosine_ends_at_zero():
    assert warmup_cosine(20, n_steps=20) == 0.0
    assert warmup_cosine(50, n_steps=20) == 0.0


@pytest.mark.parametrize("factor", [warmup_cosine, warmup_constant])
def test_warmup_of_one_step(factor):
    assert factor(0, n_steps=1) == 1.0


def test_constant_stays_after_the_warmup():
    factors = [warmup_constant(step, n_steps=200) for step in range(300)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert factors[19:] == [1.0] * 281


@pytest.mark.parametrize(
    ("name", "factor"), [("cosine", warmup_cosine), ("constant", warmup_constant)]
)
def test_warmups_are_stepped_each_batch(name, factor):
    rates = rates_of(make_net(name).fit(X, Y))
    factors = np.array([factor(step, n_steps=30) for step in range(30)])
    np.testing.assert_allclose(rates[:, :, 0], np.outer(factors, [0.02, 0.1]))
    assert (rates[:, :, 1] == 0.9).all()


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 5, 30])
def test_one_cycle_is_that_of_fastai(n_steps):
    net = make_net("one_cycle", epochs=n_steps, batch_size=20).fit(X, Y)
    factors, momenta = np.array([one_cycle(i / n_steps) for i in range(n_steps)]).T
    rates = rates_of(net)
    np.testing.assert_allclose(rates[:, :, 0], np.outer(factors, [0.02, 0.1]))
    np.testing.assert_allclose(rates[:, :, 1], np.outer(momenta, [1, 1]))
    ends = [group["lr"] for group in net.optimizer_.param_groups]
    np.testing.assert_allclose(ends, [2e-7, 1e-6])


def test_pickled_net_resumes():
    whole = make_net("one_cycle").fit(X, Y)
    first = make_net("one_cycle").partial_fit(X, Y, epochs=3)
    second = pickle.loads(pickle.dumps(first)).partial_fit(X, Y, epochs=3)
    assert callback_of(second, "schedule").lr_scheduler_.optimizer is second.optimizer_
    np.testing.assert_array_equal(rates_of(second), rates_of(whole))


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4])
@pytest.mark.parametrize("name", LR_SCHEDULES)
def test_few_steps_change_the_weights(name, n_steps):
    net = make_net(name, epochs=n_steps, batch_size=20).initialize()
    before = net.module_[0].weight.detach().clone()
    net.partial_fit(X, Y)
    assert not torch.equal(net.module_[0].weight, before)
    assert rates_of(net)[:, 1, 0].max() >= 0.1 / 25


def test_one_cycle_stays_at_its_end():
    net = make_net("one_cycle", epochs=2).fit(X, Y).partial_fit(X, Y)
    np.testing.assert_allclose(rates_of(net)[10:, :, 0], [[2e-7, 1e-6]] * 10)


def test_one_cycle_moves_the_momentum_of_sgd():
    sgd = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}
    net = make_net("one_cycle", **sgd, callbacks__rates=None).fit(X, Y)
    momenta = [group["momentum"] for group in net.optimizer_.param_groups]
    assert momenta == pytest.approx([0.95, 0.95])


def test_one_cycle_of_an_optimiser_without_momentum():
    net = make_net("one_cycle", optimizer=torch.optim.Adagrad, callbacks__rates=None)
    ends = [group["lr"] for group in net.fit(X, Y).optimizer_.param_groups]
    np.testing.assert_allclose(ends, [2e-7, 1e-6])


def test_rate_of_zero_stays_zero():
    groups = [("0.*", {"lr": 0.0})]
    net = make_net("one_cycle", optimizer__param_groups=groups).fit(X, Y)
    assert (rates_of(net)[:, 0, 0] == 0).all()


def test_callable_is_stepped_each_epoch():
    rates = rates_of(make_net(CALLABLES["step"]).fit(X, Y))
    expected = np.repeat([0.1, 0.01, 0.001], 2 * BATCHES)
    np.testing.assert_allclose(rates[:, 1, 0], expected)
    np.testing.assert_allclose(rates[:, 0, 0], expected / 5)


@pytest.mark.parametrize("with_validation", [False, True])
def test_plateau_is_one_of_the_validation_loss_if_there_is_one(with_validation):
    class Losses(Callback):
        """Keep the training loss constant, and let the validation loss fall."""

        def on_epoch_end(self, net, **kwargs):
            net.history.record("train_loss", 1.0)
            if with_validation:
                net.history.record("valid_loss", 1.0 / len(net.history))

    plateau = partial(ReduceLROnPlateau, patience=0)
    net = make_net(plateau, epochs=3)
    net.callbacks.insert(0, ("losses", Losses()))
    net.fit(X, Y)
    first, second, third = rates_of(net)[::BATCHES, 1, 0]
    assert first == second == 0.1
    assert third == pytest.approx(0.1 if with_validation else 0.01)


@pytest.mark.parametrize("lr_schedule", schedules())
def test_resumed_training_has_the_same_rates(lr_schedule):
    whole = make_net(lr_schedule).fit(X, Y)
    parts = make_net(lr_schedule)
    for epochs in (1, 3, 2):
        parts.partial_fit(X, Y, epochs=epochs)
    np.testing.assert_array_equal(rates_of(parts), rates_of(whole))
    assert torch.equal(parts.module_[0].weight, whole.module_[0].weight)


@pytest.mark.parametrize("order", ["optimiser first", "schedule first", "rates only"])
@pytest.mark.parametrize("lr_schedule", schedules())
def test_state_continues_training_in_another_net(lr_schedule, order):
    whole = make_net(lr_schedule).fit(X, Y)
    first = make_net(lr_schedule).partial_fit(X, Y, epochs=3)
    state = callback_of(first, "schedule").state_dict()
    second = make_net(lr_schedule).initialize()
    second.module_.load_state_dict(first.module_.state_dict())
    if order == "optimiser first":
        second.optimizer_.load_state_dict(first.optimizer_.state_dict())
    callback_of(second, "schedule").load_state_dict(state)
    if order == "schedule first":
        second.optimizer_.load_state_dict(first.optimizer_.state_dict())
    second.partial_fit(X, Y, epochs=3)
    rates = np.concatenate([rates_of(first), rates_of(second)])
    np.testing.assert_array_equal(rates, rates_of(whole))
    same = torch.equal(second.module_[0].weight, whole.module_[0].weight)
    assert same or order == "rates only"


@pytest.mark.parametrize("name", LR_SCHEDULES)
def test_state_is_saved_without_pickled_code(name):
    net = make_net(name).partial_fit(X, Y, epochs=2)
    state = callback_of(net, "schedule").state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == state


def test_state_is_a_copy():
    net = make_net("one_cycle").partial_fit(X, Y, epochs=2)
    state = callback_of(net, "schedule").state_dict()
    rate = state["groups"][0]["lr"]
    net.partial_fit(X, Y, epochs=2)
    assert state["groups"][0]["lr"] == rate
    assert state["scheduler"]["last_epoch"] == 2 * BATCHES


def test_state_before_training_is_the_loaded_state():
    callback = schedule_callback("cosine", 30)
    assert callback.state_dict() == {}
    net = make_net("cosine").partial_fit(X, Y, epochs=2)
    state = callback_of(net, "schedule").state_dict()
    callback.load_state_dict(state)
    assert callback.state_dict() == state
    callback.load_state_dict({})
    assert callback.state_dict() == {}


@pytest.mark.parametrize("lr_schedule", schedules())
def test_fit_resets_the_schedule(lr_schedule):
    net = make_net(lr_schedule, epochs=2).fit(X, Y)
    first = rates_of(net).copy()
    callback_of(net, "schedule").load_state_dict({"groups": []})
    net.fit(X, Y)
    np.testing.assert_array_equal(rates_of(net)[len(first) :], first)


def test_state_of_other_groups_raises():
    state = callback_of(make_net("cosine").fit(X, Y), "schedule").state_dict()
    net = make_net("cosine", optimizer__param_groups=[]).initialize()
    callback_of(net, "schedule").load_state_dict(state)
    with pytest.raises(ValueError, match="has 2 parameter groups, but .* has 1. Load"):
        net.partial_fit(X, Y)


def test_unknown_name_raises():
    with pytest.raises(
        ValueError,
        match=r"`lr_schedule` must be one of \['cosine', .*, 'annealed'\] or "
        r"a callable .* Got 'onecycle'. Did you mean 'one_cycle'\?",
    ):
        schedule_callback("onecycle", 10)


@pytest.mark.parametrize("wrong", [None, 3, ["cosine"]])
def test_wrong_type_raises(wrong):
    with pytest.raises(TypeError, match=r"`lr_schedule` must be .* a callable .* Got "):
        schedule_callback(wrong, 10)


def test_scheduler_without_its_arguments_raises():
    with pytest.raises(TypeError, match=r"`lr_schedule` .*StepLR'> failed: .*size'"):
        make_net(StepLR).fit(X, Y)


def test_callable_that_makes_no_scheduler_raises():
    with pytest.raises(TypeError, match=r"`lr_schedule` .* an object of type NoneType"):
        make_net(lambda optimizer: None).fit(X, Y)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1.0), (2, 2**-0.75), (20, 11**-0.75)]
)
def test_annealed_is_that_of_the_paper(step, expected):
    assert annealed(step, n_steps=20) == pytest.approx(expected)


SETTINGS = {"lr": 0.1, "backbone_lr_ratio": 0.2, "weight_decay": 0.3}


@pytest.fixture
def network():
    suffix = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2))
    suffix[2].requires_grad_(False)
    return Network(suffix, nn.Flatten(), nn.Linear(4, 2))


def group_of(groups, parameter):
    (group,) = [g for g in groups if any(p is parameter for p in g["params"])]
    return group["lr"], group["weight_decay"]


def parameter(*shape):
    return nn.Parameter(torch.zeros(shape))


def test_groups_by_part_and_by_kind(network):
    groups = parameter_groups(network.named_parameters(), **SETTINGS)
    convolution, norm, _ = network.suffix
    assert group_of(groups, network.head.weight) == (0.1, 0.3)
    assert group_of(groups, network.head.bias) == (0.1, 0.0)
    assert group_of(groups, convolution.weight) == pytest.approx((0.02, 0.3))
    for p in (convolution.bias, norm.weight, norm.bias):
        assert group_of(groups, p) == pytest.approx((0.02, 0.0))


def test_groups_leave_frozen_parameters_out(network):
    groups = parameter_groups(network.named_parameters(), **SETTINGS)
    grouped = [id(p) for group in groups for p in group["params"]]
    trainable = [id(p) for p in network.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(trainable)
    torch.optim.AdamW(groups)


def test_groups_come_in_the_order_of_the_parameters(network):
    groups = parameter_groups(network.named_parameters(), **SETTINGS)
    rates = [group["lr"] for group in groups]
    assert rates == pytest.approx([0.02, 0.02, 0.1, 0.1])
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0, 0.3, 0.0]
    convolution, norm, _ = network.suffix
    expected = [convolution.bias, norm.weight, norm.bias]
    assert all(a is b for a, b in zip(groups[1]["params"], expected, strict=True))


def test_rates_fall_by_stage():
    names = ["suffix.a.w", "suffix.b.w", "suffix.c.w", "suffix.norm.w", "head.weight"]
    stages_above = {"suffix.a.w": 2, "suffix.b.w": 1, "suffix.c.w": 0}
    named = [(name, parameter(2, 2)) for name in names]
    groups = parameter_groups(
        named, **SETTINGS, layer_decay=0.5, stages_above=stages_above
    )
    rates = [group_of(groups, p)[0] for _, p in named]
    assert rates == pytest.approx([0.005, 0.01, 0.02, 0.02, 0.1])


@pytest.mark.parametrize("ratio", [0.0, 0.2, 1.0])
def test_objective_learns_five_times_as_fast_as_the_head(ratio):
    settings = {**SETTINGS, "backbone_lr_ratio": ratio}
    named = [("objective.function.w", parameter(2, 2))]
    (group,) = parameter_groups(named, **settings, layer_decay=0.5)
    assert group["lr"] == pytest.approx(5 * 0.1)


def test_head_has_its_rate_at_any_place():
    head = parameter(2, 2)
    (group,) = parameter_groups(
        [("head.w", head)], **SETTINGS, layer_decay=0.5, stages_above={"head.w": 3}
    )
    assert group["lr"] == 0.1


@pytest.mark.parametrize("stages_above", [None, {}])
def test_no_stages_are_the_last_stage(network, stages_above):
    named = list(network.named_parameters())
    groups = parameter_groups(
        named, **SETTINGS, layer_decay=0.5, stages_above=stages_above
    )
    assert groups == parameter_groups(named, **SETTINGS)


@pytest.mark.parametrize(
    ("name", "shape", "decayed"),
    [
        ("suffix.cls_token", (1, 1, 4), False),
        ("suffix.encoder.pos_embedding", (1, 5, 4), False),
        ("suffix.stages.0.attn.relative_position_bias_table", (9, 2), False),
        ("suffix.stages.0.layer_scale", (4, 1, 1), False),
        ("suffix.pos_embed.proj.weight", (4, 4), True),
        ("suffix.blocks.0.attn.qkv.weight", (12, 4), True),
        ("suffix.norm.weight", (4,), False),
        ("suffix.scale", (), False),
        ("head.weight", (1, 4), True),
    ],
)
def test_weights_decay_but_for_norms_biases_and_embeddings(name, shape, decayed):
    (group,) = parameter_groups([(name, parameter(*shape))], **SETTINGS)
    assert group["weight_decay"] == (0.3 if decayed else 0.0)


def test_rates_of_numpy_become_floats():
    settings = {name: np.float64(value) for name, value in SETTINGS.items()}
    optimizer = torch.optim.AdamW(
        parameter_groups([("head.weight", parameter(2, 2))], **settings)
    )
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    (group,) = torch.load(file, weights_only=True)["param_groups"]
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.3)
