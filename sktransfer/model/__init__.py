"""The fitted model in one object: predictions, export, persistence."""

from sktransfer.model._caption import caption_of
from sktransfer.model._fitted import FittedModel
from sktransfer.model._loaded import LoadedBackbone
from sktransfer.model._module import ExportedModule
from sktransfer.model._outputs import ClassOutputs, Features, RegressionOutputs
from sktransfer.model._parquet import write_features
from sktransfer.model._pipelines import (
    TwoClasses,
    modules_of,
    steps_of,
    to_onnx,
    to_torch,
)
from sktransfer.model._pooling import make_pool
from sktransfer.model._slim import slim_state

__all__ = ["FittedModel", "to_onnx", "to_torch"]
