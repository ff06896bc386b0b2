"""Every architecture, split at every boundary, equals the whole."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.testing import assert_close
from torchvision import models

from sktransfer.backbones import load_backbone
from sktransfer.inputs.images._preprocessing import IMAGENET

# One small network per kind of architecture. size None: it takes no other one.
FAST = {
    "torchvision/efficientnet_b0": 64,
    "torchvision/googlenet": 64,
    "torchvision/mobilenet_v3_small": 64,
    "torchvision/resnet18": 64,
    "torchvision/shufflenet_v2_x0_5": 64,
    "torchvision/squeezenet1_1": 64,
    "timm/convnext_atto": 64,
    "timm/efficientvit_b0": 64,
    "timm/levit_128s": None,
    "timm/mobilenetv4_conv_small": 64,
    "timm/test_byobnet": 64,
    "timm/test_mambaout": 64,
    "timm/test_nfnet": 64,
    "timm/test_vit3": 64,
    "timm/tf_efficientnet_lite0": 64,
}
# Networks that are made for one size of image.
MADE_FOR_SIZE = {
    "timm/deit_tiny_distilled_patch16_224": 64,
    "timm/efficientvit_m0": 64,
    "timm/eva02_tiny_patch14_224": 56,
    "timm/mixer_s32_224": 96,
    "timm/test_vit": 64,
}
SLOW = {
    "torchvision/alexnet": 64,
    "torchvision/convnext_tiny": 64,
    "torchvision/densenet121": 64,
    "timm/densenet121": 64,
    "torchvision/inception_v3": 96,
    "torchvision/maxvit_t": None,
    "torchvision/mnasnet0_5": 64,
    "torchvision/regnet_y_400mf": 64,
    "torchvision/resnext50_32x4d": 64,
    "torchvision/swin_t": 64,
    "torchvision/swin_v2_t": 64,
    "torchvision/vgg11": 64,
    "torchvision/vit_b_32": 64,
    "timm/fastvit_t8": 64,
    "timm/hrnet_w18_small": 64,
    "timm/mobilenetv3_small_050": 64,
    "timm/resnet26": 64,
    "timm/swin_tiny_patch4_window7_224": None,
    "timm/vit_small_patch14_dinov2": 56,
    "timm/xcit_nano_12_p16_224": 64,
}


def example(backbone, n):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, *backbone.preprocessing.input_shape, generator=generator)


def assert_near(actual, expected):
    """Compare to 1e-5 of the largest value."""
    largest = expected.detach().abs().max().item()
    assert_close(actual, expected, rtol=0, atol=1e-5 * largest)


@torch.no_grad()
def check_walk(backbone, n=4):
    """Compare the sections between boundaries, and some suffixes, with the whole.

    The batch has another size than those in the trace.
    """
    z = x = example(backbone, n)
    expected = backbone.module(x.clone())
    assert (expected[0] - expected[1]).abs().max() > 0, "the weights are trivial"
    start, checked = "input", backbone.stage_names[:: len(backbone.stages) // 4 or 1]
    for name in backbone.boundaries:
        z = backbone.section(start, name)(z)
        start = name
        assert z.shape == (n, *backbone.activation_shape(name))
        if name in checked:
            kept = z.clone()
            assert_near(backbone.split(name)[1](z), expected)
            assert torch.equal(z, kept), "the suffix overwrote its activations"
    assert_near(backbone.section(start, "output")(z), expected)
    assert torch.equal(x, example(backbone, n)), "the prefix overwrote its input"


def load(name, size, randomise):
    backbone = load_backbone(name, weights=None, image_size=size, random_state=0)
    randomise(backbone.module)
    return backbone


@pytest.fixture(scope="module")
def built(randomise):
    """Return a function that makes each backbone once. Tests must not change them."""
    made = {}

    def build(name, size=64):
        if (name, size) not in made:
            made[name, size] = load(name, size, randomise)
        return made[name, size]

    return build


@pytest.mark.parametrize(("name", "size"), FAST.items(), ids=FAST)
def test_sections_of_architecture_equal_the_whole(name, size, built):
    backbone = built(name, size)
    assert len(backbone.stages) >= 3
    check_walk(backbone)


def test_sections_of_dense_blocks_equal_the_whole(randomise):
    def make():
        return models.DenseNet(4, (2, 2, 2), 8)

    options = {"preprocessing": IMAGENET, "image_size": 64, "random_state": 0}
    backbone = load_backbone(make, **options)
    randomise(backbone.module)
    assert len(backbone.stages) >= 3
    check_walk(backbone)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), SLOW.items(), ids=SLOW)
def test_sections_of_large_architecture_equal_the_whole(name, size, randomise):
    check_walk(load(name, size, randomise))


@pytest.mark.parametrize(("name", "size"), MADE_FOR_SIZE.items(), ids=MADE_FOR_SIZE)
def test_sections_of_network_made_for_its_size_equal_the_whole(name, size, randomise):
    module = timm.create_model(name.removeprefix("timm/"), img_size=size, num_classes=3)
    backbone = load_backbone(module, image_size=size)
    randomise(backbone.module)
    assert backbone.preprocessing.size == (size, size)
    assert len(backbone.stages) >= 4
    check_walk(backbone)


class SmallSwin(models.SwinTransformer):
    """Windows with and without shift."""

    def __init__(self):
        super().__init__([4, 4], 12, [2, 2], [2, 4], [4, 4], num_classes=3)


@torch.no_grad()
def test_batch_size_of_one_and_seven(randomise):
    module = randomise(SmallSwin())
    backbone = load_backbone(module, preprocessing=IMAGENET, image_size=64)
    check_walk(backbone)
    for n in (1, 7):
        x = example(backbone, n)
        expected = backbone.module(x)
        for name in backbone.stage_names[1::3]:
            prefix, suffix = backbone.split(name)
            assert_near(suffix(prefix(x)), expected)


@pytest.mark.slow
def test_network_with_two_branches_is_one_stage(randomise):
    backbone = load("timm/crossvit_tiny_240", None, randomise)
    assert backbone.stage_names == ["network"]
    check_walk(backbone)


@pytest.mark.parametrize(
    ("name", "stages"),
    {
        "torchvision/resnet18": "stem layer1 layer2 layer3 layer4",
        "timm/tf_efficientnet_lite0": "stem blocks.0 blocks.1 blocks.2 blocks.3 "
        "blocks.4 blocks.5 blocks.6 conv_head",
        "timm/convnext_atto": "stem stages.0 stages.1 stages.2 stages.3",
    }.items(),
)
def test_stages_of_architecture(name, stages, built):
    assert built(name).stage_names == stages.split()


@pytest.mark.slow
def test_stages_of_vgg():
    backbone = load_backbone("torchvision/vgg11", weights=None, image_size=64)
    convolutions = "stem features.3 features.8 features.13 features.18".split()
    assert backbone.stage_names == [*convolutions, "classifier.0", "classifier.3"]


def test_stages_of_vision_transformer():
    backbone = load_backbone("timm/vit_tiny_patch16_224", weights=None, image_size=64)
    names = ["patch_embed", *(f"blocks.{i}" for i in range(12))]
    assert backbone.stage_names == names


@pytest.mark.parametrize(
    ("name", "n_blocks"), [("torchvision/resnet18", 2), ("timm/densenet121", 4)]
)
def test_blocks_are_inside_their_stage(name, n_blocks, built):
    backbone = built(name)
    ends = list(backbone.boundaries.values())
    assert ends == sorted(ends)
    assert sum(len(stage.blocks) > 0 for stage in backbone.stages) >= n_blocks


@torch.no_grad()
@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/convnext_atto"])
def test_split_at_every_boundary_equals_the_whole(name, built):
    backbone = built(name)
    x = example(backbone, 2)
    expected = backbone.module(x)
    assert len(backbone.boundaries) > len(backbone.stages)
    for boundary in ["input", *backbone.boundaries, "features", "output"]:
        prefix, suffix = backbone.split(boundary)
        assert_near(suffix(prefix(x)), expected)


def test_other_image_sizes(randomise):
    backbone = load("torchvision/resnet18", (64, 96), randomise)
    check_walk(backbone, n=2)
    assert backbone.activation_shape("layer4") == (512, 2, 3)


@torch.no_grad()
def test_activations_in_channels_last_give_the_same(resnet18, images):
    prefix, suffix = resnet18.split("layer2")
    x = images()
    z = prefix(x.contiguous(memory_format=torch.channels_last))
    z = z.contiguous(memory_format=torch.channels_last)
    assert z.is_contiguous(memory_format=torch.channels_last)
    assert_near(suffix(z), resnet18.module(x))


def without_randomness(module):
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if hasattr(layer, "drop_prob"):
            layer.drop_prob = 0.0
    return module


@pytest.mark.parametrize(
    ("name", "boundary", "size"),
    [
        ("torchvision/resnet18", "layer2.0", 64),  # BatchNorm
        ("torchvision/mobilenet_v3_small", "features.6", 64),  # and dropout
        ("timm/convnext_atto", "stages.1", 64),  # and drop path
        ("timm/test_vit", "blocks.3", None),
    ],
)
def test_gradients_of_suffix_equal_those_of_the_whole(name, boundary, size, randomise):
    backbone = load(name, size, randomise)
    without_randomness(backbone.module)
    whole = copy.deepcopy(backbone)
    x = example(backbone, 4)

    prefix, suffix = backbone.split(boundary)
    prefix.freeze()
    out = suffix.train()(prefix.train()(x))
    out.square().sum().backward()

    twin = whole.split(boundary)[0].freeze()
    whole.module.train()
    for path, _ in prefix.named_modules():
        whole.module.get_submodule(path).training = path == ""
    expected = whole.module(x)
    expected.square().sum().backward()

    assert_near(out, expected)
    frozen = dict(twin.named_parameters())
    for path, parameter in backbone.module.named_parameters():
        reference = whole.module.get_parameter(path).grad
        assert (parameter.grad is None) == (reference is None) == (path in frozen)
        if reference is not None:
            scale = float(reference.abs().max())
            assert_close(parameter.grad, reference, rtol=1e-4, atol=1e-5 * scale + 1e-7)
    for path, buffer in backbone.module.named_buffers():
        assert_close(buffer, whole.module.get_buffer(path))
