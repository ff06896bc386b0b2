"""Networks at another image size than that of their weights."""

import re

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close
from torchvision.models import VisionTransformer, get_model

from sktransfer.backbones import _timm, load_backbone
from sktransfer.backbones._images import size_error
from sktransfer.backbones._torchvision import TorchvisionProvider, _make
from sktransfer.inputs.images._preprocessing import IMAGENET


@pytest.mark.parametrize("reason", ["It is so.", "It is\n  so:", "It is so"])
def test_size_error(reason):
    error = size_error("timm/x", [64, 96], [224, 224], reason)
    assert isinstance(error, ValueError)
    assert str(error) == (
        "`image_size` of 'timm/x' cannot be (64, 96): It is so. Leave it out for the "
        "size of the weights, (224, 224)."
    )


def test_size_error_names_the_type_of_an_exception_and_cuts_its_text():
    text = str(size_error("x", (1, 1), (2, 2), KeyError("y" * 900)))
    assert "cannot be (1, 1): KeyError: 'yyy" in text
    assert len(text) < 400


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """Return a function that replaces downloaded weights of timm by a state dict."""

    def give(state):
        save_file(state, tmp_path / "w.safetensors")
        path = str(tmp_path / "w.safetensors")
        monkeypatch.setattr(_timm, "_weights_file", lambda name, config: path)

    return give


def saved(module, path):
    torch.save(module.state_dict(), path)
    return path


def positions(state):
    return state["pos_embed"]


@pytest.fixture(scope="module")
def vit():
    """Return timm's test_vit for 160 px."""
    return timm.create_model("test_vit").eval()


def resampled(module, size):
    """Return timm's model of another size, with these weights resampled."""
    overlay = {"state_dict": module.state_dict()}
    name = module.pretrained_cfg["architecture"]
    return timm.create_model(
        name, pretrained=True, img_size=size, pretrained_cfg_overlay=overlay
    )


@pytest.mark.parametrize("size", [64, (64, 96)])
def test_checkpoint_of_a_transformer_is_resampled(vit, size, tmp_path):
    path = saved(vit, tmp_path / "vit.pth")
    backbone = load_backbone("timm/test_vit", weights=path, image_size=size)
    expected = resampled(vit, size).state_dict()
    assert positions(expected).shape != positions(vit.state_dict()).shape
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    wanted = (size, size) if isinstance(size, int) else size
    assert backbone.preprocessing.size == wanted
    assert backbone.activation_shape("input") == (3, *wanted)


def test_pretrained_weights_of_a_transformer_are_resampled(vit, downloads):
    downloads(vit.state_dict())
    backbone = load_backbone("timm/test_vit", image_size=64)
    assert torch.equal(
        positions(backbone.module.state_dict()),
        positions(resampled(vit, 64).state_dict()),
    )
    assert torch.equal(load_backbone("timm/test_vit").module.pos_embed, vit.pos_embed)


# The warnings are of torch about how timm resamples tables of positions.
@pytest.mark.filterwarnings(
    "ignore:torch.searchsorted:UserWarning",
    "ignore:Using a non-tuple sequence:UserWarning",
)
def test_checkpoint_of_a_window_transformer_is_resampled(tmp_path):
    name = "swin_tiny_patch4_window7_224"
    module = timm.create_model(name)
    path = saved(module, tmp_path / "swin.pth")
    backbone = load_backbone(f"timm/{name}", weights=path, image_size=64)
    expected = resampled(module, 64).state_dict()
    table = "layers.3.blocks.1.attn.relative_position_bias_table"
    assert expected[table].shape != module.state_dict()[table].shape
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("swin_tiny_patch4_window7_224", 64, (2, 2, 768)),
        ("vit_small_patch14_dinov2", (56, 28), (9, 384)),
        ("gmlp_ti16_224", 64, (16, 128)),
    ],
)
def test_transformers_are_made_for_the_image_size(name, size, shape):
    backbone = load_backbone(f"timm/{name}", weights=None, image_size=size)
    assert backbone.activation_shape(backbone.stage_names[-1]) == shape
    prefix, suffix = backbone.split(1)
    x = backbone.preprocessing.example(2) + 1
    with torch.no_grad():
        assert torch.equal(suffix(prefix(x)), backbone.module(x))


MIXER = "timm/gmlp_ti16_224"


@pytest.fixture(scope="module")
def mixer():
    """Return a network whose weights cannot be resampled."""
    return timm.create_model("gmlp_ti16_224")


def test_checkpoint_that_cannot_be_resampled(mixer, tmp_path):
    path = saved(mixer, tmp_path / "mixer.pth")
    text = (
        "mixer.pth' does not fit MlpMixer: 'blocks.0.mlp_channels.gate.proj.weight' "
        "has shape \\(196, 196\\), expected \\(16, 16\\).* and 57 more. Leave "
        "`image_size` out for \\(224, 224\\)."
    )
    with pytest.raises(ValueError, match=text):
        load_backbone(MIXER, weights=path, image_size=64)
    backbone = load_backbone(MIXER, weights=path, image_size=224)
    assert torch.equal(backbone.module.head.weight, mixer.head.weight)


def test_pretrained_weights_that_cannot_be_resampled(mixer, downloads):
    downloads(mixer.state_dict())
    text = (
        "`image_size` of 'timm/gmlp_s16_224' cannot be \\(64, 64\\): RuntimeError: Err"
        "or.*size mismatch.* Leave it out for the size of the weights, \\(224, 224\\)."
    )
    with pytest.raises(ValueError, match=text):
        load_backbone("timm/gmlp_s16_224", image_size=64)


def test_failed_download_of_another_size():
    with pytest.raises(OSError, match="could not be downloaded from"):
        load_backbone("timm/test_vit", image_size=64)


@pytest.mark.parametrize(
    ("name", "size", "why"),
    [
        ("nest_tiny", (64, 96), "AssertionError: Model only handles square inputs"),
        pytest.param(
            *("halonet_h1", (100, 100), "AssertionError"), marks=pytest.mark.slow
        ),
        pytest.param(
            *(
                "efficientformer_l1",
                (160, 160),
                "RuntimeError: The size of tensor a .*",
            ),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_image_size_that_a_network_cannot_take(name, size, why):
    own = timm.models.get_pretrained_cfg(name).input_size[1:]
    with pytest.raises(ValueError, match="^`image_size` of ") as error:
        load_backbone(f"timm/{name}", weights=None, image_size=size)
    assert re.fullmatch(
        re.escape(f"`image_size` of 'timm/{name}' cannot be {size}: ")
        + why
        + re.escape(f". Leave it out for the size of the weights, {own}."),
        str(error.value),
    )


@pytest.fixture(scope="module")
def vit_b_32():
    """Return torchvision's vit_b_32 for 224 px."""
    return get_model("vit_b_32")


@torch.no_grad()
def test_positions_of_a_transformer_of_torchvision_are_resampled():
    own, network = (VisionTransformer(size, 16, 1, 2, 8, 16) for size in (224, 32))
    torch.nn.init.normal_(own.heads.head.weight)
    state = TorchvisionProvider().adapt(own.state_dict(), network)
    network.load_state_dict(state)
    embedding = state.pop("encoder.pos_embedding")
    assert embedding.shape == (1, 1 + 2 * 2, 8)
    # The corners of the grid stay where they are.
    assert_close(embedding[:, :2], own.encoder.pos_embedding[:, :2])
    assert_close(embedding[:, -1], own.encoder.pos_embedding[:, -1])
    for name, tensor in state.items():
        assert torch.equal(tensor, own.state_dict()[name]), name


@pytest.mark.slow
@torch.no_grad()
def test_checkpoint_of_a_transformer_of_torchvision_is_resampled(vit_b_32, tmp_path):
    torch.nn.init.normal_(vit_b_32.heads.head.weight)
    path = saved(vit_b_32, tmp_path / "vit.pth")
    backbone = load_backbone("torchvision/vit_b_32", weights=path, image_size=64)
    state = backbone.module.state_dict()
    embedding = state.pop("encoder.pos_embedding")
    own = vit_b_32.encoder.pos_embedding
    assert embedding.shape == (1, 1 + 2 * 2, 768)
    # The corners of the grid stay where they are.
    assert_close(embedding[:, :2], own[:, :2])
    assert_close(embedding[:, -1], own[:, -1])
    for name, tensor in state.items():
        assert torch.equal(tensor, vit_b_32.state_dict()[name]), name
    images = backbone.preprocessing.example(2) + 1
    prefix, suffix = backbone.split(5)
    assert torch.equal(suffix(prefix(images)), backbone.module(images))


@pytest.mark.parametrize("size", [(64, 32), 60])
def test_image_size_that_a_transformer_of_torchvision_cannot_take(size):
    shown = size if isinstance(size, tuple) else (size, size)
    text = (
        "`image_size` of 'torchvision/vit_b_32' must be a square with sides of a "
        f"multiple of 32 px, its patches. Got {shown}."
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        load_backbone("torchvision/vit_b_32", weights=None, image_size=size)


def test_image_size_of_maxvit():
    text = (
        "`image_size` of 'torchvision/maxvit_t' cannot be (64, 64): ValueError: Input "
        "size (16, 16) of block 0 is not divisible by partition size 7."
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        load_backbone("torchvision/maxvit_t", weights=None, image_size=64)


@pytest.mark.slow
def test_maxvit_is_made_for_an_image_size():
    module = _make("maxvit_t", (448, 448), (224, 224))
    assert module.state_dict().keys() == get_model("maxvit_t").state_dict().keys()
    assert module(torch.zeros(1, 3, 448, 448)).shape == (1, 1000)


def test_image_size_of_a_custom_network():
    text = "`image_size` of 'VisionTransformer' cannot be (64, 64): AssertionError"
    module = timm.create_model("test_vit3")
    with pytest.raises(ValueError, match=re.escape(text)):
        load_backbone(module, image_size=64)
    backbone = load_backbone(module)
    with pytest.raises(ValueError, match=re.escape(text)):
        load_backbone(backbone, image_size=64)


def test_image_size_of_given_preprocessing():
    given = IMAGENET.with_size(64)
    name = "timm/test_vit3"
    backbone = load_backbone(name, weights=None, preprocessing=given)
    assert backbone.preprocessing == given
    assert backbone.activation_shape("input") == (3, 64, 64)
    other = load_backbone(name, weights=None, preprocessing=given, image_size=[96, 64])
    assert other.preprocessing.size == (96, 64)
    assert other.activation_shape("input") == (3, 96, 64)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("size", [None, 24])
def test_network_for_other_channels(channels, size):
    module = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU())
    text = (
        "The model inputs of 'Sequential' must have 3 channels, as images are read as "
        f"RGB. Its first convolution takes {channels}. For arrays of {channels} "
        "channels pass `load_backbone(module, preprocessing="
        "MultichannelPreprocessing(mean, std, size))` as `backbone`; for pictures make "
        "the network for 3, as with timm's `in_chans=3`, or wrap it in an nn.Module "
        "whose `forward` makes its input of (n, 3, h, w), as in "
        "`return self.network(x.mean(1, keepdim=True))` for grey."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        load_backbone(module, preprocessing=IMAGENET, image_size=size).stages  # noqa: B018


@pytest.mark.parametrize(
    ("name", "size", "sides", "near"),
    [
        ("timm/vit_tiny_patch16_224", 31, "16", "(16, 16) and (32, 32)"),
        ("timm/convnext_atto", (64, 66), "4", "(64, 64) and (64, 68)"),
        ("torchvision/convnext_tiny", 63, "4", "(60, 60) and (64, 64)"),
        (
            nn.Sequential(nn.Conv2d(3, 4, (12, 8), (12, 8))),
            13,
            "(12, 8)",
            "(12, 8) and (24, 16)",
        ),
    ],
    ids=["vit", "convnext", "torchvision", "module"],
)
def test_size_that_is_no_multiple_of_the_patches(name, size, sides, near):
    height, width = size if isinstance(size, tuple) else (size, size)
    text = (
        f"must be a multiple of {sides} px, its patches, as it would not see the rest "
        f"of the image. Got ({height}, {width}); the nearest: {near}."
    )
    given = None if isinstance(name, str) else IMAGENET
    with pytest.raises(ValueError, match=f"^`image_size` of .*{re.escape(text)}$"):
        load_backbone(name, weights=None, image_size=size, preprocessing=given)


def test_patches_of_an_image_that_is_padded_first():
    module = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 4, 4))
    backbone = load_backbone(module, preprocessing=IMAGENET, image_size=15)
    assert backbone.activation_shape("output") == (4, 4, 4)


def test_error_is_not_about_the_size_if_the_own_size_fails_too():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 2))
    text = "cannot be run on model inputs of shape \\(n, 3, 224, 224\\) .*mat1 and mat2"
    with pytest.raises(ValueError, match=text):
        load_backbone(module, preprocessing=IMAGENET, image_size=24)
