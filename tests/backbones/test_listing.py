"""The table of backbones."""

import pytest
import timm

from sktransfer.backbones import list_backbones, load_backbone

COLUMNS = "name provider parameters input_size weights license available".split()


def test_list_backbones_has_all_providers():
    table = list_backbones()
    assert list(table) == COLUMNS
    assert table["provider"].unique().tolist() == ["shipped", "torchvision", "timm"]
    assert len(table) > 1500
    assert table["parameters"].notna().all()
    assert table["available"].dtype == bool
    assert not table.duplicated(["name", "weights"]).any()


def test_list_backbones_shipped():
    row, *others = list_backbones("*lite*", provider="shipped").to_dict("records")
    assert row == {
        "name": "efficientnet_lite0",
        "provider": "shipped",
        "parameters": 4_652_008,
        "input_size": 224,
        "weights": "default",
        "license": "apache-2.0",
        "available": True,
    }
    assert [row["parameters"] for row in others] == [5_416_680, 6_092_072]
    assert [row["input_size"] for row in others] == [240, 260]


def test_list_backbones_by_license():
    everything = list_backbones("*vit*")
    assert everything["license"].notna().all()
    free = list_backbones("*vit*", license=["Apache-*", "mit"])
    assert {*free["license"]} == {"apache-2.0", "mit"}
    assert free.index.tolist() == list(range(len(free)))
    unknown = list_backbones("resnet18", "torchvision", license="not stated")
    assert unknown["weights"].tolist() == ["IMAGENET1K_V1"]
    assert list_backbones("resnet18", "torchvision", license="mit").empty


def test_list_backbones_torchvision():
    table = list_backbones("resnet50", "torchvision").set_index("weights")
    assert table.index.tolist() == ["IMAGENET1K_V2", "IMAGENET1K_V1"]
    assert table["name"].unique().tolist() == ["torchvision/resnet50"]
    assert table["parameters"].unique().tolist() == [25_557_032]
    assert not table["available"].any()


def test_list_backbones_timm():
    table = list_backbones("resnet26*", "timm")
    row = table[table["name"] == "timm/resnet26.bt_in1k"].iloc[0]
    assert row["weights"] == "bt_in1k"
    assert row["license"] == "apache-2.0"
    assert (table["provider"] == "timm").all()
    bare = list_backbones("botnet50ts_256").iloc[0]
    assert bare["weights"] is None


@pytest.mark.parametrize(
    ("pattern", "n"), [("timm/test_resnet*", 1), ("no such thing*", 0)]
)
def test_list_backbones_filter(pattern, n):
    assert len(list_backbones(pattern)) == n


@pytest.mark.parametrize("name", ["resnet26", "mixer_s32_224", "test_vit"])
def test_list_backbones_counts_parameters_right(name):
    module = timm.create_model(name)
    counted = sum(p.numel() for p in module.parameters())
    table = list_backbones(f"timm/{name}*")
    bare = table["name"].str.split("/").str[1].str.split(".").str[0]
    assert table["parameters"][bare == name].unique().tolist() == [counted]


def test_list_backbones_can_be_loaded_by_name():
    for name in list_backbones("timm/test_*")["name"].head(3):
        assert load_backbone(name, weights=None).name == name


def test_list_backbones_wrong_provider():
    text = (
        "`provider` must be None or one of \\['shipped', 'torchvision', 'timm', 'hf'\\]"
        ". Got 'huggingface'."
    )
    with pytest.raises(ValueError, match=text):
        list_backbones(provider="huggingface")
