"""Types of parameters that many public functions share."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils.data import Dataset

# Arrays, tables, lists of paths, of PIL images or of encoded bytes, and datasets.
Samples = ArrayLike | Sequence[Any] | Dataset[Any]
Weights = str | os.PathLike[str] | Mapping[str, torch.Tensor] | None
ImageSize = int | Sequence[int]
ValueRange = str | Sequence[float]
Device = str | torch.device
Memory = str | os.PathLike[str] | joblib.Memory
RandomState = int | np.random.RandomState
