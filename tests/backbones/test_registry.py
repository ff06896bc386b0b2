import logging
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from sklearn.utils import get_tags
from torch import nn

from sktransfer import PretrainedFeatureExtractor
from sktransfer.backbones import (
    Backbone,
    BackboneProvider,
    _registry,
    list_backbones,
    list_providers,
    load_backbone,
    model_card,
    register_provider,
    shared_backbone,
)
from sktransfer.backbones._registry import resolve_name
from sktransfer.inputs import VectorPreprocessing


class Toy(BackboneProvider):
    """Two small networks for vectors."""

    scale = 1

    def names(self):
        return ["narrow", "wide"]

    def load(self, name, *, weights, image_size, make):
        width = {"narrow": 3, "wide": 6}[name]
        widths = (4, width), (width, 2)
        module = make(lambda: nn.Sequential(*(nn.Linear(*w) for w in widths)))
        if weights is not None:
            for parameter in module.parameters():
                nn.init.constant_(parameter, self.scale)
        return Backbone(
            module,
            preprocessing=VectorPreprocessing(4),
            name=name,
            weights=None if weights is None else "ones",
            license="mit",
        )

    def kind(self, name):
        return "vector"

    def describe(self, name):
        return [{"weights": "ones", "license": "mit", "available": True}]

    def card_entries(self, name, weights):
        return {"source": "a toy", "training_data": "nothing"}

    def adapt(self, state, network):
        return {name.removeprefix("toy_"): value for name, value in state.items()}


@pytest.fixture(autouse=True)
def _no_traces():
    with patch.dict(_registry.PROVIDERS), patch.dict(_registry._loaded):
        yield


@pytest.fixture
def installed(monkeypatch):
    """Return a function that adds an entry point of a package."""

    def install(value, name="toy"):
        point = EntryPoint(name, value, "sktransfer.backbones")
        vars(point)["dist"] = SimpleNamespace(name="toy-nets")
        monkeypatch.setattr(_registry, "entry_points", lambda group: [point])

    return install


def check_toy():
    """Assert that each function that takes names finds the networks of the toy."""
    assert list_providers() == ["shipped", "torchvision", "timm", "hf", "toy"]
    table = list_backbones(provider="toy")
    assert table["name"].tolist() == ["toy/narrow", "toy/wide"]
    assert table["available"].all() and table["parameters"].isna().all()
    assert list_backbones("toy/n*", license="mit")["weights"].tolist() == ["ones"]
    backbone = load_backbone("toy/narrow")
    assert (backbone.name, backbone.provider) == ("toy/narrow", "toy")
    assert (backbone.module[0].weight == 1).all()
    card = model_card(backbone)
    assert (card.source, card.training_data, card.license) == (
        "a toy",
        "nothing",
        "mit",
    )
    assert model_card(load_backbone("toy/wide", weights=None)).license == "none"
    state = {f"toy_{name}": t for name, t in backbone.module.state_dict().items()}
    loaded = load_backbone(
        "toy/narrow", weights={**state, "toy_1.bias": torch.zeros(2)}
    )
    assert (loaded.module[1].bias == 0).all() and loaded.license is None
    assert resolve_name("wide") == ("toy", "wide")
    with pytest.raises(ValueError, match="no backbone 'toy/wid'.*Did you mean 'wide'"):
        load_backbone("toy/wid")


def test_provider_that_is_registered_is_found_wherever_names_are():
    register_provider("toy", Toy())
    check_toy()
    X = torch.randn(5, 4).numpy()
    extractor = PretrainedFeatureExtractor("toy/narrow")
    assert get_tags(extractor).input_tags.two_d_array
    features = extractor.fit(X).transform(X)
    expected = load_backbone("toy/narrow").split("features")[0](torch.tensor(X))
    torch.testing.assert_close(torch.tensor(features), expected.detach())


@pytest.mark.parametrize("place", ["Toy", "TOY"])
def test_provider_of_a_package_is_found_wherever_names_are(
    installed, monkeypatch, place
):
    module = SimpleNamespace(Toy=Toy, TOY=Toy())
    monkeypatch.setitem(__import__("sys").modules, "toy_nets", module)
    installed(f"toy_nets:{place}")
    check_toy()


def test_package_is_imported_only_when_one_of_its_backbones_is_asked_for(installed):
    installed("no_such_package:Toy")
    assert list_providers()[-1] == "toy"
    assert load_backbone("timm/test_resnet", weights=None).provider == "timm"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (
            "no_such_package:Toy",
            "ModuleNotFoundError: No module named",
        ),
        (
            "json:loads",
            "TypeError: A provider must be an object with all parts of",
        ),
    ],
)
def test_broken_package_is_named_once_and_left_out(installed, value, error):
    installed(value)
    text = (
        f"^The package 'toy-nets' provides backbones as 'toy', but its entry point "
        f"'{value}' cannot be used \\({error}.*\\). They are left out. Update or "
        "uninstall it.$"
    )
    with pytest.warns(UserWarning, match=text):
        assert len(list_backbones(provider="toy")) == 0
    with pytest.raises(ValueError, match="There is no backbone 'toy/narrow' from any"):
        load_backbone("toy/narrow")


def test_provider_needs_its_methods():
    text = "must be an object with all parts of BackboneProvider. .* lacks \\['load', '"
    with pytest.raises(TypeError, match=text):
        register_provider("toy", SimpleNamespace(names=list))
    with pytest.raises(TypeError, match="Got the class .*; pass an instance"):
        register_provider("toy", Toy)


@pytest.mark.parametrize("name", ["timm", "to/y", "", 3])
def test_name_of_a_provider(name):
    text = "^`name` must be an identifier other than those of the built-in providers, "
    with pytest.raises(ValueError, match=f"{text}.*Got {name!r}.$"):
        register_provider(name, Toy())


def test_provider_may_be_of_any_class():
    toy = Toy()
    methods = "names load provides claims kind describe card_entries adapt".split()
    register_provider("toy", SimpleNamespace(**{m: getattr(toy, m) for m in methods}))
    check_toy()


def test_provider_must_define_names_and_load_only():
    class Short(BackboneProvider):
        names, load = Toy.names, Toy.load

        scale = 1

    provider = Short()
    assert provider.describe("a") == [{}] and provider.card_entries("a", None) == {}
    assert provider.adapt({"a": 1}, None) == {"a": 1}
    assert provider.kind("narrow") == "image" and provider.provides("narrow")
    register_provider("toy", provider)
    text = "`kind` of a provider must be .* Got 'image' from 'toy' for 'narrow', whose"
    with pytest.raises(ValueError, match=text):
        load_backbone("toy/narrow")
    with pytest.raises(TypeError, match="abstract.*load.*names"):
        BackboneProvider()


def test_provider_that_is_replaced_is_asked_again():
    options = {"weights": "default", "image_size": None, "seed": 0}
    register_provider("toy", Toy())
    first = shared_backbone("toy/narrow", **options)
    assert shared_backbone("toy/narrow", **options) is first
    other = Toy()
    other.scale = 2
    register_provider("toy", other)
    assert (shared_backbone("toy/narrow", **options).module[0].weight == 2).all()


@pytest.mark.parametrize(
    ("spec", "provider", "name"),
    [
        ("efficientnet_lite0", "shipped", "efficientnet_lite0"),
        ("resnet18", "torchvision", "resnet18"),
        ("convnext_atto", "timm", "convnext_atto"),
        ("resnet26.bt_in1k", "timm", "resnet26.bt_in1k"),
    ],
)
def test_resolve_name_takes_the_first_provider_and_logs_it(
    spec, provider, name, caplog
):
    with caplog.at_level(logging.INFO, logger="sktransfer"):
        assert resolve_name(spec) == (provider, name)
    assert caplog.messages == [f"backbone {spec!r} is taken from {provider}"]


@pytest.mark.parametrize(
    "spec", ["timm/resnet18", "torchvision/resnet18", "timm/efficientnet_lite0"]
)
def test_resolve_name_with_provider_logs_nothing(spec, caplog):
    with caplog.at_level(logging.INFO, logger="sktransfer"):
        assert "/".join(resolve_name(spec)) == spec
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        ("resnet_18", " Did you mean .*'resnet18'"),
        ("torchvision/resnet81", " Did you mean 'resnet18'"),
        ("timm/efficientnet_light0", " Did you mean .*'efficientnet_lite0'"),
        ("huggingface/resnet18", " Did you mean 'resnet18'"),
        ("torchvision/convnext_atto", " Did you mean 'convnext_atto'"),
        ("qqqqqqqq", "$"),
        ("", "$"),
    ],
)
def test_resolve_name_unknown(spec, near):
    text = (
        f"There is no backbone '{spec}' from any of the providers \\['shipped', "
        "'torchvision', 'timm', 'hf'\\]; `sktransfer.backbones.list_backbones\\(\\)` "
        "lists them."
    )
    with pytest.raises(ValueError, match=text + near):
        load_backbone(spec)
