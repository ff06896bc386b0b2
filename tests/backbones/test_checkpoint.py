import warnings
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.backbones._checkpoint import (
    Misfits,
    check_finite,
    load_checkpoint,
    without_prefix,
)


def network(n_classes=2, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential()
        module.add_module("a", nn.Linear(4, 6))
        module.add_module("norm", nn.BatchNorm1d(6))
        module.add_module("fc", nn.Linear(6, n_classes))
        return module


@pytest.fixture
def state():
    return network(seed=1).state_dict()


def save(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("ending", ["pth", "pt", "bin", "ckpt", "safetensors"])
@pytest.mark.parametrize("convert", [str, lambda path: path])
def test_checkpoint_is_loaded(state, tmp_path, ending, convert):
    path = convert(save(state, tmp_path / f"weights.{ending}"))
    backbone = load_backbone(network(), weights=path)
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert backbone.weights == str(path)


def test_wrong_shape(state, tmp_path):
    state["a.weight"] = torch.zeros(6, 5)
    path = save(state, tmp_path / "weights.pth")
    module = network()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    text = (
        "weights.pth' does not fit Sequential: 'a.weight' has shape \\(6, 5\\), "
        "expected \\(6, 4\\)."
    )
    with pytest.raises(ValueError, match=text):
        load_checkpoint(module, path)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_missing_and_left_over_tensors(state, tmp_path):
    del state["a.bias"]
    state["b.bias"] = torch.zeros(2)
    path = save(state, tmp_path / "weights.pth")
    text = (
        "Sequential: 'a.bias' is missing \\(nearest in the checkpoint: 'b.bias'\\); "
        "'b.bias' is not in the network."
    )
    with pytest.raises(ValueError, match=text):
        load_backbone(network(), weights=path)


def test_another_architecture_names_three_tensors(tmp_path):
    state = {f"x{i}": torch.zeros(1) for i in range(5)}
    path = save(state, tmp_path / "weights.safetensors")
    text = "'a.weight' is missing; 'a.bias' is missing; 'norm.weight' is missing; and 8"
    with pytest.raises(ValueError, match=text):
        load_backbone(network(), weights=path)


def test_counters_of_batch_norm_may_be_missing(state, tmp_path):
    del state["norm.num_batches_tracked"]
    path = save(state, tmp_path / "weights.pth")
    backbone = load_backbone(network(), weights=path)
    assert torch.equal(backbone.module.norm.running_mean, state["norm.running_mean"])


def test_head_with_another_number_of_classes_is_left_as_it_is(tmp_path):
    state = network(n_classes=7, seed=1).state_dict()
    path = save(state, tmp_path / "weights.pth")
    module = network()
    backbone = load_backbone(module, weights=path)
    assert torch.equal(backbone.module.fc.weight, module.fc.weight)
    assert torch.equal(backbone.module.a.weight, state["a.weight"])
    with pytest.raises(ValueError, match="'fc.weight' has shape \\(7, 6\\), expected"):
        load_checkpoint(network(), path)


def test_head_may_be_missing(state, tmp_path):
    body = {k: v for k, v in state.items() if not k.startswith("fc.")}
    path = save(body, tmp_path / "weights.pth")
    backbone = load_backbone(network(), weights=path)
    assert torch.equal(backbone.module.a.weight, state["a.weight"])


def test_checkpoint_of_a_named_backbone(tmp_path, resnet18):
    state = resnet18.module.state_dict()
    path = save(state, tmp_path / "weights.safetensors")
    backbone = load_backbone("torchvision/resnet18", weights=path, image_size=64)
    assert backbone.weights == str(path)
    assert backbone.fingerprint == resnet18.fingerprint
    text = (
        "EfficientNet: 'bn1.weight' has shape \\(64,\\), expected \\(32,\\); .* more."
    )
    with pytest.raises(ValueError, match=text):
        load_backbone("efficientnet_lite0", weights=path)


def vgg(n_classes=2, seed=0):
    """A tiny network whose `classifier` is two layers, as that of VGG."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Module()
        module.features = nn.Linear(4, 6)
        module.classifier = nn.Sequential(
            nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, n_classes)
        )
        return nn.Sequential(OrderedDict(module.named_children()))


def test_stages_inside_the_classifier_must_be_in_the_file(tmp_path):
    state = vgg(seed=1).state_dict()
    body = {k: v for k, v in state.items() if k.startswith("features.")}
    path = save(body, tmp_path / "body.pth")
    assert load_backbone(vgg()).stage_names[-1] == "classifier.0"
    text = "'classifier.0.weight' is missing; 'classifier.0.bias' is missing."
    with pytest.raises(ValueError, match=text):
        load_backbone(vgg(), weights=path)


def test_last_layer_of_the_classifier_may_be_missing_or_another(tmp_path):
    other = vgg(n_classes=5, seed=1).state_dict()
    without = {k: v for k, v in other.items() if not k.startswith("classifier.2")}
    for state in (other, without):
        path = save(state, tmp_path / "weights.pth")
        module = vgg()
        backbone = load_backbone(module, weights=path)
        loaded = backbone.module.state_dict()
        assert torch.equal(loaded["classifier.0.weight"], other["classifier.0.weight"])
        assert torch.equal(loaded["classifier.2.weight"], module.classifier[2].weight)


def test_stages_inside_the_classifier_must_have_their_shape(tmp_path):
    state = vgg(seed=1).state_dict()
    state["classifier.0.weight"] = torch.zeros(5, 6)
    path = save(state, tmp_path / "weights.pth")
    text = "'classifier.0.weight' has shape \\(5, 6\\), expected \\(6, 6\\)."
    with pytest.raises(ValueError, match=text):
        load_backbone(vgg(), weights=path)


def test_checkpoint_that_fits_needs_no_trace(state, tmp_path):
    path = save(state, tmp_path / "weights.pth")
    backbone = load_backbone(network(), weights=path)
    assert backbone._watched is None


def test_classifier_that_was_removed_from_the_network(tmp_path):
    state = network(seed=1).state_dict()
    path = save(state, tmp_path / "weights.pth")
    module = network()
    module.fc = nn.Identity()
    backbone = load_backbone(module, weights=path)
    assert torch.equal(backbone.module.a.weight, state["a.weight"])
    del module.fc
    with pytest.raises(ValueError, match="'fc.weight' is not in the network"):
        load_backbone(module, weights=path)


class Branches(nn.Module):
    """Cannot be traced: it depends on values."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 6)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        return self.fc(self.a(x if x.sum() > 100 else -x))


@pytest.mark.filterwarnings("ignore:Branches cannot be traced")
def test_network_that_cannot_be_traced_is_loaded_as_a_whole(tmp_path):
    state = Branches().state_dict()
    path = save(state, tmp_path / "weights.pth")
    backbone = load_backbone(Branches())
    assert backbone.stage_names == ["network"]
    for spec in (Branches(), backbone):
        loaded = load_backbone(spec, weights=path).network.state_dict()
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[name], state[name]) for name in state)
    path = save({k: state[k] for k in ("a.weight", "a.bias")}, tmp_path / "body.pth")
    with pytest.raises(ValueError, match="Branches: 'fc.weight' is missing; 'fc.bias'"):
        load_backbone(Branches(), weights=path)


class Tokens(nn.Module):
    """Has position embeddings for a number of tokens, and a layer."""

    def __init__(self, n):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.ones(n, 3))
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x + self.pos_embed)


def test_advice_is_of_position_embeddings_alone():
    state = Tokens(5).state_dict()
    text = "'pos_embed' has shape \\(5, 3\\), expected \\(4, 3\\). Do that.$"
    with pytest.raises(ValueError, match=text):
        load_checkpoint(Tokens(4), state, advice="Do that.")
    state = {**Tokens(4).state_dict(), "fc.bias": torch.ones(7)}
    text = "'fc.bias' has shape \\(7,\\), expected \\(2,\\).$"
    with pytest.raises(ValueError, match=text):
        load_checkpoint(Tokens(4), state, advice="Do that.")


def test_state_dict_is_loaded_as_its_file_is(state, tmp_path):
    for weights in (state, {"state_dict": state}, save(state, tmp_path / "w.pth")):
        module = network()
        load_checkpoint(module, weights)
        assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    backbone = load_backbone(network(), weights=state)
    assert backbone.weights == "a state dict" and backbone.license is None
    backbone.module.a.weight.data.zero_()
    assert state["a.weight"].any()
    state["a.weight"] = torch.zeros(6, 5)
    text = "^The state dict in `weights` does not fit Sequential: 'a.weight' has shape"
    with pytest.raises(ValueError, match=text):
        load_backbone(network(), weights=state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_of_any_width_is_cast(state, dtype):
    given = {k: v.to(dtype) for k, v in state.items()}  # counters, too
    module = network()
    load_checkpoint(module, given)
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, given[name].to(tensor.dtype)), name


def test_checkpoint_is_adapted_only_if_it_does_not_fit(state, tmp_path):
    path = save(state, tmp_path / "weights.pth")
    load_checkpoint(network(), path, adapt=None, classifier=None)
    renamed = {f"old_{k}": v for k, v in state.items()}
    path = save(renamed, tmp_path / "old.pth")
    module = network()

    def adapt(found):
        return {k.removeprefix("old_"): v for k, v in found.items()}

    load_checkpoint(module, path, adapt=adapt)
    assert torch.equal(module.a.weight, state["a.weight"])


@pytest.mark.parametrize("adapt", [lambda state: state["b"], lambda state: {}])
def test_misfits_are_those_of_the_file_where_adapting_fails(state, tmp_path, adapt):
    del state["a.bias"]
    path = save(state, tmp_path / "weights.pth")
    text = "does not fit Sequential: 'a.bias' is missing. The network's tensors are"
    with pytest.raises(ValueError, match=text):
        load_checkpoint(network(), path, adapt=adapt)


EXPECTED = {
    "conv.weight": torch.zeros(4, 3),
    "conv.bias": torch.zeros(4),
    "norm.num_batches_tracked": torch.tensor(0),
    "fc.weight": torch.zeros(2, 4),
}


def test_fitting_tensors_are_no_misfits():
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
def test_nan_and_infinity_are_refused(value):
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


NAMES = ["stem.weight", "stem.bias", "block.norm.weight", "block.norm.bias", "fc.bias"]


WEIGHTS = {name: torch.full((k + 1,), float(k)) for k, name in enumerate(NAMES)}


AVERAGES = {name: tensor + 1 for name, tensor in WEIGHTS.items()}


STRAY = {"criterion.weight": torch.ones(3), "queue": torch.ones(2)}


def behind(prefix, state=WEIGHTS):
    return {prefix + name: tensor for name, tensor in state.items()}


def found(state, expected=WEIGHTS):
    return without_prefix(state, expected, "The file")


def assert_is(state, expected):
    assert state.keys() == expected.keys()
    assert all(state[name] is expected[name] for name in expected)


@pytest.mark.parametrize(
    "prefix",
    ["", "model.", "module.", "_orig_mod.", "student.", "module._orig_mod.lit.net."],
)
def test_prefix_of_most_names_is_removed(prefix):
    assert_is(found(behind(prefix)), WEIGHTS)
    if prefix:
        assert_is(found({**STRAY, **behind(prefix)}), WEIGHTS)


def test_names_that_do_not_fit_stay_in_the_set():
    extra = {"model.neck.weight": torch.ones(1)}
    assert found(behind("model.") | extra).keys() == {*WEIGHTS, "neck.weight"}
    assert found(WEIGHTS | STRAY).keys() == {*WEIGHTS, *STRAY}


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module"])
def test_prefixes_of_wrapped_layers_are_removed(wrapper):
    inside = {k.replace("norm.", f"norm.{wrapper}."): v for k, v in WEIGHTS.items()}
    assert_is(found(behind("module.", inside)), WEIGHTS)
    assert_is(found(inside, inside), inside)
    both = {**WEIGHTS, **inside}
    assert found(both).keys() == both.keys()


def test_prefix_of_the_network_is_added():
    expected = behind("backbone.") | {"head.weight": torch.ones(1)}
    for prefix in ("", "module.", "backbone.", "module.backbone."):
        assert_is(found(behind(prefix), expected), behind("backbone."))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("", "ema."),
        ("model.", "ema_model.module."),
        ("model.", "model_ema."),
        ("state_dict.", "state_dict_ema."),
        ("student.module.backbone.", "teacher.backbone."),
        ("net.", "optimizer.exp_avg."),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_trained_weights_are_taken_before_averages(first, second, turned):
    sets = [behind(first), behind(second, AVERAGES)]
    state = sets[1] | sets[0] if turned else sets[0] | sets[1]
    text = (
        f"^The file holds several sets of weights that fit, .*{second}.*Those with "
        f"'{first}' are taken. For another set, pass its tensors as `weights`, a dict"
    )
    with pytest.warns(UserWarning, match=text):
        assert_is(found(state), WEIGHTS)


def test_second_set_alone_is_taken():
    assert_is(found(behind("teacher.")), WEIGHTS)


def test_equal_sets_need_no_choice():
    copies = {name: tensor.clone() for name, tensor in WEIGHTS.items()}
    state = found(behind("a.") | behind("b.", copies))
    assert all(torch.equal(state[name], WEIGHTS[name]) for name in WEIGHTS)


@pytest.mark.parametrize("names", [("encoder_q.", "encoder_k."), ("ema.", "swa.")])
def test_ambiguous_sets_are_refused(names):
    first, second = names
    text = (
        f"^The file holds several sets of weights that fit, whose names begin with "
        f"'{first}' and '{second}'. To choose one, pass its tensors as `weights`, a "
        "dict whose names do not begin so any more.$"
    )
    with pytest.raises(ValueError, match=text):
        found(behind(first) | behind(second, AVERAGES))


def test_set_of_other_shapes_is_no_choice():
    large = {name: torch.ones(9) for name in WEIGHTS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_is(found(behind("teacher_large.", large) | behind("small.")), WEIGHTS)


def test_names_that_do_not_fit_lose_usual_prefixes_only():
    other = {f"layer{k}.kernel": torch.ones(1) for k in range(5)}
    assert_is(found(other), other)
    assert_is(found(behind("module.model.", other)), other)
    assert_is(found(behind("strange.", other)), behind("strange.", other))
