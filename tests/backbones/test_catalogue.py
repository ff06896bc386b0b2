import pytest

from sktransfer.backbones import describe_backbone, list_backbones

COLUMNS = "name provider parameters input_size weights licence available".split()


def test_resnet18_is_described_as_published():
    table = describe_backbone("torchvision/resnet18")
    assert table["name"].tolist() == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert table["index"].tolist() == [1, 2, 3, 4, 5]
    # He et al. (2015): 1.8e9 multiply-adds; 11.69M parameters, 0.513M of them in fc.
    assert table["multiply_adds"].sum() == pytest.approx(1.81e9, rel=0.01)
    assert table["parameters"].sum() == 11_689_512 - 513_000
    assert table["activation_shape"].iloc[-1] == (512, 7, 7)
    assert table["activation_bytes"].iloc[-1] == 4 * 512 * 49
    assert table["cumulative_share"].is_monotonic_increasing
    assert table["cumulative_share"].iloc[-1] == pytest.approx(1, abs=1e-3)


def test_the_default_is_described_as_published():
    table = describe_backbone()
    # 407M multiply-adds and 4.7M parameters, as Google states for EfficientNet-Lite0.
    assert table["multiply_adds"].sum() == pytest.approx(407e6, rel=0.06)
    assert table["parameters"].sum() == pytest.approx(4.65e6 - 1.28e6, rel=0.02)


def test_blocks_are_listed_inside_their_stages():
    table = describe_backbone("torchvision/resnet18", blocks=True)
    assert table["name"].tolist()[-2:] == ["layer4.0", "layer4"]
    assert table["index"].isna().sum() == len(table) - 5
    plain = describe_backbone("torchvision/resnet18")
    assert table["multiply_adds"].sum() == plain["multiply_adds"].sum()


def test_the_shipped_backbone_is_here():
    table = list_backbones(provider="shipped")
    assert list(table.columns) == COLUMNS
    (row,) = table.to_dict("records")
    assert row["name"] == "efficientnet_lite0"
    assert row["available"] is True
    assert row["licence"] == "apache-2.0"
    assert row["parameters"] == 4_652_008


def test_a_pattern_and_a_provider_narrow_the_list():
    table = list_backbones("resnet18*", provider="torchvision")
    assert table["name"].tolist() == ["torchvision/resnet18"]
    assert table["weights"].tolist() == ["IMAGENET1K_V1"]
    assert table["parameters"].tolist() == [11_689_512]
    assert not table["available"].any()


def test_timm_is_listed_with_tags_and_licences():
    table = list_backbones("convnext_nano*", provider="timm").set_index("name")
    row = table.loc["timm/convnext_nano.in12k"]
    assert row["weights"] == "in12k"
    assert row["licence"] == "apache-2.0"
    assert row["input_size"] == 224


def test_all_providers_are_listed():
    assert set(list_backbones()["provider"]) == {"shipped", "torchvision", "timm"}


def test_an_unknown_provider_is_refused():
    with pytest.raises(ValueError, match="`provider` must be one of .* Got 'hub'"):
        list_backbones(provider="hub")
