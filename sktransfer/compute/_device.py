"""Device, precision and batch size, from what the user asked for."""

import torch

__all__ = ["resolve_batch_size", "resolve_device"]

# glibc gives tensors above this size back to the system after every use.
_CPU_TENSOR_BYTES = 32 * 2**20
_CPU_BATCHES = (4, 16)
_GPU_BATCH = 128


def resolve_device(device):
    """Choose a device.

    Parameters
    ----------
    device : "auto", str or torch.device
        "auto" is CUDA if there is one, then Apple's MPS, then the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If there is no such device, or not on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"`device` must be 'auto' or a device of this machine, such as 'cpu'. Got "
            f"{device!r}: {str(error).splitlines()[0]}"
        ) from error
    return found


def resolve_batch_size(batch_size, device, sample_bytes):
    """Choose how many samples go through a network at a time.

    Parameters
    ----------
    batch_size : "auto" or int
    device : torch.device
    sample_bytes : int
        Bytes of the largest activation of one sample.

    Returns
    -------
    int
        With "auto" on a CPU, as many as keep the largest activation below 32 MB,
        from 4 to 16, since each is computed by one thread; 128 elsewhere.
    """
    if batch_size != "auto":
        return int(batch_size)
    if device.type != "cpu":
        return _GPU_BATCH
    low, high = _CPU_BATCHES
    return max(low, min(high, _CPU_TENSOR_BYTES // max(1, sample_bytes)))
