import pytest

from sktransfer.backbones._papers import paper_of, training_data_of


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
