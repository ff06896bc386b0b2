import copy
import threading

import pytest
import timm
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune

from sktransfer.backbones import load_backbone
from sktransfer.inputs import VectorPreprocessing
from sktransfer.inputs.images._preprocessing import IMAGENET


def mlp():
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))


def test_module_is_copied_and_left_as_it_is():
    module = mlp().train()
    before = copy.deepcopy(module.state_dict())
    backbone = load_backbone(module)
    prefix, suffix = backbone.split(1)
    prefix.freeze()
    with torch.no_grad():
        backbone.module[0].weight += 1
    suffix.train()
    assert backbone.module is not module
    assert module.training and module[0].training
    assert module[1].inplace
    assert all(p.requires_grad for p in module.parameters())
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_attributes_of_a_module():
    backbone = load_backbone(mlp())
    assert backbone.name == "Sequential"
    assert (backbone.provider, backbone.weights, backbone.license) == (None,) * 3
    assert backbone.preprocessing == VectorPreprocessing(5)


def test_callable_makes_the_module_under_the_seed():
    first, same, other = (load_backbone(mlp, random_state=s) for s in (0, 0, 1))
    assert first.fingerprint == same.fingerprint
    assert first.fingerprint != other.fingerprint
    assert load_backbone(nn.Flatten, n_features=3).stage_names == ["network"]


def test_callable_that_returns_something_else():
    text = (
        "`backbone` is a callable, so it must return an nn.Module. <function .* "
        "returned int."
    )
    with pytest.raises(TypeError, match=text):
        load_backbone(lambda: 3)


def test_lazy_layers_get_their_width():
    def make():
        return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))

    first, same, other = (
        load_backbone(make(), n_features=7, random_state=seed) for seed in (0, 0, 1)
    )
    assert first.module[0].weight.shape == (4, 7)
    assert first.fingerprint == same.fingerprint
    assert first.fingerprint != other.fingerprint
    x = torch.randn(3, 7)
    prefix, suffix = first.split(1)
    assert torch.equal(suffix(prefix(x)), first.module(x))


def lazy_norm():
    return nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d())


def test_lazy_norm_of_a_callable_has_seen_no_sample():
    norm = load_backbone(lazy_norm, n_features=3).module[1]
    assert torch.equal(norm.running_mean, torch.zeros(4))
    assert norm.num_batches_tracked == 0
    assert not norm.training


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.LazyBatchNorm1d(dtype=torch.float32),
        lambda: nn.LazyBatchNorm1d(affine=False),
    ],
)
def test_lazy_norm_given_itself(norm):
    module = nn.Sequential(nn.LazyLinear(4), norm(), nn.LazyLinear(2))
    backbone = load_backbone(module, n_features=3)
    assert backbone.module[0].weight.shape == (4, 3)
    assert torch.equal(backbone.module[1].running_mean, torch.zeros(4))
    assert torch.equal(backbone.module[1].running_var, torch.ones(4))
    assert is_lazy(module[0].weight) and is_lazy(module[1].running_mean)
    prefix, suffix = backbone.split(1)
    x = torch.randn(5, 3)
    assert torch.equal(suffix(prefix(x)), backbone.module(x))
    assert load_backbone(module, n_features=7).module[0].weight.shape == (4, 7)


def test_norm_alone_may_be_lazy():
    norm = nn.LazyBatchNorm1d(affine=False)
    backbone = load_backbone(nn.Sequential(norm, nn.Linear(3, 2)), n_features=3)
    assert torch.equal(backbone.module[0].running_mean, torch.zeros(3))


def test_lazy_layer_after_a_flattened_image_has_the_width_of_the_image_size():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    backbone = load_backbone(module, preprocessing=IMAGENET, image_size=10)
    assert backbone.module[2].in_features == 4 * 8 * 8
    assert backbone.activation_shape("output") == (2,)


class Locked(nn.Sequential):
    def __init__(self, *layers):
        super().__init__(*layers)
        self.lock = threading.Lock()


def test_module_that_cannot_be_copied():
    text = "Locked cannot be copied \\(TypeError: .*\\). Pass a callable that makes it."
    with pytest.raises(ValueError, match=text):
        load_backbone(Locked(nn.Linear(3, 2)))


def test_module_that_a_callable_returns_is_copied():
    module = mlp().train()
    backbone = load_backbone(lambda: module)
    assert backbone.module is not module
    with torch.no_grad():
        backbone.module[0].weight += 1
    assert not torch.equal(backbone.module[0].weight, module[0].weight)
    assert module.training and all(p.requires_grad for p in module.parameters())


def test_callable_of_modules_that_cannot_be_copied():
    backbone = load_backbone(lambda: Locked(nn.Linear(3, 2)))
    assert type(backbone.module) is Locked
    locked = Locked(nn.Linear(3, 2))
    text = (
        "`backbone` is a callable, so it must return a new module each time, or one "
        "that can be copied. <function .*> returned the same again. Locked cannot be "
        "copied"
    )
    for make in (lambda: locked, lambda: Locked(*locked)):
        with pytest.raises(ValueError, match=text):
            load_backbone(make)


def test_lazy_convolutions_get_their_width():
    module = nn.Sequential(nn.LazyConv2d(4, 3), nn.AdaptiveAvgPool2d(1))
    with pytest.warns(UserWarning, match="does not say which preprocessing"):
        backbone = load_backbone(module, image_size=16)
    assert backbone.module[0].weight.shape == (4, 3, 3, 3)


def test_length_of_vectors_that_is_not_known():
    text = "Sequential does not say how long its vectors are. Pass `n_features`."
    with pytest.raises(ValueError, match=text):
        load_backbone(nn.Sequential(nn.LazyLinear(4)))
    with pytest.raises(ValueError, match=text):  # that of the second layer is another
        load_backbone(nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2)))
    backbone = load_backbone(nn.Sequential(nn.BatchNorm1d(6), nn.ReLU()))
    assert backbone.preprocessing == VectorPreprocessing(6)


def test_image_network_without_preprocessing_warns():
    module = nn.Sequential(nn.Conv2d(3, 4, 3))
    text = (
        "Sequential does not say which preprocessing its weights expect, so ImageNet's "
        "usual one is taken \\(224 pixels, mean \\(0.485, 0.456, 0.406\\)\\). Give it "
        "with `load_backbone\\(module, preprocessing=ImagePreprocessing"
    )
    with pytest.warns(UserWarning, match=text):
        backbone = load_backbone(module)
    assert backbone.preprocessing == IMAGENET


def test_module_of_timm_brings_its_preprocessing_and_classifier():
    module = timm.create_model("test_resnet")
    backbone = load_backbone(module)
    assert backbone.preprocessing.size == (160, 160)
    assert backbone.preprocessing.std == (0.5, 0.5, 0.5)
    assert backbone.classifier == ["fc"]


def convolutions():
    layers = nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3)
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_are_cast_to_float32(dtype):
    module = convolutions().to(getattr(torch, dtype))
    text = f"^Sequential has weights in {dtype}, which are cast to float32: everything"
    with pytest.warns(UserWarning, match=text):
        backbone = load_backbone(module, preprocessing=IMAGENET, image_size=16)
    assert {p.dtype for p in backbone.module.parameters()} == {torch.float32}
    assert module[0].weight.dtype == getattr(torch, dtype)
    assert backbone.stage_names == ["2"]


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
@pytest.mark.parametrize("holder", [lambda m: m, nn.Sequential])
def test_torchscript_is_refused(holder):
    traced = torch.jit.trace(convolutions(), torch.zeros(1, 3, 9, 9))
    text = (
        "^`backbone` must be an nn.Module of Python code, which can be cut and "
        "trained. .* holds TorchScript. Pass the module that was compiled or traced.$"
    )
    with pytest.raises(TypeError, match=text):
        load_backbone(holder(traced))


class QuantisedLinear(nn.Linear):
    __module__ = "torch.ao.nn.quantized.dynamic.modules.linear"


def test_quantised_layers_are_refused():
    text = (
        "^`backbone` must have layers with weights of floating point. Sequential has "
        "the quantised layer '0', a QuantisedLinear. Pass the network as it was before "
        "it was quantised.$"
    )
    with pytest.raises(TypeError, match=text):
        load_backbone(nn.Sequential(QuantisedLinear(3, 2)))


def test_pruned_layers_are_refused():
    module = nn.Sequential(nn.Linear(3, 2))
    prune.l1_unstructured(module[0], "weight", 0.5)
    text = (
        "^`backbone` must have weights that are parameters. Sequential makes `weight` "
        "of its layer '0' from others, as after pruning or with the old `weight_norm`. "
        "Make it permanent with torch.nn.utils.prune.remove\\(layer, 'weight'\\) or "
        "torch.nn.utils.remove_weight_norm\\(layer\\).$"
    )
    with pytest.raises(ValueError, match=text):
        load_backbone(module)
    prune.remove(module[0], "weight")
    assert load_backbone(module).stage_names == ["0"]


class LinearPatches(nn.Module):
    """Takes images, but has no convolution."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Linear(48, 5)

    def forward(self, x):
        return self.patches(nn.functional.unfold(x, 4, stride=4).transpose(1, 2))


def test_kind_says_what_a_module_takes():
    with pytest.warns(UserWarning, match="does not say which preprocessing"):
        backbone = load_backbone(LinearPatches(), kind="image", image_size=8)
    assert backbone.activation_shape("output") == (4, 5)
    with pytest.raises(ValueError, match="`kind` must be the name .*Got 'smell'"):
        load_backbone(LinearPatches(), kind="smell")


def test_complex_weights_are_refused():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2, dtype=torch.complex64))
    with pytest.raises(TypeError, match=r"has 'weight' of torch.complex64 .* '1'"):
        load_backbone(network)


@pytest.mark.parametrize("kind", ["parameter", "buffer"])
def test_weights_without_values_are_refused(kind):
    norm = nn.BatchNorm1d(3)
    if kind == "parameter":
        norm.weight = nn.Parameter(torch.empty(3, device="meta"))
    else:
        norm.running_mean = torch.empty(3, device="meta")
    name = "weight" if kind == "parameter" else "running_mean"
    text = (
        f"^`backbone` must have weights with values. Sequential has '{name}' of its "
        "layer '1' on the device 'meta', which keeps none. Make the network on the "
        "CPU, or load its weights with `assign=True`.$"
    )
    with pytest.raises(ValueError, match=text):
        load_backbone(nn.Sequential(nn.Linear(3, 3), norm))
