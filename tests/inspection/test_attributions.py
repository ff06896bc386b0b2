import captum.attr as captum
import numpy as np
import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from sktransfer.activations import ActivationLayout
from sktransfer.inspection._attributions import (
    Cut,
    attention_rollout,
    grad_cam,
    grad_cam_plus_plus,
    integrated_gradients,
    occlusion,
)
from sktransfer.utils import import_optional


@pytest.fixture
def network():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
    rest = nn.Sequential(
        nn.Conv2d(6, 6, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return nn.Sequential(first, nn.Sequential(*rest, nn.Linear(6, 4)))


@pytest.fixture
def x():
    return torch.randn(1, 3, 12, 10, generator=torch.Generator().manual_seed(1))


def cut_of(network, x):
    shape = tuple(network[0](x).shape[1:])
    return Cut(*network, ActivationLayout(shape, tuple(x.shape[1:])))


def test_grad_cam_is_that_of_captum(network, x):
    found = grad_cam(cut_of(network, x), x, 2)
    reference = captum.LayerGradCam(network, network[0]).attribute(x, 2)
    torch.testing.assert_close(found, reference[0, 0].relu())
    assert found.max() > 0
    assert not torch.allclose(found, grad_cam(cut_of(network, x), x, 1))


def test_grad_cam_of_tokens_leaves_the_class_token_out(network, x):
    class Tokens(nn.Module):
        def forward(self, z):
            tokens = z.flatten(2).transpose(1, 2)
            return torch.cat([tokens[:, :1] * 5, tokens], 1)

    class Maps(nn.Module):
        def forward(self, tokens):
            return tokens[:, 1:].transpose(1, 2).unflatten(2, (10, 8))

    first = nn.Sequential(network[0], Tokens())
    rest = nn.Sequential(Maps(), network[1])
    layout = ActivationLayout((81, 6), (3, 10, 8))
    assert (layout.n_extra, layout.grid) == (1, (10, 8))
    found = grad_cam(Cut(first, rest, layout), x, 2)
    torch.testing.assert_close(found, grad_cam(cut_of(network, x), x, 2))


def test_grad_cam_plus_plus_follows_its_formula(network, x):
    found = grad_cam_plus_plus(cut_of(network, x), x, 2)
    z = network[0](x).detach().requires_grad_(True)
    network[1](z)[0, 2].backward()
    maps, slopes = z.detach()[0].double().numpy(), z.grad[0].double().numpy()
    expected = np.zeros(maps.shape[1:])
    for A, g in zip(maps, slopes, strict=True):
        below = 2 * g**2 + A.sum() * g**3
        alpha = np.divide(g**2, below, out=np.zeros_like(g), where=below != 0)
        expected += (alpha * np.maximum(g, 0)).sum() * A
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-3, atol=1e-6)


def test_integrated_gradients_are_complete(network, x):
    baseline = torch.zeros_like(x)
    found = integrated_gradients(network, x, baseline, 1, 64)
    assert found.shape == x.shape
    with torch.no_grad():
        difference = network(x)[0, 1] - network(baseline)[0, 1]
    torch.testing.assert_close(found.sum(), difference, rtol=1e-3, atol=1e-4)


def test_occlusion_finds_what_a_score_rests_on(x):
    def score_of_a_corner(x):
        return x[:, :, :4, :4].sum(dim=(1, 2, 3))[:, None]

    bright = x.abs()
    found = occlusion(score_of_a_corner, bright, 0, 4)
    assert found.shape == (12, 10)
    assert found[:4, :4].min() > 0
    assert not found[6:, 6:].any()


def test_captum_that_is_missing_is_named(network, x, monkeypatch):
    def absent(module):
        raise ModuleNotFoundError(module, name="captum")

    monkeypatch.setattr(f"{import_optional.__module__}.import_module", absent)
    text = r"explain needs captum. Install it with: pip install 'sktransfer\[explain\]'"
    with pytest.raises(ImportError, match=text):
        occlusion(network, x, 0, 4)
    assert grad_cam(cut_of(network, x), x, 0).shape == (10, 8)


SIZES = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "num_classes": 0}


def test_rollout_follows_its_formula():
    torch.manual_seed(0)
    vit = VisionTransformer(**SIZES, depth=3, num_heads=2).eval()
    x = torch.randn(1, 3, 16, 16)
    layout = ActivationLayout((17, 24), (3, 16, 16))
    found = attention_rollout(vit, x, layout)
    rollout, z = np.eye(17), vit.pos_drop(vit._pos_embed(vit.patch_embed(x)))
    for block in vit.blocks:
        attn, normed = block.attn, block.norm1(z)
        qkv = attn.qkv(normed).reshape(1, 17, 3, 2, 12).permute(2, 0, 3, 1, 4)
        weights = (qkv[0] @ qkv[1].transpose(-2, -1) * 12**-0.5).softmax(-1)
        mean = weights[0].mean(0).detach().double().numpy()
        rollout = (mean + np.eye(17)) / 2 @ rollout
        z = block(z)
    np.testing.assert_allclose(found.flatten(), rollout[0, 1:], rtol=1e-4)
    assert found.shape == (4, 4)
    assert all(block.attn.fused_attn for block in vit.blocks)
    assert not any(block.attn.attn_drop._forward_hooks for block in vit.blocks)


def test_rollout_of_other_networks_raises(network, x):
    layout = ActivationLayout((17, 24), (3, 16, 16))
    with pytest.raises(ValueError, match='method="rollout" needs .* Got Sequential'):
        attention_rollout(network, x, layout)
    swin = SwinTransformer(
        **{**SIZES, "img_size": 32, "embed_dim": 12},
        depths=(1, 1),
        num_heads=(2, 2),
        window_size=4,
    )
    with pytest.raises(ValueError, match="whose layers attend to windows"):
        attention_rollout(swin.eval(), torch.randn(1, 3, 32, 32), layout)
