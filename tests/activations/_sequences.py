"""A toy network for sequences of tokens, whose states are groups of two tensors."""

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from sktransfer.utils import digest

STEP = 4  # samples are padded to a multiple of this length


class Tokens:
    """Pads token ids to the next multiple of a length, with a mask."""

    kind = "vector"
    input_shape = {"ids": (STEP,), "mask": (STEP,)}
    prepared_shape, is_costly_to_read = None, True

    def prepare(self, ids):
        """Return the ids and the mask of one sample."""
        length = STEP * -(-len(ids) // STEP)
        row = {"ids": np.zeros(length, np.int64), "mask": np.zeros(length, bool)}
        row["ids"][: len(ids)], row["mask"][: len(ids)] = ids, True
        return row

    def to_input(self, batch):
        """Return model inputs, which are what `prepare` returns."""
        return batch


class Sequences:
    """Samples of token ids."""

    def __init__(self, sequences):
        self.sequences = sequences
        self.digests = None

    def __len__(self):
        return len(self.sequences)

    def take(self, indices):
        """Return some of the samples."""
        return Sequences([self.sequences[i] for i in indices])

    def digest(self, i):
        """Return the hash of a sample."""
        return digest(repr(self.sequences[i]))


def iter_batches(samples, preprocessing, size, **_):
    """Yield positions and batches of samples of one length."""
    by_length = defaultdict(list)
    for i, ids in enumerate(samples.sequences):
        row = preprocessing.prepare(ids)
        by_length[len(row["mask"])].append((i, row))
    for alike in by_length.values():
        for first in range(0, len(alike), size):
            places, rows = zip(*alike[first : first + size], strict=True)
            yield (
                [*places],
                {n: torch.from_numpy(np.stack([r[n] for r in rows])) for n in rows[0]},
            )


class Embed(nn.Module):
    """From ids to hidden states."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 6)

    def forward(self, state):
        """Return hidden states (n, t, c) and their mask (n, t)."""
        return {"hidden": self.embedding(state["ids"]), "mask": state["mask"]}


class Mixer(nn.Module):
    """Adds a function of the average over the real positions to each of them."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, state):
        """Return hidden states (n, t, c) and their mask (n, t)."""
        z, mask = state["hidden"], state["mask"][..., None]
        average = (z * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        return {"hidden": z + self.linear(average).tanh(), "mask": state["mask"]}


class SequenceBackbone:
    """What a pass needs of a backbone with declared stages."""

    name, impurity = "toy", None
    stage_names = ("embed", "mix", "mix2")

    def __init__(self):
        torch.manual_seed(0)
        self.preprocessing = Tokens()
        self.stages = nn.ModuleList([Embed(), Mixer(), Mixer()]).eval()
        self.prepared_sections = {}
        self.order = ["input", *self.stage_names]

    def in_order(self, names):
        """Return boundaries in order of execution."""
        return sorted({*names}, key=self.order.index)

    def n_stages_before(self, boundary):
        """Return the number of stages before a boundary."""
        return self.order.index(boundary)

    def multiply_adds(self, start, stop):
        """Return a number for which it pays to store."""
        return 10**6

    def activation_shape(self, boundary):
        """Return the shapes of one sample of the shortest length."""
        return {"hidden": (STEP, 6), "mask": (STEP,)}

    def describe_prefix(self, boundary):
        """Return the description of a prefix."""
        return SimpleNamespace(is_complete=True)

    def prefix_fingerprint(self, boundary):
        """Return the fingerprint of a prefix."""
        return f"toy {boundary}"

    def owner(self, boundary):
        """Return the backbone that the weights came from."""
        return self

    def frozen_section(self, start, stop):
        """Return the stages between two boundaries."""
        first, last = map(self.order.index, (start, stop))
        return nn.Sequential(*self.stages[first:last])
