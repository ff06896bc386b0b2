import pytest
import timm

from sktransfer.backbones import load_backbone
from sktransfer.backbones._timm import is_cached, list_timm


def test_architectures_and_weights_are_listed():
    architectures, pretrained = list_timm()
    assert "convnext_nano" in architectures
    assert "convnext_nano.in12k" in pretrained


def test_the_tag_chooses_the_preprocessing():
    plain = load_backbone("timm/vit_small_patch16_224.augreg_in21k", weights=None)
    assert plain.preprocessing.mean == (0.5, 0.5, 0.5)
    assert plain.preprocessing.resize == 248
    assert plain.preprocessing.interpolation == "bicubic"
    assert plain.classifier == ["head"]
    assert plain.licence == "apache-2.0"


def test_the_preprocessing_is_that_of_timm():
    backbone = load_backbone("timm/resnet26", weights=None)
    config = timm.data.resolve_data_config(
        pretrained_cfg=backbone.module.pretrained_cfg
    )
    preprocessing = backbone.preprocessing
    assert preprocessing.size == tuple(config["input_size"][1:])
    assert preprocessing.mean == config["mean"]
    assert preprocessing.std == config["std"]
    assert preprocessing.resize == int(config["input_size"][1] / config["crop_pct"])


@pytest.mark.parametrize("weights", ["default", "in99k"])
def test_unknown_weights_are_refused(weights):
    name = "timm/convnext_nano" + (".in99k" if weights == "default" else "")
    with pytest.raises(ValueError, match=r"has no such weights.*'in12k'"):
        load_backbone(name, weights=weights)


def test_a_failed_download_says_what_to_put_where():
    with pytest.raises(OSError, match="put that file at the Hugging Face cache"):
        load_backbone("timm/convnext_atto.d2_in1k")


def test_nothing_is_in_an_empty_cache():
    assert not is_cached("convnext_atto.d2_in1k")
    assert not is_cached("no_such_model")
