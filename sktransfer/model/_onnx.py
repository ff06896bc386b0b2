"""An exported module as an ONNX file, which is verified with onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from sktransfer.model._module import ExportedModule
from sktransfer.utils import import_optional

_OPSET = 18
_TOLERANCE = 1e-4
_FREE = torch.export.Dim.AUTO  # a length whose limits are those of the network
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_path(path: str | os.PathLike, example: str = "model.onnx") -> Path:
    """Check that a path is that of a file in an existing folder (Path)."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(
            f"`path` must be that of a file. Got {str(path)!r}, which is a folder; "
            f"add a name, such as {example!r}."
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"`path` must be that of a file in a folder that exists. Got "
            f"{str(path)!r}; make {str(path.parent)!r} first."
        )
    return path


def write_onnx(
    module: ExportedModule, path: str | os.PathLike, *, image_size=None
) -> Path:
    """Write a module as ONNX, for any number of samples, and texts of any length.

    An existing file is replaced once the new one is complete and onnxruntime computes
    from it what the module computes. Weights are in the file if they have less than the
    2 GB that an ONNX file can hold, and otherwise in another file beside it.
    """
    path = check_path(path)
    for package in _PACKAGES:
        import_optional(package, feature="`to_onnx`", extra="onnx")
    examples = [_as_tuple(module.example(n, image_size)) for n in (2, 1, 3)]
    program = _translate(module, examples[0])
    try:
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            draft = Path(folder) / path.name
            program.save(draft)
            for example in examples:
                _try(draft, module, example)
            # The model comes last, as it refers to the file of weights.
            for part in sorted(draft.parent.iterdir(), key=lambda part: part == draft):
                os.replace(part, path.parent / part.name)
    except OSError as error:
        raise OSError(
            f"`path` must be that of a file that can be written. Got {str(path)!r}: "
            f"{error.strerror or error}."
        ) from error
    return path


def _as_tuple(example):
    return (example,) if isinstance(example, torch.Tensor) else example


def _translate(module, example):
    """Return the module as torch's ONNXProgram, with its metadata."""
    n_more = getattr(module.preprocess, "n_free_axes", 1) - 1
    free = {0: torch.export.Dim("n"), **dict.fromkeys(range(1, 1 + n_more), _FREE)}
    shapes = tuple(dict(free) for _ in example)
    try:
        traced = torch.export.export(module, example, dynamic_shapes=shapes)
        program = torch.onnx.export(
            traced.run_decompositions(_WITHOUT_TRANSLATION),
            dynamo=True,
            input_names=[*module.input_names],
            output_names=[module.output_name],
            opset_version=_OPSET,
            verbose=False,
        )
    except Exception as error:
        raise RuntimeError(
            "The network cannot be translated to ONNX; `to_torch` returns it as a "
            f"PyTorch module. The reason: {_first_cause(error)}"
        ) from error
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, which hold paths of this machine
    program.model.graph.metadata_props.clear()
    program.model.metadata_props.update(module.metadata)
    return program


def _first_cause(error):
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _max_pool(z, size):
    """Compute adaptive_max_pool2d cell by cell, with zeros for its indices."""
    rows, columns = map(_cells, z.shape[-2:], size)
    cells = [z[..., r, c].amax((-2, -1)) for r in rows for c in columns]
    largest = torch.stack(cells, -1).unflatten(-1, tuple(size))
    return largest, torch.zeros_like(largest, dtype=torch.int64)


def _cells(length, n_cells):
    return [
        slice(i * length // n_cells, -(-(i + 1) * length // n_cells))
        for i in range(n_cells)
    ]


# Operations that torch 2.15 cannot translate to opset 18, and what replaces them.
_WITHOUT_TRANSLATION = {torch.ops.aten.adaptive_max_pool2d.default: _max_pool}


def _try(path, module, example):
    """Check that a file computes what the module computes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    given = zip(module.input_names, example, strict=True)
    (found,) = session.run(None, {name: part.numpy() for name, part in given})
    with torch.no_grad():
        expected = module(*example).numpy()
    error = abs(found - expected).max() / max(1, abs(expected).max())
    if not error <= _TOLERANCE:  # also if it is NaN
        raise RuntimeError(
            f"ONNX must compute what PyTorch computes, up to {_TOLERANCE:g}. Got a "
            f"difference of {error:.2g} for {len(expected)} sample(s) with onnxruntime "
            f"{onnxruntime.__version__}; nothing was written. Another version of it, "
            "of onnxscript or of torch may help."
        )
