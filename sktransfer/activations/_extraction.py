"""One pass of samples through frozen sections."""

import torch
from tqdm.auto import tqdm

from sktransfer.inputs import iter_batches

__all__ = ["compute_activations"]


def compute_activations(
    sections, taps, samples, preprocessing, *, device, batch_size, verbose=0
):
    """Run samples through consecutive sections and tap the activation after each.

    Parameters
    ----------
    sections : list of Section
        Each starts where the one before it stops.
    taps : list of torch.nn.Module
        What is kept of the activation after each section.
    samples : Samples
    preprocessing : ImagePreprocessing or VectorPreprocessing
    device : torch.device
    batch_size : int
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    list of torch.Tensor of shape (n_samples, ...)
        One a section; float32, on the CPU.
    """
    results, start = None, 0
    for section in sections:
        section.to(device).eval()
    batches = iter_batches(samples, preprocessing, batch_size)
    with tqdm(total=len(samples), unit="sample", disable=not verbose) as bar:
        for batch in batches:
            x = preprocessing.to_input(batch.to(device, non_blocking=True))
            with torch.inference_mode():
                parts = [part.cpu() for part in _run(sections, taps, x)]
            if results is None:
                shapes = [(len(samples), *part.shape[1:]) for part in parts]
                results = [torch.empty(shape) for shape in shapes]
            stop = start + len(batch)
            for result, part in zip(results, parts, strict=True):
                result[start:stop] = part
            bar.update(len(batch))
            start = stop
    return results


def _run(sections, taps, x):
    for section, tap in zip(sections, taps, strict=True):
        x = section(x)
        yield tap(x)
