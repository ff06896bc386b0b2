import numpy as np
import pytest
import torch

from sktransfer.backbones._speech_embedding import (
    LICENSE,
    N_PARAMETERS,
    NAME,
    PATH,
    BoundedLeakyReLU,
    load_speech_embedding,
    make_network,
)


@pytest.fixture(scope="module")
def backbone():
    return load_speech_embedding(weights="default", make=lambda function: function())


def state_of(spectra, n_valid=None):
    """Return model inputs of spectra (n, frames, 32)."""
    n, n_frames, _ = spectra.shape
    mask = torch.arange(n_frames).expand(n, -1) < (n_valid or n_frames)
    return {"hidden": spectra.masked_fill(~mask[..., None], 0), "mask": mask}


@torch.no_grad()
def embedded(backbone, state):
    return backbone.module.eval()(state)


def random_spectra(n_frames):
    return torch.rand(2, n_frames, 32, generator=torch.Generator().manual_seed(0))


def test_embedding_is_that_of_the_original(backbone):
    """Values of `embedding_model.tflite` in pyopen-wakeword 1.1.0."""
    waves = 2 + 2 * np.sin(np.arange(76 * 32) ** 1.5 * 0.01)
    spectrum = torch.from_numpy(waves.astype(np.float32)).reshape(1, 76, 32)
    found = embedded(backbone, state_of(spectrum))["hidden"]
    assert found.shape == (1, 1, 96)
    expected = [-5.317, 14.6392, -11.0809, 34.1469, 18.5788, 18.0698, 2.2078, -4.147]
    np.testing.assert_allclose(found.flatten()[::12], expected, atol=2e-3)
    assert float(found.abs().sum()) == pytest.approx(1189.159, rel=1e-5)


def test_there_is_one_embedding_per_eight_frames_and_each_as_if_alone(backbone):
    spectra = random_spectra(76 + 3 * 8)
    found = embedded(backbone, state_of(spectra))
    assert found["hidden"].shape == (2, 4, 96) and found["mask"].all()
    for i in range(4):
        alone = embedded(backbone, state_of(spectra[:, 8 * i : 8 * i + 76]))
        np.testing.assert_allclose(
            found["hidden"][:, i : i + 1], alone["hidden"], atol=1e-4
        )


@pytest.mark.parametrize("n_padding", [1, 8, 13])
@pytest.mark.parametrize("name", ["input", "block0", "block2", "block4"])
def test_padding_changes_nothing_wherever_it_is_added(backbone, name, n_padding):
    inputs = state_of(random_spectra(84))
    expected = embedded(backbone, inputs)
    prefix, suffix = backbone.split(0 if name == "input" else name)
    with torch.no_grad():
        state = prefix(inputs)
        padded = {
            "hidden": torch.nn.functional.pad(state["hidden"], (0, 0, 0, n_padding)),
            "mask": torch.nn.functional.pad(state["mask"], (0, n_padding)),
        }
        found = suffix(padded)
    n_valid = expected["mask"].shape[1]
    assert found["mask"].sum(1).tolist() == [n_valid] * 2
    assert (found["hidden"][:, n_valid:] == 0).all()
    np.testing.assert_allclose(
        found["hidden"][:, :n_valid], expected["hidden"], atol=1e-4
    )


def test_backbone_and_its_files(backbone):
    assert backbone.stage_names == [*(f"block{i}" for i in range(5)), "embedding"]
    assert (backbone.name, backbone.license) == (NAME, LICENSE)
    assert backbone.n_parameters == N_PARAMETERS
    assert "Apache License" in PATH.with_name(f"{NAME}.LICENSE.txt").read_text()
    random = load_speech_embedding(weights=None, make=lambda function: function())
    assert random.weights is None
    assert random.fingerprint != backbone.fingerprint


def test_stages_compute_together_what_the_network_does(backbone):
    inputs = backbone.preprocessing.example(2)
    expected = embedded(backbone, inputs)["hidden"]
    for name in backbone.stage_names:
        prefix, suffix = backbone.split(name)
        with torch.no_grad():
            found = suffix(prefix(inputs))["hidden"]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_activation_is_bounded_below():
    found = BoundedLeakyReLU()(torch.tensor([-10.0, -1.0, 0.0, 3.0]))
    np.testing.assert_allclose(found, [-0.4, -0.2, 0, 3])


def test_network_can_be_trained():
    network = make_network().train()
    network(state_of(random_spectra(76)))["hidden"].sum().backward()
    assert all(p.grad is not None for p in network.parameters())
