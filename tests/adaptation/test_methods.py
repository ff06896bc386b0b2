import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from sktransfer.adaptation import (
    adversarial_ramp,
    class_confusion_loss,
    coral_loss,
    information_loss,
    joint_mmd_loss,
    mmd_loss,
    pseudo_label_loss,
)
from sktransfer.adaptation._methods import (
    CLASSIFIER_METHODS,
    NEEDS_CLASSES,
    REGRESSOR_METHODS,
    SOURCE_FREE,
    information,
    make_function,
)
from sktransfer.training import Seen

GENERATOR = torch.Generator().manual_seed(0)


def seen(n, shift=0.0):
    features = torch.randn(n, 5, generator=GENERATOR, dtype=torch.float64) + shift
    return Seen(features, torch.randn(n, 3, generator=GENERATOR, dtype=torch.float64))


OWN, OTHERS = seen(8), seen(6, shift=1.0)
JOINT = [m for m in CLASSIFIER_METHODS if m not in ("none", *SOURCE_FREE)]


def value(method, own=OWN, others=OTHERS, progress=0.5, confidence=0.4):
    torch.manual_seed(0)
    function = make_function(method, 5, 3, confidence=confidence)
    if isinstance(function, nn.Module):
        function.double()
    return function(own, others, progress)


@pytest.mark.parametrize("method", ["none", *SOURCE_FREE])
def test_methods_that_add_nothing(method):
    assert make_function(method, 5, 3, confidence=0.9) is None


def test_methods_of_regression_need_no_classes():
    assert not {*REGRESSOR_METHODS} & {*NEEDS_CLASSES}
    assert {*REGRESSOR_METHODS} < {*CLASSIFIER_METHODS}


@pytest.mark.parametrize("method", ["coral", "mmd", "jmmd"])
def test_equal_domains_have_no_distance(method):
    assert value(method, OWN, OWN).item() == pytest.approx(0, abs=1e-12)
    assert value(method).item() > 0.01


def test_covariances_are_relative():
    zero = torch.zeros_like(OWN.features[:1])
    parts = coral_loss(OWN.features, zero) + coral_loss(OTHERS.features, zero)
    expected = coral_loss(OWN.features, OTHERS.features) / parts
    torch.testing.assert_close(value("coral"), expected)
    larger = [Seen(10 * s.features, s.scores) for s in (OWN, OTHERS)]
    torch.testing.assert_close(value("coral", *larger), expected)


def test_functions_are_the_losses():
    source, target = OWN.features, OTHERS.features
    torch.testing.assert_close(value("mmd"), mmd_loss(source, target))
    layers = [(s.features, torch.softmax(s.scores, 1)) for s in (OWN, OTHERS)]
    joint = joint_mmd_loss(*layers, bandwidths=(None, 1.68))
    torch.testing.assert_close(value("jmmd"), joint)
    torch.testing.assert_close(value("mcc"), class_confusion_loss(OTHERS.scores))
    own = information_loss(OWN.scores)
    torch.testing.assert_close(information(OWN, None, 0.5), own)


def test_joint_means_of_independent_labels_go_by_the_probability_of_each():
    layers = [(s.features, torch.sigmoid(s.scores)) for s in (OWN, OTHERS)]
    expected = joint_mmd_loss(*layers, bandwidths=(None, 1.68))
    function = make_function("jmmd", 5, 3, confidence=0.9, independent=True)
    torch.testing.assert_close(function(OWN, OTHERS, 0.5), expected)


@pytest.mark.parametrize("share", [2, 4])
@pytest.mark.parametrize("scale", [5, 10, 20])
def test_joint_means_of_confident_predictions_are_no_noise(share, scale):
    def confident(noise):
        is_first = (torch.arange(32) % share == 0)[:, None]
        logits = torch.where(is_first, 1.0, -1.0) * torch.tensor([1.0, -1.0])
        logits = logits * scale * (1 + noise * torch.rand(32, 1, generator=GENERATOR))
        return logits.double()

    features = torch.ones(32, 4, dtype=torch.float64)
    own, others = (Seen(features, confident(noise)) for noise in (0.1, 0.2))
    exact = value("jmmd", own, others)
    single = [Seen(s.features.float(), s.scores.float()) for s in (own, others)]
    found = make_function("jmmd", 4, 2, confidence=0.9)(*single, 0.5)
    assert 0 <= exact < 1e-3
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_pseudo_labels_come_slowly(progress):
    expected = adversarial_ramp(progress) * pseudo_label_loss(OTHERS.scores, 0.4)
    found = value("pseudo_label", progress=progress)
    torch.testing.assert_close(found, expected)
    assert value("pseudo_label", progress=1.0, confidence=1.0) == 0


@pytest.mark.parametrize("method", ["dann", "cdan"])
def test_adversary_turns_gradients_round_more_and_more(method):
    gradients = []
    for progress in (0.0, 0.1, 1.0):
        features = OWN.features.clone().requires_grad_()
        value(method, Seen(features, OWN.scores), progress=progress).backward()
        gradients.append(features.grad)
    ramp = adversarial_ramp(0.1) / adversarial_ramp(1.0)
    assert gradients[0].abs().sum() == 0
    torch.testing.assert_close(gradients[1], gradients[2] * ramp)


@pytest.mark.parametrize("method", ["coral", "pseudo_label"])
def test_gradients_are_finite_differences(method):
    def loss(features, scores):
        return value(method, OWN, Seen(features, scores))

    assert gradcheck(loss, [t.clone().requires_grad_() for t in OTHERS])
