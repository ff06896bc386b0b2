"""Networks that several tests cut."""

import pytest
import torch

from sktransfer.backbones import load_backbone


def _randomise(module, seed=0):
    """Give every constant tensor noise, so that no layer is an identity or zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and (tensor == tensor.flatten()[0]).all():
                noise = torch.rand(tensor.shape, generator=generator) / 10
                tensor += noise if "running_var" in name else noise - 0.05
    return module


@pytest.fixture(scope="session")
def randomise():
    """Return a function that makes the weights of a module far from trivial."""
    return _randomise


@pytest.fixture(scope="session")
def resnet18():
    """Return ResNet-18 for images of 64 px. Tests must not change it."""
    backbone = load_backbone(
        "torchvision/resnet18", weights=None, image_size=64, random_state=0
    )
    _randomise(backbone.module)
    return backbone


@pytest.fixture(scope="session")
def lite0():
    """Return the shipped backbone with its weights. Tests must not change it."""
    return load_backbone("efficientnet_lite0")


@pytest.fixture
def download_text():
    """Return a function that makes the pattern of what a failed download says."""

    def pattern(name, url, why, path=None):
        where = f"put that file at {path} or" if path else "fetch .* elsewhere and"
        return (
            f"^The weights of '{name}' could not be had from {url} \\({why}\\). "
            f"Without a network, {where} pass its path, as in weights='path/"
            f"{url.rpartition('/')[2]}'. backbone='efficientnet_lite0' needs no "
            "download: its weights are installed with sktransfer.$"
        )

    return pattern


@pytest.fixture
def images():
    """Return a function that makes model inputs of shape (n, 3, size, size)."""

    def make(n=4, size=64, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(n, 3, size, size, generator=generator)

    return make
