"""A fitted network as one module, from raw samples to predictions, and as ONNX."""

from sktransfer.export._module import ExportedModule, StackedFeatures, UnitsOfY
from sktransfer.export._onnx import check_path, write_onnx

__all__ = [
    "ExportedModule",
    "StackedFeatures",
    "UnitsOfY",
    "check_path",
    "write_onnx",
]
