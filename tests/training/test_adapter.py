import copy
import pickle
import re
import sys

import pytest
import timm
import torch
from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.models import VisionTransformer

from sktransfer.backbones import load_backbone
from sktransfer.compute import use_channels_last
from sktransfer.inputs import ImagePreprocessing
from sktransfer.training._adapter import add_lora, merge_lora


def images_of(size):
    return ImagePreprocessing(
        size=(size, size),
        resize=size,
        interpolation="bilinear",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )


def of_vectors(make, n_features=4):
    return load_backbone(make, n_features=n_features, random_state=0)


def of_images(make, size=16):
    return load_backbone(make, preprocessing=images_of(size), random_state=0)


def example(section, n=4):
    shape = section.backbone.activation_shape(section.start)
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


def run(section, z):
    with torch.no_grad():
        return section(z)


def whole(backbone):
    return backbone.section("input", "output")


def adapt(section, rank=2, alpha=4.0, seed=0):
    return add_lora(section, rank=rank, alpha=alpha, seed=seed)


def adapters(section):
    return {n: p for n, p in section.named_parameters() if ".lora_" in n}


def randomise(section, seed=1):
    """Set B to random values, as if it was trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapters(section).items():
            if ".lora_B." in name:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise * 0.05)


@pytest.fixture(scope="module")
def shipped():
    return load_backbone("efficientnet_lite0", image_size=64)


@pytest.fixture
def lite0(shipped):
    return copy.deepcopy(shipped)


def mlp():
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3)
    )


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=2, dilation=2, padding_mode="reflect"),
        nn.ReLU(),
        Conv2dSame(6, 8, 3, stride=2),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(),
        Conv2dSame(8, 6, 2, dilation=2, bias=False),
        nn.Conv2d(6, 4, (1, 3), stride=(1, 2), padding="valid"),
        nn.Conv2d(4, 4, 3, padding="same", padding_mode="circular"),
        Conv2dSame(4, 4, 1),
        nn.Conv2d(4, 5, 1, stride=2),
    )


def other_dimensions():
    return nn.Sequential(
        nn.Unflatten(1, (2, 8)),
        nn.Conv1d(2, 4, 3, padding=1, dilation=1),
        nn.Conv1d(4, 8, 1),
        nn.ReLU(),
        nn.Unflatten(1, (2, 2, 2)),
        nn.Conv3d(2, 3, (2, 2, 3), padding=(0, 0, 1)),
        nn.Conv3d(3, 2, 1),
    )


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (4, 8)), layer, nn.Linear(8, 2))


def torchvision_vit():
    return VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)


def timm_vit():
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_classes=5
    )


BACKBONES = {
    "efficientnet_lite0": lambda: load_backbone("efficientnet_lite0", image_size=64),
    "convolutions": lambda: of_images(convolutions),
    "1d and 3d": lambda: of_vectors(other_dimensions, 16),
    "mlp": lambda: of_vectors(mlp),
    "TransformerEncoderLayer": lambda: of_vectors(encoder, 32),
    "torchvision ViT": lambda: of_images(torchvision_vit, 32),
    "timm ViT": lambda: of_images(timm_vit, 32),
}


@pytest.mark.parametrize("make", BACKBONES.values(), ids=BACKBONES)
def test_adapters_start_at_zero_agree_when_merged_and_are_removed(make):
    backbone = make()
    section, names = whole(backbone), backbone.stage_names
    classes = [(path, type(layer)) for path, layer in backbone.module.named_modules()]
    keys, fingerprint = [*section.state_dict()], backbone.fingerprint
    z = example(section)
    plain = run(section, z)
    adapt(section)
    assert_close(run(section, z), plain, rtol=1e-6, atol=1e-6)
    merge_lora(section)  # of B that is zero
    assert [(p, type(m)) for p, m in backbone.module.named_modules()] == classes
    assert [*section.state_dict()] == keys
    assert backbone.fingerprint == fingerprint
    assert backbone.untraced().stage_names == names
    adapt(section)
    randomise(section)
    expected = run(section, z)
    scale = expected.abs().max()
    assert (expected - plain).abs().max() > 1e-3 * scale
    merge_lora(section)
    assert_close(run(section, z) / scale, expected / scale, rtol=0, atol=1e-5)
    with torch.no_grad():
        assert_close(backbone.module(z) / scale, expected / scale, rtol=0, atol=1e-5)


def test_merged_network_is_the_same_as_one_with_those_weights(lite0, shipped):
    section = lite0.section("blocks.4", "conv_head")
    adapt(section)
    randomise(section)
    merge_lora(section)
    assert lite0.fingerprint != shipped.fingerprint
    twin = copy.deepcopy(shipped)
    twin.module.load_state_dict(lite0.module.state_dict())
    assert twin.fingerprint == lite0.fingerprint
    loaded, z = pickle.loads(pickle.dumps(section)), example(section)
    assert torch.equal(run(loaded, z), run(section, z))


def test_weight_becomes_that_of_the_paper():
    backbone = of_vectors(lambda: nn.Sequential(nn.Linear(4, 3)))
    section = whole(backbone)
    z = example(section)
    (layer,) = backbone.module
    weight = layer.weight.detach().clone()
    adapt(section, rank=2, alpha=6.0)
    randomise(section)
    b, a = (p.detach() for _, p in sorted(adapters(section).items(), reverse=True))
    assert (a.shape, b.shape) == ((2, 4), (3, 2))
    assert_close(run(section, z), z @ (weight + 6.0 / 2 * b @ a).T + layer.bias)
    merge_lora(section)
    assert_close(layer.weight.detach(), weight + 6.0 / 2 * b @ a)
    assert backbone.module[0] is layer and section.get_submodule("0") is layer


def test_layers_of_the_shipped_backbone(lite0):
    section = whole(lite0)
    expected = [
        path
        for path, layer in section.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and "conv_dw" not in path
    ]
    assert adapt(section) == expected
    assert {"conv_stem", "blocks.0.0.conv_pw", "conv_head"} <= {*expected}
    assert type(lite0.module.conv_stem.base_layer) is Conv2dSame


def test_only_adapters_are_trained_and_the_network_is_kept(lite0):
    prefix, section = lite0.split("blocks.5")
    prefix.freeze()
    section.requires_grad_(True)
    before = {k: v.clone() for k, v in lite0.module.state_dict().items()}
    adapt(section)
    trained = {n for n, p in section.named_parameters() if p.requires_grad}
    assert trained == {*adapters(section)} and trained
    fit(section)
    after = {
        name.replace(".base_layer", ""): value
        for name, value in lite0.module.state_dict().items()
        if ".lora_" not in name
    }
    assert after.keys() == before.keys()
    for name, value in after.items():
        assert torch.equal(value, before[name]), name
    merge_lora(section)
    assert not any(p.requires_grad for p in lite0.module.parameters())


def fit(section, n_steps=3):
    """Train the trainable parameters to predict zeros; return the losses."""
    section.eval()
    trained = [p for p in section.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.0)
    losses = []
    for _ in range(n_steps):
        loss = section(example(section)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_adapters_learn():
    section = whole(of_vectors(mlp))
    adapt(section)
    losses = fit(section, 50)
    assert losses[-1] < 0.2 * losses[0]


def test_same_seed_same_fit():
    def fitted(seed):
        section = whole(of_vectors(mlp))
        adapt(section, seed=seed)
        fit(section)
        merge_lora(section)
        return section.get_submodule("4").weight

    assert torch.equal(fitted(0), fitted(0))
    assert not torch.equal(fitted(0), fitted(1))


def test_global_generator_is_left_alone():
    section = whole(of_vectors(mlp))
    state = torch.random.get_rng_state()
    adapt(section)
    merge_lora(section)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("fixed", [True, False])
def test_modes_are_those_of_the_section(fixed):
    backbone = of_vectors(mlp)
    section, norm = whole(backbone), backbone.module[1]
    section.fixed_statistics = fixed
    section.train()
    adapt(section)
    others = [m for m in section.modules() if m is not norm]
    assert all(m.training for m in others) and norm.training is not fixed
    z = example(section)
    assert not torch.equal(run(section, z), run(section, z))  # dropout
    assert (norm.num_batches_tracked.item() == 0) is fixed
    backbone.module.eval()
    assert not torch.equal(run(section, z), run(section, z))  # its own mode
    section.eval()
    assert not any(m.training for m in section.modules())
    assert torch.equal(run(section, z), run(section, z))
    section.train()
    merge_lora(section)
    assert backbone.module[0].training and norm.training is not fixed


def test_adapters_move_with_the_section():
    section = whole(of_vectors(mlp))
    adapt(section)
    randomise(section)
    z = example(section)
    expected = run(section, z)
    section.double()
    assert {p.dtype for p in section.parameters()} == {torch.float64}
    assert_close(run(section, z.double()).float(), expected)
    merge_lora(section)
    assert_close(run(section, z.double()).float(), expected)


def test_merge_keeps_the_memory_format(lite0):
    section = use_channels_last(lite0.section("blocks.5", "conv_head"))
    adapt(section)
    randomise(section)
    merge_lora(section)
    weight = lite0.module.conv_head.weight
    strided = lite0.module.blocks[6][0].conv_dw.weight
    for tensor in (weight, strided):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("rank", [6, 1000])
def test_rank_ends_at_the_smaller_side_and_the_scale_is_kept(rank):
    backbone = of_images(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 9, 1)))
    section = whole(backbone)
    before = [layer.weight.detach().clone() for layer in backbone.module]
    adapt(section, rank=rank, alpha=2.0 * rank)
    a1, b1, a2, b2 = adapters(section).values()
    assert (a1.shape, b1.shape) == ((4, 3, 3, 3), (4, 4, 1, 1))
    assert (a2.shape, b2.shape) == ((4, 4, 1, 1), (9, 4, 1, 1))
    randomise(section)
    merge_lora(section)
    for old, layer, a, b in zip(
        before, backbone.module, (a1, a2), (b1, b2), strict=True
    ):
        change = 2.0 * b.flatten(1) @ a.flatten(1)
        assert_close(layer.weight.flatten(1), old.flatten(1) + change)


def test_rank_below_all_sides_is_taken_everywhere(lite0):
    section = lite0.section("blocks.5", "conv_head")
    adapt(section, rank=3)
    ranks = [p.shape[0] for n, p in adapters(section).items() if ".lora_A." in n]
    assert {*ranks} == {3}


def left_out(backbone, section=None):
    """Return the layers with a weight matrix that have no adapter."""
    section = whole(backbone) if section is None else section
    kinds = (nn.Linear, nn.Conv2d)
    paths = [p for p, m in section.named_modules() if isinstance(m, kinds)]
    adapted = adapt(section)
    return [path for path in paths if path not in adapted]


def test_layers_that_compute_their_weight_are_left_out():
    def make():
        hooked = nn.Conv2d(4, 4, 1)
        hooked.register_forward_hook(lambda layer, args, out: 2 * out)
        return nn.Sequential(
            nn.Conv2d(3, 4, 1),
            StdConv2d(4, 4, 3),
            ScaledStdConv2d(4, 4, 3),
            nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
            nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)),
            hooked,
            nn.Conv2d(4, 2, 1),
        )

    assert left_out(of_images(make)) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("TransformerEncoderLayer", ["1.self_attn.out_proj"]),
        (
            "torchvision ViT",
            [
                f"encoder.layers.encoder_layer_{i}.self_attention.out_proj"
                for i in range(2)
            ],
        ),
        ("timm ViT", []),
    ],
)
def test_projection_of_multihead_attention_is_left_out(name, paths):
    assert left_out(BACKBONES[name]()) == paths


class Reads(nn.Module):
    """Network that calls a layer, reads the weight of another, and does both."""

    def __init__(self):
        super().__init__()
        self.called = nn.Linear(4, 4)
        self.read = nn.Linear(4, 4)
        self.both = nn.Linear(4, 4)

    def forward(self, x):
        x = F.linear(self.called(x), self.read.weight)
        return self.both(x) + F.linear(x, self.both.weight)


def test_weights_that_are_read_are_left_out():
    section = whole(load_backbone(Reads(), random_state=0))
    assert adapt(section) == ["called"]


class Shares(nn.Module):
    """Network that uses a layer and a weight in the first stage and in later ones."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.c = nn.Linear(4, 4)
        self.d = nn.Linear(4, 4)
        self.d.weight = self.b.weight

    def forward(self, x):
        x = self.b(self.a(x))
        return self.d(self.a(self.c(x)))


def test_what_frozen_stages_use_is_left_out():
    backbone = load_backbone(Shares(), random_state=0)
    prefix, section = backbone.split("b")
    prefix.freeze()
    z = example(prefix)
    expected = run(prefix, z)
    assert adapt(section) == ["c"]
    randomise(section)
    assert torch.equal(run(prefix, z), expected)
    merge_lora(section)
    assert torch.equal(run(prefix, z), expected)


def test_weight_of_two_layers_is_left_out():
    assert adapt(whole(load_backbone(Shares(), random_state=0))) == ["a", "c"]


class Twice(nn.Module):
    """Network with one layer under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = self.first
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.second(self.first(x)))


def test_layer_of_two_names_is_replaced_under_both():
    backbone = load_backbone(Twice(), random_state=0)
    section, layer = whole(backbone), backbone.module.first
    adapt(section)
    randomise(section)
    assert backbone.module.first is backbone.module.second
    z = example(section)
    expected = run(section, z)
    assert_close(backbone.module(z).detach(), expected)
    merge_lora(section)
    assert backbone.module.first is backbone.module.second is layer
    assert_close(run(section, z), expected)


def test_no_layer_to_adapt_raises():
    backbone = of_vectors(lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    section = backbone.section("0", "output")
    text = (
        "LoRA needs a linear layer or a convolution without groups among the trained "
        "stages. Sequential from '0' to 'output' has none that it could change. "
        "Freeze fewer stages, or train these without LoRA."
    )
    section.requires_grad_(True)
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        adapt(section)


def test_second_adapters_raise():
    section = whole(of_vectors(mlp))
    adapt(section)
    with pytest.raises(ValueError, match="has adapters already; `merge_lora` comes fi"):
        adapt(section)
    merge_lora(section)
    assert adapt(section) == ["0", "4"]


def test_merge_without_adapters_changes_nothing():
    backbone = of_vectors(mlp)
    fingerprint = backbone.fingerprint
    merge_lora(whole(backbone))
    assert backbone.fingerprint == fingerprint


def test_missing_peft_raises(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    text = "LoRA needs peft. Install it with: pip install 'sktransfer[lora]'"
    with pytest.raises(ImportError, match=f"^{re.escape(text)}$"):
        adapt(whole(of_vectors(mlp)))
