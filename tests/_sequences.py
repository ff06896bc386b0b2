"""A modality of token ids of any length, and a small network for it.

It stands outside the package and uses what any other project could: a registered
modality, a preprocessing that pads, and a network that declares its stages.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.backbones import Backbone, BackboneProvider, StagedModule
from sktransfer.inputs import Modality, UnreadableSampleError, register_modality
from sktransfer.utils import digest

N_TOKENS = 50
WIDTH = 16


@dataclass(frozen=True)
class SequencePreprocessing:
    """Pads token ids to the next multiple of a length, with a mask."""

    step: int = 8

    kind: ClassVar[str] = "sequence"
    prepared_shape: ClassVar[None] = None
    is_image: ClassVar[bool] = False
    is_costly_to_read: ClassVar[bool] = True
    tolerates_low_precision: ClassVar[bool] = False
    shape_hint: ClassVar[str] = "It must take token ids and their mask."

    @property
    def input_shape(self):
        """Shapes of the shortest model input."""
        return {"ids": (self.step,), "mask": (self.step,)}

    def example(self, n=2):
        """Return `n` model inputs of different numbers of tokens."""
        tokens = torch.arange(self.step).expand(n, -1)
        mask = tokens < 1 + torch.arange(self.step, self.step + n)[:, None] % self.step
        return {"ids": (1 + tokens % (N_TOKENS - 1)) * mask, "mask": mask}

    def with_size(self, image_size):
        """Return itself: sequences have no image size."""
        if image_size is None:
            return self
        raise ValueError(f"`image_size` must be None for sequences. Got {image_size}.")

    def key(self):
        """Return a text of everything that affects the output."""
        return f"sequence;step={self.step}"

    def prepare(self, ids):
        """Return the padded ids of a sample, and which of them are real."""
        missing = -len(ids) % self.step
        padded = np.pad(np.asarray(ids, np.int64), (0, missing))
        return {"ids": padded, "mask": np.arange(len(padded)) < len(ids)}

    def to_input(self, batch):
        """Return model inputs, which are what `prepare` returns."""
        return batch


class Sequences:
    """Samples of token ids."""

    labels = None

    def __init__(self, X, rows=None, digests=None):
        self._X = X
        self._rows = np.arange(len(X)) if rows is None else rows
        self.digests = digests

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, i):
        ids = self._X[self._rows[i]]
        if not len(ids):
            raise UnreadableSampleError(int(self._rows[i]), None, "it has no tokens")
        return [*map(int, ids)]

    def read(self, i):
        """Return the digest and the sample."""
        ids = self[i]
        return digest(repr(ids)), ids

    def digest(self, i):
        """Return a hash of the sample."""
        return self.read(i)[0]

    def can_change(self, i):
        """Return False: samples are in memory."""
        return False

    def take(self, indices):
        """Return some of the samples."""
        indices = np.arange(len(self))[indices]
        digests = self.digests and [self.digests[i] for i in indices]
        return Sequences(self._X, self._rows[indices], digests)

    def describe(self, i):
        """Return the words for a sample in messages."""
        return f"sample {self._rows[i]}"

    def name(self, i):
        """Return None: samples have no path."""
        return


class TokenIds(list):
    """The token ids of a sample, which X of no other test holds."""


class SequenceModality(Modality):
    """Token ids, in a list or in an array of objects."""

    noun = "sequences"
    options = ()

    def looks_like(self, X):
        """Return whether the samples are token ids."""
        return isinstance(X, list | np.ndarray) and any(
            isinstance(ids, TokenIds) for ids in X
        )

    def takes_network(self, module):
        """Return whether the network begins with an embedding."""
        return isinstance(next(iter(getattr(module, "stages", {}).values()), 0), Embed)

    def default_preprocessing(self, module, n_features):
        """Return how samples are prepared for a network that does not say it."""
        return SequencePreprocessing()

    def set_tags(self, tags, options):
        """Say that X is no table."""
        tags.input_tags.two_d_array = False

    def validate(self, estimator, X, *, reset):
        """Return X as it is."""
        if not len(X):
            raise ValueError("X must have at least 1 sample. Got 0.")
        return X

    def validate_with_y(self, estimator, X, y):
        """Return X and y as they are."""
        return self.validate(estimator, X, reset=True), y

    def read(self, X, preprocessing, *, on_error="raise"):
        """Return X as samples."""
        return X if isinstance(X, Sequences) else Sequences(X)

    def augmentation(self, augment, preprocessing):
        """Raise: there are no random views of sequences."""
        raise ValueError(f"`augment` must be None for sequences. Got {augment!r}.")

    def raw_input(self, preprocessing):
        """Return what exported models begin with."""
        return PaddedIds()


class PaddedIds(nn.Module):
    """Token ids of shape (n, t), where 0 stands for padding."""

    names = ("ids",)

    def forward(self, ids):
        """Return model inputs."""
        return {"ids": ids, "mask": ids != 0}

    def example(self, n, image_size=None):
        """Return random ids."""
        return torch.arange(1, 1 + 8 * n).reshape(n, 8) % N_TOKENS


register_modality("sequence", SequenceModality())


class Embed(nn.Module):
    """From token ids to hidden states."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(N_TOKENS, WIDTH)

    def forward(self, tokens):
        """Return hidden states (n, t, c) and their mask (n, t)."""
        return {"hidden": self.table(tokens["ids"]), "mask": tokens["mask"]}


class Block(nn.Module):
    """Attention among the real positions, and a layer for each of them."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.mlp = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH))

    def forward(self, state):
        """Return hidden states (n, t, c) and their mask (n, t)."""
        z, mask = state["hidden"], state["mask"]
        q, k, v = self.qkv(self.norm(z)).chunk(3, -1)
        attended = F.scaled_dot_product_attention(q, k, v, mask[:, None, :])
        z = z + self.dropout(attended)
        return {"hidden": z + self.mlp(z).tanh(), "mask": mask}


class SequenceNetwork(StagedModule):
    """An embedding and three blocks with seeded weights, the same each time."""

    def __init__(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            names = ["block0", "block1", "block2"]
            super().__init__({"embed": Embed(), **{name: Block() for name in names}})


class SequenceProvider(BackboneProvider):
    """The small network, under the name "tiny"."""

    def names(self):
        """Return the names of the backbones."""
        return ["tiny"]

    def kind(self, name):
        """Return the modality of the samples."""
        return "sequence"

    def load(self, name, *, weights, image_size, make):
        """Make a backbone, which has the same weights each time."""
        network = SequenceNetwork()
        return Backbone(network, preprocessing=SequencePreprocessing(), name=name)


def make_sequences(n, seed=0):
    """Return lists of 1 to 30 token ids, and labels that say which ids are frequent."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    X = []
    for label in y:
        frequent = rng.integers(1 + 16 * label, 17 + 16 * label, rng.integers(1, 30))
        noise = rng.integers(1, N_TOKENS, len(frequent))
        ids = np.where(rng.random(len(noise)) < 0.4, frequent, noise)
        X.append(TokenIds(ids.tolist()))
    return X, y
