import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from skimage import data
from sklearn.datasets import load_digits, load_sample_images
from torch import nn

from sktransfer.advice import domain_similarity
from sktransfer.advice._reader import StageReader
from sktransfer.advice._similarity import intrinsic_dimension
from sktransfer.backbones import load_backbone

N = 12


def pieces(images, least=0.5):
    """Return square crops of all sizes from images in turn."""
    rng, found = np.random.default_rng(0), []
    for k in range(N):
        image = images[k % len(images)]
        shorter = min(image.shape[:2])
        side = rng.integers(int(least * shorter), shorter + 1)
        top, left = (rng.integers(0, n - side + 1) for n in image.shape[:2])
        piece = Image.fromarray(image[top : top + side, left : left + side])
        found.append(piece.convert("RGB"))
    return found


def photographs():
    return pieces(load_sample_images().images, least=0.4)


def drawings():
    """Return filled and outlined shapes on white."""
    rng, found = np.random.default_rng(0), []
    for _ in range(N):
        image = Image.new("RGB", (224, 224), "white")
        draw = ImageDraw.Draw(image)
        for _ in range(8):
            colour = tuple(map(int, rng.integers(0, 256, 3)))
            points = [tuple(map(int, rng.integers(10, 214, 2))) for _ in range(3)]
            low, high = np.sort(points[:2], axis=0).tolist()
            kind = rng.integers(3)
            if kind == 0:
                draw.polygon(points, fill=colour, outline="black")
            elif kind == 1:
                draw.ellipse([*low, *high], fill=colour, outline="black")
            else:
                draw.line(points, fill="black", width=4)
        found.append(image)
    return found


def noise():
    return np.random.default_rng(0).integers(0, 256, (N, 224, 224, 3), dtype=np.uint8)


def textures():
    """Return grey clouds with speckle, similar to ultrasound."""
    rng, found = np.random.default_rng(0), []
    for _ in range(N):
        cloud = gaussian_filter(rng.normal(size=(224, 224)), rng.uniform(1.5, 5))
        speckle = gaussian_filter(rng.normal(size=(224, 224)), 0.7)
        found.append(110 + 25 * cloud / cloud.std() + 12 * speckle / speckle.std())
    return np.clip(found, 0, 255).astype(np.uint8)


def similarity(X):
    return domain_similarity("efficientnet_lite0", X)


def test_similarity_orders_photographs_drawings_medical_images_and_noise():
    near = pieces([data.astronaut(), data.coffee(), data.cat(), data.rocket()])
    images = {
        "photographs": photographs(),
        "other photographs": near,
        "drawings": drawings(),
        "digits": load_digits().images[:N] / 16,
        "textures": textures(),
        "noise": noise(),
        "retina": pieces([data.retina()]),
        "vessels": pieces([data.microaneurysms()]),
        "cells": pieces([data.cell()]),
    }
    found = {name: similarity(X) for name, X in images.items()}
    values = {name: float(of) for name, of in found.items()}
    assert values["photographs"] > 0.6 and values["other photographs"] > 0.7
    assert values["photographs"] > values["drawings"] + 0.1
    assert values["drawings"] > values["digits"] + 0.2
    assert max(values["textures"], values["noise"]) < values["digits"] < 0.2
    for name in ("retina", "vessels", "cells"):
        assert values["noise"] < values[name] < values["drawings"] - 0.1
    near, far = found["photographs"].stages, found["noise"].stages
    assert (near["divergence"] < far["divergence"]).all()
    assert found["photographs"].entropy < found["digits"].entropy
    assert found["photographs"].energy > found["textures"].energy


def test_divergence_is_that_of_gaussians():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(3)
    norm.running_mean[:] = torch.tensor([0.0, 1.0, 2.0])
    norm.running_var[:] = torch.tensor([1.0, 4.0, 9.0])
    backbone = load_backbone(nn.Sequential(norm, nn.Linear(3, 2)), n_features=3)
    X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * 2 + 1
    found = domain_similarity(backbone, X, max_samples=None)
    m, v = X.mean(axis=0), X.var(axis=0)
    mu, known = norm.running_mean.numpy(), norm.running_var.numpy()
    each = (v / known + (m - mu) ** 2 / known - 1 - np.log(v / known)) / 2
    assert found.source == "batch norm"
    assert float(found) == pytest.approx(np.exp(-np.median(each) / 0.2), rel=1e-4)


def test_similarity_to_the_samples_own_statistics_is_maximal(make_small):
    X = np.stack([np.asarray(image.resize((64, 64))) for image in photographs()])
    backbone = make_small()
    module = backbone.module.train()
    pixels = np.stack([backbone.preprocessing.prepare(Image.fromarray(x)) for x in X])
    inputs = backbone.preprocessing.to_input(torch.tensor(pixels))
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # the average of all batches
        for _ in range(3):
            module(inputs)
    module.eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    near = domain_similarity(backbone, X)
    assert float(near) > 0.98
    assert float(domain_similarity(backbone, noise()[:, :64, :64])) < float(near)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in module.modules())


def test_entropy_of_the_classifier_where_there_is_no_batch_norm(monkeypatch):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))
    monkeypatch.setattr(StageReader, "has_classifier", lambda self: True)
    X = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    found = domain_similarity(load_backbone(module, n_features=3), X)
    with torch.no_grad():
        theta = module(torch.from_numpy(X)).softmax(1).double()
    entropy = -(theta * theta.log()).sum(1).mean() / np.log(5)
    assert found.source == "classifier"
    assert float(found) == pytest.approx(1 - float(entropy), rel=1e-5)
    assert found.stages["divergence"].isna().all()


def test_without_batch_norm_and_classifier_the_similarity_is_unknown():
    found = domain_similarity(nn.Sequential(nn.Linear(3, 2)), np.eye(3))
    assert found.source == "none" and np.isnan(float(found))
    assert np.isnan(found.entropy) and np.isnan(found.energy)


def test_intrinsic_dimension_of_a_plane():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 40))
    assert intrinsic_dimension(plane) == pytest.approx(2, abs=0.3)
    assert np.isnan(intrinsic_dimension(np.zeros((9, 2))))


def test_choice_of_samples_depends_on_the_seed(make_small, digits):
    first, same, other = (
        float(domain_similarity(make_small(), digits[0], max_samples=9, random_state=s))
        for s in (0, 0, 1)
    )
    assert first == same != other
