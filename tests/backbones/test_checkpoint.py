import pickle
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.backbones._checkpoint import load_checkpoint, read_state_dict


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


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s},
        lambda s: {"model_state_dict": s, "optimizer": {}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}},
        lambda s: {f"module.backbone.{k}": v for k, v in s.items()},
    ],
)
def test_wrappers_and_prefixes_are_taken_off(state, tmp_path, wrap):
    path = save(wrap(state), tmp_path / "weights.pth")
    found = read_state_dict(path)
    assert found.keys() == state.keys()
    assert torch.equal(found["a.weight"], state["a.weight"])


def test_missing_file(tmp_path):
    path = str(tmp_path / "nothing.pth")
    with pytest.raises(FileNotFoundError, match="There is no checkpoint file '.*noth"):
        load_backbone(network(), weights=path)


class Attack:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickle_with_code_is_refused_and_not_run(tmp_path):
    path, victim = tmp_path / "weights.pth", tmp_path / "victim"
    torch.save({"a": Attack(victim)}, path)
    text = (
        "is not plain weights, and nothing else is loaded since a pickle can run code. "
        "Save it again with `torch.save\\(model.state_dict\\(\\), path\\)` or as safe"
    )
    with pytest.raises(ValueError, match=text):
        load_backbone(network(), weights=path)
    assert not victim.exists()
    path.write_bytes(pickle.dumps(Attack(victim), protocol=2))
    with pytest.raises(ValueError, match="is not plain weights"):
        load_backbone(network(), weights=path)
    assert not victim.exists()


def test_whole_module_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(network(), path)
    with pytest.raises(ValueError, match="is not plain weights"):
        read_state_dict(path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_truncated_file(state, tmp_path, ending):
    path = save(state, tmp_path / f"weights.{ending}")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be read; it may be truncated or of"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [{}, [torch.zeros(2)], torch.zeros(2)])
def test_file_without_names(tmp_path, content):
    path = save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="weights.pth' holds no weights by name."):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "named"),
    [({"a": 1, "b": torch.zeros(2)}, "'a'"), ({0: torch.zeros(2)}, "0")],
)
def test_file_with_something_else(tmp_path, content, named):
    path = save(content, tmp_path / "weights.pth")
    text = f"holds \\[{named}\\], which are not tensors by name."
    with pytest.raises(ValueError, match=text):
        read_state_dict(path)


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
    text = "Sequential: 'a.bias' is missing; 'b.bias' is not in the network."
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


def test_prefix_that_the_network_has_stays(tmp_path):
    module = nn.Sequential()
    module.add_module("backbone", nn.Linear(4, 2))
    path = save(module.state_dict(), tmp_path / "weights.pth")
    backbone = load_backbone(module, weights=path)
    assert torch.equal(backbone.module.backbone.weight, module.backbone.weight)
    assert read_state_dict(path).keys() == {"weight", "bias"}
    assert read_state_dict(path, ["backbone.weight"]).keys() == {
        "backbone.weight",
        "backbone.bias",
    }


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
    assert "_by_mode" not in vars(backbone)


def test_classifier_that_the_network_has_no_more(tmp_path):
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
    """Cannot be traced: it looks at values."""

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
    text = "does not fit Sequential: 'a.bias' is missing. Do that.$"
    with pytest.raises(ValueError, match=text):
        load_checkpoint(network(), path, adapt=adapt, advice="Do that.")
