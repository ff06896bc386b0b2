import math
import pickle
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.training import (
    Network,
    head_from_linear,
    list_heads,
    make_head,
    register_head,
    warn_of_probabilities,
)
from sktransfer.training._heads import HEADS, CosineHead
from sktransfer.training._schedule import parameter_groups
from sktransfer.utils import TransferWarning

FEATURES = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))


def equal_states(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert list(one) == list(other)
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("head", [*HEADS, nn.LazyLinear(3)])
def test_head_maps_features_to_scores(head, dropout):
    made = make_head(head, 5, 3, seed=0, dropout=dropout)
    assert made.training and made(FEATURES).shape == (6, 3)
    assert all(p.requires_grad for p in made.parameters())


@pytest.mark.parametrize("head", [*HEADS, nn.LazyLinear(3)])
def test_weights_are_seeded_and_the_global_generator_is_left(head):
    state = torch.random.get_rng_state()
    one, same, other = (make_head(head, 5, 3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert equal_states(one, same) and not equal_states(one, other)


def test_linear_head_is_what_torch_draws():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = nn.Linear(5, 3)
    head = make_head("linear", 5, 3, seed=3)
    assert type(head) is nn.Linear and equal_states(head, expected)


def test_dropout_does_not_change_the_weights():
    plain, dropped = (make_head("mlp", 5, 3, seed=0, dropout=p) for p in (0.0, 0.5))
    assert equal_states(plain, dropped[1])


@pytest.mark.parametrize("head", [*HEADS, nn.Linear(5, 3)])
def test_dropout_in_front_of_the_head_in_train_mode_alone(head):
    made = make_head(head, 5, 3, seed=0, dropout=0.4).eval()
    assert torch.equal(made(FEATURES), made[1](FEATURES))
    seen = []
    made[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    torch.manual_seed(0)
    made.train()(FEATURES.repeat(500, 1))
    zeros = seen[0] == 0
    assert zeros.float().mean().item() == pytest.approx(0.4, abs=0.02)
    torch.testing.assert_close(seen[0], FEATURES.repeat(500, 1) / 0.6 * ~zeros)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_head_from_linear_has_the_structure_of_a_linear_head(dropout):
    linear = nn.Linear(5, 3)
    head = head_from_linear(linear, dropout)
    made = make_head("linear", 5, 3, seed=0, dropout=dropout)
    assert repr(head) == repr(made)
    made.load_state_dict(head.state_dict())
    assert torch.equal(made.eval()(FEATURES), linear(FEATURES))


def test_head_from_linear_has_no_dropout_by_default():
    linear = nn.Linear(5, 3)
    assert head_from_linear(linear) is linear


def test_mlp_has_the_documented_layers():
    head = make_head("mlp", 5, 3, seed=0).double()
    first, norm, _, last = head
    assert first.weight.shape == (512, 5) and last.weight.shape == (3, 512)
    hidden = FEATURES.double() @ first.weight.T + first.bias
    deviation = hidden - hidden.mean(1, keepdim=True)
    hidden = deviation / (deviation.square().mean(1, keepdim=True) + norm.eps).sqrt()
    active = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    torch.testing.assert_close(
        head(FEATURES.double()), active @ last.weight.T + last.bias
    )


def test_mlp_distinguishes_values_of_a_single_feature():
    scores = make_head("mlp", 1, 1, seed=0)(torch.tensor([[-1.0], [0.0], [1.0]]))
    assert len(scores.flatten().tolist()) == len({*scores.flatten().tolist()})


def test_cosine_scores_are_scaled_cosines():
    head = make_head("cosine", 2, 3, seed=0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, -1.0]]))
    scores = head(torch.tensor([[5.0, 0.0], [1.0, 1.0]]))
    half = math.sqrt(0.5)
    expected = torch.tensor([[1.0, 0.0, -half], [half, half, -1.0]])
    torch.testing.assert_close(scores, 10 * expected)
    with torch.no_grad():
        head.log_scale.fill_(math.log(4.0))
    torch.testing.assert_close(head(torch.tensor([[0.0, 7.0]]))[0, 1].item(), 4.0)


def test_cosine_scores_do_not_depend_on_lengths():
    head = CosineHead(5, 3)
    before = head(FEATURES)
    with torch.no_grad():
        head.weight.mul_(7.0)
    torch.testing.assert_close(head(0.1 * FEATURES), before)


def test_cosine_gradients_of_weight_and_scale():
    head = CosineHead(5, 3).double()
    inputs = FEATURES.double().requires_grad_()

    def scores(features, weight, log_scale):
        state = {"weight": weight, "log_scale": log_scale}
        return torch.func.functional_call(head, state, features)

    torch.autograd.gradcheck(scores, (inputs, head.weight, head.log_scale))


def test_cosine_of_features_that_are_zero():
    head, features = CosineHead(5, 3), torch.zeros(2, 5, requires_grad=True)
    scores = head(features)
    scores.sum().backward()
    assert torch.equal(scores, torch.zeros(2, 3))
    assert features.grad.isfinite().all() and head.weight.grad.isfinite().all()


def test_cosine_head_has_its_sizes_in_its_repr():
    assert repr(CosineHead(5, 3)) == "CosineHead(5, 3)"


def test_cosine_scale_is_not_decayed():
    network = Network(nn.Identity(), nn.Identity(), CosineHead(5, 3))
    groups = parameter_groups(
        network.named_parameters(), lr=0.1, backbone_lr_ratio=0.5, weight_decay=0.3
    )
    by_decay = {group["weight_decay"]: group["params"] for group in groups}
    assert by_decay[0.3] == [network.head.weight]
    assert by_decay[0.0] == [network.head.log_scale]
    assert {group["lr"] for group in groups} == {0.1}


def test_module_is_copied_with_its_weights_and_its_mode():
    module = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3)).double().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    head = make_head(module, 5, 3, seed=0)
    assert not head.training and head[1].weight.dtype == torch.float32
    assert torch.equal(head[1].weight, module[1].weight.float())
    with torch.no_grad():
        head[1].weight.zero_()
    head.train()(FEATURES)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_trial_leaves_statistics():
    head = make_head(nn.Sequential(nn.BatchNorm1d(5), nn.LazyLinear(3)), 5, 3, seed=0)
    assert head[0].num_batches_tracked == 0
    assert torch.equal(head[0].running_mean, torch.zeros(5))


def test_lazy_module_stays_lazy_and_its_copy_learns():
    module = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(3))
    head = make_head(module, 5, 3, seed=0)
    assert isinstance(module[0].weight, nn.UninitializedParameter)
    head(FEATURES).square().sum().backward()
    assert head[0].weight.grad.abs().sum() > 0 and head[2].weight.shape == (3, 4)


@pytest.mark.parametrize(
    ("module", "what"),
    [
        (nn.Linear(5, 4), r"shape (2, 4) instead of (2, 3)."),
        (nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)), "shape (2,) instead of (2, 3)"),
        (nn.GRU(5, 3), "tuple instead of (2, 3)."),
    ],
)
def test_module_with_other_scores_raises(module, what):
    with pytest.raises(ValueError, match="`head` must map features of shape") as error:
        make_head(module, 5, 3, seed=0)
    text = str(error.value)
    assert "`head` must map features of shape (n, 5) to scores of shape (n, 3)" in text
    assert (
        f"Got {type(module).__name__}, whose output for two rows is of {what}" in text
    )


def test_module_for_other_features_raises():
    with pytest.raises(ValueError, match="`head` must map features of shape") as error:
        make_head(nn.Linear(4, 3), 5, 3, seed=0)
    text = str(error.value)
    assert "Got Linear, which fails on features of shape (2, 5): " in text
    assert "shapes cannot be multiplied (2x5 and 4x3)" in text
    assert "torch.nn.LazyLinear finds the number of features by itself." in text
    assert isinstance(error.value.__cause__, RuntimeError)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("head", HEADS)
def test_head_pickles(head, dropout):
    made = make_head(head, 5, 3, seed=0, dropout=dropout).eval()
    again = pickle.loads(pickle.dumps(made))
    assert torch.equal(again(FEATURES), made(FEATURES))


@pytest.fixture
def registry():
    with patch.dict(HEADS):
        yield


def test_registered_head_is_found_by_its_name(registry):
    def bottleneck(n_features, n_outputs):
        return nn.Sequential(nn.Linear(n_features, 2), nn.Linear(2, n_outputs))

    register_head("bottleneck", bottleneck)
    state = torch.random.get_rng_state()
    one, same = (make_head("bottleneck", 5, 3, seed=1) for _ in range(2))
    assert equal_states(one, same) and one(FEATURES).shape == (6, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(ValueError, match="those of the built-in heads.* Got 'linear'"):
        register_head("linear", bottleneck)
    register_head("bottleneck", nn.Linear)
    assert isinstance(make_head("bottleneck", 5, 3, seed=1), nn.Linear)


def test_registered_head_of_other_shapes_is_refused(registry):
    register_head("bottleneck", lambda n_features, n_outputs: nn.Linear(n_features, 1))
    with pytest.raises(ValueError, match=r"Got Linear, .* shape \(2, 1\) instead"):
        make_head("bottleneck", 5, 3, seed=0)


@pytest.mark.parametrize("factory", ["linear", nn.Linear(5, 3)], ids=["str", "head"])
def test_factory_of_heads_makes_heads(registry, factory):
    with pytest.raises(TypeError, match=r"`factory` must (be a callable, fac|make a)"):
        register_head("bottleneck", factory)
    assert "bottleneck" not in list_heads()


def test_unknown_head_is_refused():
    text = (
        r"^`head` must be one of \['linear', 'mlp', 'cosine'.*\] or an nn.Module. Got "
        "'liner'. Did you mean 'linear'"
    )
    with pytest.raises(ValueError, match=text):
        make_head("liner", 5, 3, seed=0)


def test_cosine_head_starts_at_the_weighted_means_of_the_classes():
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0], [-1.0, 0.0]])
    head = CosineHead(2, 3)
    before = head.weight[2].clone()
    head.start_from(features, np.array([0, 0, 0, 1]), np.array([1.0, 2.0, 1.0, 1.0]))
    torch.testing.assert_close(head.weight[0], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(head.weight[1], torch.tensor([-1.0, 0.0]))
    assert torch.equal(head.weight[2], before)  # a class without samples


@pytest.mark.parametrize("last", [nn.Softmax(dim=1), nn.Sigmoid()], ids=repr)
def test_head_that_ends_in_probabilities_is_warned_of(last, recwarn):
    head = nn.Sequential(nn.Linear(3, 2), last)
    warn_of_probabilities(head, "regression")
    warn_of_probabilities(head[0], "multiclass")
    assert not recwarn
    for kind in ("multiclass", "multilabel"):
        with pytest.warns(TransferWarning, match="`head` ends in S.*Leave that layer"):
            warn_of_probabilities(head, kind)
