import pytest
import timm
from torch import nn

from sktransfer.backbones import describe_backbone, list_backbones, load_backbone

COLUMNS = "name provider parameters input_size weights license available".split()


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


def test_list_backbones_has_all_providers():
    table = list_backbones()
    assert list(table) == COLUMNS
    assert table["provider"].unique().tolist() == ["shipped", "torchvision", "timm"]
    assert len(table) > 1500
    assert table["parameters"].notna().all()
    assert table["available"].dtype == bool
    assert not table.duplicated(["name", "weights"]).any()


def test_list_backbones_shipped():
    row, *others = list_backbones(provider="shipped").to_dict("records")
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
    assert table.index.tolist() == ["IMAGENET1K_V1", "IMAGENET1K_V2"]
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
        "`provider` must be one of \\['shipped', 'torchvision', 'timm'\\] or None. Got "
        "'huggingface'."
    )
    with pytest.raises(ValueError, match=text):
        list_backbones(provider="huggingface")
