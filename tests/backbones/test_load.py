import functools
import os
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from sktransfer.backbones import _load, load_backbone, shared_backbone
from sktransfer.inputs import ImagePreprocessing, VectorPreprocessing

GIVEN = ImagePreprocessing(
    size=(32, 32), resize=40, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
)


@pytest.mark.parametrize("spec", [3, None, ["resnet18"]])
def test_spec_of_another_type(spec):
    text = (
        "`backbone` must be a name, an nn.Module, a callable that returns one, or a "
        "Backbone. Got "
    )
    with pytest.raises(TypeError, match=text):
        load_backbone(spec)


def test_backbone_is_returned_as_it_is(resnet18):
    assert load_backbone(resnet18) is resnet18


def small():
    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(1), nn.LazyLinear(2)]
    convolutions = nn.Sequential(*layers[:2], nn.AdaptiveAvgPool2d(2), *layers[2:])
    return load_backbone(convolutions, preprocessing=GIVEN, random_state=0)


def assert_own_weights(backbone, other):
    pairs = zip(backbone.module.parameters(), other.module.parameters(), strict=True)
    for mine, its in pairs:
        assert mine is not its
        assert torch.equal(mine, its)


def test_backbone_at_another_image_size():
    backbone = small()
    known = backbone.describe_prefix("0")
    other = load_backbone(backbone, image_size=[64, 48])
    assert other.preprocessing == GIVEN.with_size((64, 48))
    assert other.activation_shape("0") == (4, 31, 23)
    assert_own_weights(other, backbone)
    assert other.frozen_section("input", "0") is not backbone.frozen_section(
        "input", "0"
    )
    assert other.describe_prefix("0") == known
    assert other.probe_digest("0") != backbone.probe_digest("0")
    assert backbone.preprocessing == GIVEN
    assert backbone.activation_shape("0") == (4, 15, 15)


def test_backbone_with_another_preprocessing():
    backbone = small()
    given = replace(GIVEN, mean=(0.5,) * 3)
    other = load_backbone(backbone, preprocessing=given, image_size=16)
    assert other.preprocessing == given.with_size(16)
    assert backbone.preprocessing == GIVEN
    assert_own_weights(other, backbone)


def test_backbone_with_weights_of_a_file(tmp_path):
    backbone, path = small(), tmp_path / "weights.pth"
    before = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    state = {k: v + 1 for k, v in before.items()}
    torch.save(state, path)
    other = load_backbone(backbone, weights=path)
    assert other.weights == str(path)
    assert backbone.weights is None
    for name, tensor in other.module.state_dict().items():
        assert torch.equal(tensor, state[name]), name
        assert torch.equal(backbone.module.state_dict()[name], before[name]), name


@pytest.mark.parametrize("weights", [None, "IMAGENET1K_V1"])
def test_weights_of_a_backbone_have_no_names(weights, resnet18):
    text = (
        "`weights` of a Backbone must be 'default', which keeps those that it has, the "
        f"path of a file or a state dict. Got {weights!r}."
    )
    with pytest.raises(ValueError, match=text):
        load_backbone(resnet18, weights=weights)


@pytest.mark.parametrize("spec", ["timm/test_resnet", nn.Linear(3, 2)])
def test_empty_name_of_weights(spec):
    text = "`weights` must be 'default', None, a name or the path of a file. Got ''."
    with pytest.raises(ValueError, match=text):
        load_backbone(spec, weights="")


@pytest.mark.parametrize("spec", ["timm/test_resnet", nn.Linear(3, 2)])
@pytest.mark.parametrize(
    ("weights", "got"),
    [
        *((value, f"{value!r}.") for value in (False, True, 0, [], b"w.pth")),
        (nn.Linear(3, 2), "Linear(in_features=3, out_features=2, bias=True). Pass its"),
        (torch.arange(300), "a Tensor."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_weights_of_another_type(spec, weights, got):
    text = (
        "`weights` must be 'default', None, a name, the path of a file or a state "
        f"dict. Got {got}"
    )
    with pytest.raises(TypeError, match=re.escape(text)):
        load_backbone(spec, weights=weights)


def test_preprocessing_of_another_kind(resnet18):
    text = "cannot be run on model inputs of shape \\(n, 5\\)"
    with pytest.raises(ValueError, match=text):
        load_backbone(resnet18, preprocessing=VectorPreprocessing(5))


def test_module_is_in_eval_mode():
    assert not load_backbone(nn.Sequential(nn.Linear(3, 2)).train()).module[0].training


@pytest.mark.parametrize("spec", [nn.Linear(3, 2), lambda: nn.Linear(3, 2)])
def test_weights_of_a_module_have_no_names(spec):
    text = (
        "`weights` of a module or a callable must be 'default', None, the path of a "
        "file or a state dict. Got 'IMAGENET1K_V1'."
    )
    with pytest.raises(ValueError, match=text):
        load_backbone(spec, weights="IMAGENET1K_V1")


@pytest.mark.parametrize(
    "spec",
    ["torchvision/squeezenet1_1", "timm/test_resnet", lambda: nn.Linear(3, 2)],
)
def test_random_weights_are_seeded_without_a_global_generator(spec):
    def weights(seed):
        module = load_backbone(spec, weights=None, random_state=seed).module
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    state = torch.get_rng_state()
    first, same, other, unseeded = map(weights, (0, 0, 1, None))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not torch.equal(first, unseeded)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [(32, 64), [32, 64]])
def test_image_size(size):
    backbone = load_backbone("timm/test_resnet", weights=None, image_size=size)
    assert backbone.preprocessing.size == (32, 64)
    assert backbone.activation_shape("input") == (3, 32, 64)


def test_image_size_wrong():
    with pytest.raises(ValueError, match="`image_size` must be a positive int"):
        load_backbone("timm/test_resnet", weights=None, image_size=0)


def test_image_size_of_vectors():
    with pytest.raises(ValueError, match="`image_size` must be None for a backbone"):
        load_backbone(nn.Linear(3, 2), image_size=32)


def test_preprocessing_may_be_given():
    given = GIVEN
    for spec in ("timm/test_resnet", nn.Sequential(nn.Conv2d(3, 4, 3))):
        backbone = load_backbone(spec, weights=None, preprocessing=given)
        assert backbone.preprocessing == given
        backbone = load_backbone(spec, weights=None, preprocessing=given, image_size=64)
        assert backbone.preprocessing.resize == 80


@pytest.mark.parametrize("make", [small, lambda: "efficientnet_lite0"])
def test_preprocessing_of_the_weights_may_be_changed(make):
    own = load_backbone(make()).preprocessing
    backbone = load_backbone(make(), preprocessing={"interpolation": "box"})
    assert backbone.preprocessing == replace(own, interpolation="box") != own
    sized = load_backbone(backbone, preprocessing={"mean": (0, 0, 0)}, image_size=64)
    assert sized.preprocessing.interpolation == "box"
    assert sized.preprocessing.size == (64, 64)


def test_preprocessing_without_such_a_parameter():
    message = "`preprocessing` may change .*'resize'.* of the ImagePreprocessing .* Go"
    with pytest.raises(ValueError, match=f"{message}t 'resise'. Did you mean 'resize'"):
        load_backbone("timm/test_resnet", weights=None, preprocessing={"resise": 32})


@pytest.mark.parametrize(
    "weights", ["weights.pth", "weights.safetensors", "folder/weights"]
)
def test_weights_that_look_like_a_path_are_one(weights):
    with pytest.raises(FileNotFoundError, match=f"no checkpoint file '{weights}'"):
        load_backbone("timm/test_resnet", weights=weights)


@pytest.fixture(autouse=True)
def _forget():
    _load._shared.clear()
    yield
    _load._shared.clear()


def get(spec="timm/test_resnet", *, weights=None, image_size=None, seed=0):
    return shared_backbone(spec, weights=weights, image_size=image_size, seed=seed)


def test_equal_backbones_are_loaded_once():
    assert get() is get()
    assert get(image_size=[64, 64]) is get(image_size=(64, 64))
    first = get("efficientnet_lite0", weights="default", seed=0)
    assert first is get("efficientnet_lite0", weights="default", seed=1)


def test_different_backbones_are_loaded_separately():
    found = [get(), get(seed=1), get(image_size=64), get("timm/test_vit")]
    assert len({id(backbone) for backbone in found}) == 4
    weights = [backbone.module.state_dict() for backbone in found[:2]]
    assert not torch.equal(weights[0]["conv1.0.weight"], weights[1]["conv1.0.weight"])


def test_shared_weights_require_no_gradient():
    assert not any(p.requires_grad for p in get().module.parameters())


def test_number_of_shared_backbones_is_limited():
    first = get(seed=0)
    for seed in range(1, 5):
        get(seed=seed)
    assert len(_load._shared) == 4
    assert get(seed=0) is not first


def test_rewritten_file_is_read_again(tmp_path):
    path = str(tmp_path / "weights.pth")
    for seed in (0, 1):
        module = load_backbone(
            "timm/test_resnet", weights=None, random_state=seed
        ).module
        torch.save(module.state_dict(), path)
        os.utime(path, ns=(seed, seed))
        backbone = get(weights=path)
        assert backbone is get(weights=path)
        expected = module.state_dict()["conv1.0.weight"]
        assert torch.equal(backbone.module.state_dict()["conv1.0.weight"], expected)


def test_state_dicts_are_compared_by_their_content():
    first, second = (get(seed=seed).module.state_dict() for seed in (0, 1))
    backbone = get(weights=first)
    assert backbone is get(weights={k: v.clone() for k, v in first.items()})
    assert backbone is not get(weights=second)


def test_weights_of_another_type_are_an_error():
    with pytest.raises(TypeError, match="`weights` must be .*state dict. Got \\[\\]."):
        get(weights=[])


def write(path, seed):
    """Write weights, and set the timestamps of the file back."""
    module = load_backbone("timm/test_resnet", weights=None, random_state=seed).module
    torch.save(module.state_dict(), path)
    os.utime(path, (1e9, 1e9))
    return module.state_dict()["conv1.0.weight"]


def first_weights(path):
    return get(weights=path).module.state_dict()["conv1.0.weight"]


def test_files_of_one_relative_path_in_two_folders_differ(tmp_path, monkeypatch):
    for seed in (1, 2):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        expected = write(folder / "best.pt", seed)
        monkeypatch.chdir(folder)
        assert torch.equal(first_weights("./best.pt"), expected)


def test_link_to_another_file_is_read_again(tmp_path):
    link = tmp_path / "best.pt"
    for seed in (1, 2):
        expected = write(tmp_path / f"{seed}.pt", seed)
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / f"{seed}.pt")
        assert torch.equal(first_weights(str(link)), expected)


def test_file_that_is_rewritten_within_a_tick_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / "best.pt"
    monkeypatch.setattr("sktransfer.utils._hashing._stamp", lambda status: (0, 0, 0, 0))
    monkeypatch.setattr("sktransfer.utils._hashing._SETTLED", float("inf"))
    for seed in (1, 2):
        expected = write(path, seed)
        assert torch.equal(first_weights(str(path)), expected)


def test_file_that_is_written_while_it_is_read_is_not_shared(tmp_path, monkeypatch):
    path = tmp_path / "best.pt"
    write(path, 1)
    load = _load.load_backbone

    def load_and_write(*args, **kwargs):
        backbone = load(*args, **kwargs)
        write(path, 2)
        return backbone

    monkeypatch.setattr(_load, "load_backbone", load_and_write)
    get(weights=str(path))
    assert len(_load._shared) == 0


def test_network_whose_code_was_replaced_is_loaded_again(monkeypatch):
    before = get()
    last = before.stage_names[-1]
    key, kind = before.prefix_fingerprint(last), type(before.module.bn1)
    forward = kind.forward
    assert get() is before
    with monkeypatch.context() as patch:
        patch.setattr(kind, "forward", lambda self, x: -forward(self, x))
        patched = get()
        assert patched is not before and get() is patched
        assert patched.prefix_fingerprint(last) != key
    assert get() is not patched


def test_callable_that_makes_random_weights_is_warned_of():
    def resnet(weights=None):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

    def timm_net(pretrained=False):
        return resnet()

    given = {"preprocessing": ImagePreprocessing(size=(16, 16))}
    text = r"^`backbone` is called .* functools.partial\(resnet, weights='DEFAULT'\)"
    with pytest.warns(UserWarning, match=text):
        load_backbone(resnet, **given)
    with pytest.warns(UserWarning, match=r"partial\(timm_net, pretrained=True\)"):
        load_backbone(timm_net, **given)
    load_backbone(resnet, weights=None, **given)
    load_backbone(functools.partial(resnet, weights="DEFAULT"), **given)
    load_backbone(resnet(), **given)
