"""The fitted model in one object: predictions, export, persistence."""

from sktransfer.model._fitted import (
    FittedModel,
    LoadedBackbone,
    make_pool,
    pooled_model,
)
from sktransfer.model._module import ExportedModule
from sktransfer.model._outputs import ClassOutputs, RegressionOutputs
from sktransfer.model._slim import slim_state

__all__ = [
    "FittedModel",
]
