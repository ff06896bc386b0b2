"""How to compute a forward pass: device, precision, batches and their memory layout.

A batch is one tensor, or a dict of tensors by name, the first dimension of which is
that of the samples. An example of a dict are the hidden states of sequences, and the
mask that says which of them are not padding.
"""

import multiprocessing
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.compute._process import one_thread_in_forks
from sktransfer.compute._ranks import (
    ACCELERATE,
    ALONE,
    Ranks,
    device_of_rank,
    is_accelerate,
)

# glibc gives tensors above this size back to the system after every use.
_CPU_TENSOR_BYTES = 32 * 2**20
_CPU_BATCHES = (4, 16)
_GPU_BATCH = 128
_Module = TypeVar("_Module", bound=nn.Module)


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that a parameter names.

    "auto" is CUDA if there is one, then Apple's MPS, then the CPU; worker processes are
    spread over several GPUs. "accelerate" is the one that it gives this process, and
    "auto" in workers. Raises a ValueError if this machine has no such device.
    """
    if is_accelerate(device):
        return device_of_rank()
    if device in ("auto", ACCELERATE):
        if torch.cuda.is_available():
            return _own_gpu()
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        found = torch.device(device)
        if found.type == "meta":
            raise RuntimeError("it keeps no values")
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"`device` must be 'auto', 'accelerate' or a device of this machine, such "
            f"as 'cpu'. Got {device!r}: {str(error).splitlines()[0]}"
        ) from error
    return found


def _own_gpu():
    """Return the GPU of this process; workers are numbered by what started them."""
    number = getattr(multiprocessing.current_process(), "_identity", ())
    n_gpus = torch.cuda.device_count()
    if not number or n_gpus < 2:
        return torch.device("cuda")
    return torch.device("cuda", (number[-1] - 1) % n_gpus)


def has_device(device: str | torch.device) -> bool:
    """Return whether this machine has a device."""
    try:
        resolve_device(device)
    except (ImportError, ValueError):  # an ImportError without accelerate
        return False
    return True


def resolve_batch_size(
    batch_size: int | str, device: torch.device, sample_bytes: int
) -> int:
    """Choose the batch size of a forward pass.

    "auto" is 128 on a GPU. On a CPU it is as many samples as keep the largest
    activation, of `sample_bytes` bytes per sample, below 32 MiB, but from 4 to 16, as
    one thread computes a batch.
    """
    if batch_size != "auto":
        return int(batch_size)
    if device.type != "cpu":
        return _GPU_BATCH
    low, high = _CPU_BATCHES
    return max(low, min(high, _CPU_TENSOR_BYTES // max(1, sample_bytes)))


def gains_by_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices faster in bfloat16 than in float32.

    NVIDIA GPUs do since Ampere, and so do CPUs with AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, flag, bool)() for flag in flags)


def resolve_precision(precision: str, device: torch.device) -> str:
    """Choose the precision in which frozen stages are computed.

    "float32" computes the network as it is. "folded" is float32 as well, with BatchNorm
    folded into the convolutions. "bfloat16" folds them, and computes convolutions and
    linear layers in bfloat16.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if gains_by_bfloat16(device) else "folded"


@dataclass(frozen=True)
class Runtime:
    """Settings of a forward pass.

    Attributes
    ----------
    device : torch.device
    batch_size : int
    most_positions : int or None
        Most positions of sequences that are computed at a time, which makes batches of
        long ones smaller; None for no limit.
    precision : {"float32", "folded", "bfloat16"}
        See :func:`resolve_precision`.
    activation_dtype : {"auto", "float16", "float32"}
        Type that activations are rounded to at the end of every stage, see
        :func:`sktransfer.set_config`.
    verbose : int
        Above 0, a progress bar is shown.
    ranks : Ranks
        The processes that train together.
    """

    device: torch.device
    batch_size: int
    precision: str = "float32"
    activation_dtype: str = "auto"
    verbose: int = 0
    most_positions: int | None = None
    ranks: Ranks = ALONE

    def __post_init__(self):
        one_thread_in_forks()

    @property
    def key(self) -> str:
        """Key of all settings that can change a result, if only by rounding (str)."""
        parts = self.batch_size, self.precision, self.activation_dtype
        limit = [] if self.most_positions is None else [self.most_positions]
        return ", ".join(map(str, [*parts, *limit, *switches_of(self.device)]))

    def size_for(self, state: Any, size: int) -> int:
        """Return how many samples to compute at a time, at most `size`.

        It depends on the number of positions of a sample, that of a mask (n, t), or
        (n, w, t) in windows, among the tensors of a dict, and not on that of samples.
        """
        if self.most_positions is None or not isinstance(state, dict):
            return size
        n_positions = min(part.shape[1:].numel() for part in state.values())
        most = max(1, self.most_positions // max(1, n_positions))
        # Where vectors of a processor are full, all samples are rounded alike.
        return min(size, 2 ** (most.bit_length() - 1))


def switches_of(device: torch.device) -> list:
    """List the device and the settings of torch that decide how results are rounded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates names of its settings
        switches = [
            device.type,
            torch.get_float32_matmul_precision(),
            torch.backends.mkldnn.enabled,
        ]
        if device.type == "cuda":
            cudnn = torch.backends.cudnn
            switches += [torch.cuda.get_device_name(device), cudnn.version()]
            switches += [cudnn.enabled, cudnn.benchmark, cudnn.deterministic]
            switches += [cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]
    return switches


def synchronise(device: torch.device) -> None:
    """Wait until a device has finished its work, so that the work can be timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# Batch sizes that fit into memory, and memory layouts


def halving(
    compute: Callable[[int], Any], size: int, device: torch.device, hint: str = ""
) -> tuple[Any, int]:
    """Run `compute`, halving the batch size on out-of-memory errors.

    `compute` is called with a batch size. Returns its result and the batch size that
    fitted, from which the next call should start. Raises a MemoryError, with `hint` as
    further advice, if one sample is too large.
    """
    while True:
        try:
            return compute(size), size
        except torch.OutOfMemoryError as error:
            if size == 1:
                raise MemoryError(
                    f"The memory of {device} is too small for one sample. {hint}"
                    "Take a smaller `image_size` or backbone, or device='cpu'."
                ) from error
        size //= 2  # outside `except`, as the traceback keeps tensors alive
        if device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(
            f"The memory of {device} is too small for so many samples at a time: going "
            f"on with {size}. `batch_size` sets it.",
            stacklevel=3,
        )


def pad_rows(z: torch.Tensor, n: int) -> torch.Tensor:
    """Append rows of zeros to a batch until it has n rows.

    Batches of different sizes are computed by different routines, which round
    differently. If all batches have one size, the result of a sample does not depend on
    the other samples of its batch.
    """
    if len(z) >= n:
        return z
    return torch.cat([z, z.new_zeros(n - len(z), *z.shape[1:])])


def channels_last(z: torch.Tensor) -> torch.Tensor:
    """Lay feature maps (n, c, h, w) out in memory with the channels last.

    Convolutions bring feature maps into the layout of their kernels, and are slow until
    they have done so. A different layout also means different rounding. Tensors that do
    not have four axes are made contiguous.
    """
    maps = z.ndim == 4
    return _lay_out(z, torch.channels_last if maps else torch.contiguous_format)


def channels_first(z: torch.Tensor) -> torch.Tensor:
    """Lay activations out in memory in the order of their axes, as (n, c, h, w)."""
    return _lay_out(z, torch.contiguous_format)


def _lay_out(z, memory_format):
    """Lay out a tensor, including the strides of axes of length one.

    The strides of such an axis may have any value, but routines are chosen by them: two
    equal tensors with different strides would be rounded differently.
    """
    z = z.contiguous(memory_format=memory_format)
    strides = torch.empty(z.shape, device="meta", memory_format=memory_format).stride()
    return z if z.stride() == strides else z.as_strided(z.shape, strides)


def use_channels_last(module: _Module) -> _Module:
    """Lay the kernels of a module out with the channels last, in place.

    Feature maps follow the layout of the kernels, and this one is the fastest for
    images. No value changes.
    """
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(
                memory_format=torch.channels_last
            )
    return module


# Batches of one or several tensors


def map_state(function, state):
    """Apply a function to a tensor, or to each tensor of a dict."""
    if isinstance(state, dict):
        return {name: function(part) for name, part in state.items()}
    return function(state)


def n_samples(state):
    """Return the number of samples of a batch (int)."""
    return len(next(iter(state.values())) if isinstance(state, dict) else state)


def take_rows(state, rows):
    """Return some samples of a batch, which a slice or an index tensor selects."""
    return map_state(lambda z: z[rows], state)


def split_state(state, size):
    """Divide a batch into batches of `size` samples, the last of which may be smaller.

    Anything that has a method ``split``, such as `Activations`, may take the place of a
    tensor.
    """
    if not isinstance(state, dict):
        return state.split(size)
    parts = [part.split(size) for part in state.values()]
    return [dict(zip(state, each, strict=True)) for each in zip(*parts, strict=True)]


def join_states(states):
    """Join batches to one; zeros fill up samples that are shorter than others.

    A mask is filled up in the same way, so that it marks the added values as padding.
    """
    if isinstance(states[0], dict):
        return {name: join_states([s[name] for s in states]) for name in states[0]}
    shapes = [z.shape[1:] for z in states]
    if len({*shapes}) > 1:
        longest = [max(lengths) for lengths in zip(*shapes, strict=True)]
        states = [_padded(z, longest) for z in states]
    return torch.cat(states)


def _padded(z, shape):
    missing = [n - own for n, own in zip(shape, z.shape[1:], strict=True)]
    return F.pad(z, [n for own in reversed(missing) for n in (0, own)])
