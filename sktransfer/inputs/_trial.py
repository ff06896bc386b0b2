"""Trial of a preprocessing on made-up samples, as that of a network on model inputs.

What it makes of a sample must be a function of that sample, and a hash of it detects
differences that the code does not show, such as those of a file that it reads.
"""

import copy
import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from sktransfer.compute import (
    DRAW_TRIES,
    default_torch_state,
    fixed_threads,
    is_near,
    seeded_call,
    watched_call,
)
from sktransfer.inputs._modality import MODALITIES
from sktransfer.inputs._stacking import stacked
from sktransfer.utils import describe

_N_SAMPLES = 5
_ALONE = slice(3, 4)  # the sample that is also prepared alone
# Tolerances in other batches and in a second run, relative to the largest value.
_OTHER_BATCH, _SECOND_RUN = 1e-4, 1e-6


@dataclass(frozen=True)
class Findings:
    """Results of a trial.

    ``impurity`` is the reason why a model input is not a function of its sample alone,
    or None. ``digest`` is a hash of the model inputs; "" without any.
    """

    impurity: str | None
    digest: str


def copied(sample: Any) -> Any:
    """Return a copy of a sample, and itself if it cannot be copied."""
    if isinstance(sample, Image.Image):
        return sample.copy()  # in a tenth of the time
    try:
        return copy.deepcopy(sample)
    except Exception:  # of a custom modality, such as an open file
        return sample


@default_torch_state()
def try_out(preprocessing: Any) -> Findings:
    """Run a preprocessing on the made-up samples of its modality, in one thread.

    A modality without made-up samples leaves nothing to be found. The preprocessing is
    not changed.
    """
    modality = MODALITIES[preprocessing.kind]
    try:
        samples = modality.examples(preprocessing, _N_SAMPLES)
        if samples is None:
            return Findings(None, "")
        with fixed_threads():
            return _run(preprocessing, samples)
    except Exception as error:  # whatever the code of users raises
        lines = str(error).strip().splitlines() or [""]
        return Findings(
            f"its preprocessing cannot be tried on made-up {modality.noun} "
            f"({type(error).__name__}: {lines[0][:200]})",
            "",
        )


def _run(preprocessing, samples):
    drawn = None
    for _ in range(DRAW_TRIES):
        run = partial(model_inputs, copied(preprocessing))
        found, libraries = watched_call(run, samples)
        drawn = [k for k in libraries if drawn is None or k in drawn]
        if not drawn:
            impurity = _find_impurity(preprocessing, run, samples, found)
            return Findings(impurity, _hash(found))
    reason = f"its preprocessing draws from the generator of {' and of '.join(drawn)}"
    return Findings(reason, _hash(found))


def _find_impurity(preprocessing, run, samples, found):
    """Return why a model input is not a function of its sample alone, or None.

    `run` has run once, on a copy of the preprocessing, and returned what was found.
    """
    (used,) = run.args
    state = describe(used).digest
    again = seeded_call(run, samples)
    if not is_near(again, found, _SECOND_RUN):
        return "its preprocessing makes something else of the same sample a second time"
    if describe(used).digest != state:
        return "its preprocessing changes its attributes"
    alone = seeded_call(run, samples[_ALONE])
    fresh = partial(model_inputs, copied(preprocessing))
    if not is_near(seeded_call(fresh, samples[_ALONE]), alone, _OTHER_BATCH):
        return "what its preprocessing makes of a sample depends on those before it"
    if not is_near([x[_ALONE] for x in found], alone, _OTHER_BATCH):
        return (
            "what its preprocessing makes of a sample depends on the other samples of "
            "the batch"
        )
    return None


def model_inputs(preprocessing: Any, samples: Any) -> list[torch.Tensor]:
    """List the tensors that a preprocessing makes of samples, which stay as they are.

    Samples are a list or, where they are read in blocks, an array.
    """
    if isinstance(samples, np.ndarray):
        batch = torch.from_numpy(preprocessing.prepare(samples.copy()))
    else:
        batch = stacked([preprocessing.prepare(copied(s)) for s in samples])
    inputs = preprocessing.to_input(batch)
    return [*inputs.values()] if isinstance(inputs, dict) else [inputs]


def _hash(tensors):
    state = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous()
        state.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()[:32]
