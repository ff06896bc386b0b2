import copy
import json

import numpy as np
import torch
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.inputs import VectorPreprocessing
from sktransfer.model._module import ExportedModule, StackedFeatures, UnitsOfY


def make_network():
    layers = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)
    return nn.Sequential(*layers)


def make_module(**settings):
    backbone = load_backbone(make_network(), n_features=4, random_state=0)
    section = backbone.section("input", backbone.stage_names[-1])
    parts = [section, nn.Identity(), nn.Dropout(0.5)]
    module = ExportedModule(backbone.preprocessing, parts, "features", **settings)
    return backbone, section.eval(), module


def test_module_computes_its_parts():
    _, section, module = make_module()
    rows = module.example(5)
    assert torch.equal(module(rows), section(rows))
    assert (module.input_names, module.output_name) == (("rows",), "features")
    assert [type(part).__name__ for part in module.network][1:] == ["Dropout"]


def test_module_stands_alone():
    backbone, _, module = make_module()
    rows = module.example(5)
    before = module(rows).clone()
    state = copy.deepcopy(backbone.module.state_dict())
    with torch.no_grad():
        for tensor in backbone.module.state_dict().values():
            tensor.add_(1)
    assert torch.equal(module(rows), before)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, state[name] + 1)


def test_module_is_for_inference():
    _, _, module = make_module()
    assert not any(part.training for part in module.modules())
    assert not any(p.requires_grad for p in module.parameters())
    assert all(t.device.type == "cpu" for t in module.state_dict().values())


def test_metadata_is_text():
    classes = np.array(["cat", "dög"])
    _, _, module = make_module(classes=classes, value_range=(0, 255))
    assert {type(value) for value in module.metadata.values()} == {str}
    assert json.loads(module.metadata["classes"]) == ["cat", "dög"]
    assert json.loads(module.metadata["value_range"]) == [0, 255]
    assert module.metadata["output"] == "features"
    assert module.metadata["preprocessing"] == VectorPreprocessing(4).key()
    assert module.metadata["sktransfer_version"]
    classes[0] = "cow"
    assert module.classes_.tolist() == ["cat", "dög"]


def test_metadata_without_classes():
    _, _, module = make_module()
    assert module.classes_ is None and "classes" not in module.metadata
    assert module.metadata["value_range"] == "null"


def test_features_are_stacked_in_the_order_asked_for():
    first, second = nn.Linear(4, 6), nn.Linear(6, 3)
    pools = [nn.Identity(), nn.Flatten()]
    features = StackedFeatures([first, second], pools, [1, 0, 1])
    z = torch.randn(2, 4)
    a, b = first(z), second(first(z))
    assert torch.equal(features(z), torch.hstack([b, a, b]))


def test_predictions_are_in_the_units_of_y():
    scores = torch.tensor([[0.5, -1.0], [0.0, 2.0]])
    scale, mean = np.array([2.0, 1e-3]), np.array([1e12, 0.0])
    predicted = UnitsOfY(scale, mean, flat=False)(scores)
    assert predicted.dtype == torch.float64
    np.testing.assert_array_equal(predicted, scores.double().numpy() * scale + mean)
    flat = UnitsOfY(scale[:1], mean[:1], flat=True)(scores[:, :1])
    np.testing.assert_array_equal(flat, [1e12 + 1, 1e12])
