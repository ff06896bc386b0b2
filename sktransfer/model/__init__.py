"""The fitted model in one immutable object: predictions, export, persistence."""

from sktransfer.model._fitted import (
    FittedModel,
    LoadedBackbone,
    make_pool,
    pooled_model,
)
from sktransfer.model._module import ExportedModule, StackedFeatures, UnitsOfY
from sktransfer.model._onnx import check_path, write_onnx
from sktransfer.model._outputs import ClassOutputs, Features, RegressionOutputs
from sktransfer.model._slim import slim_state, whole_state

__all__ = [
    "ClassOutputs",
    "ExportedModule",
    "Features",
    "FittedModel",
    "LoadedBackbone",
    "RegressionOutputs",
    "StackedFeatures",
    "UnitsOfY",
    "check_path",
    "make_pool",
    "pooled_model",
    "slim_state",
    "whole_state",
    "write_onnx",
]
